"""NetworkPolicies that close a namespace: in and out only within it, and out to the cluster's DNS."""

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_kubernetes as k8s


def closed_namespace(
    name: str,
    namespace: "k8s.core.v1.Namespace",  # quoted: core/v1 takes half a second to load, and no verb but `up` needs it
    tags: dict[str, str],
    parent: pulumi.Resource,
    opened: Mapping[str, dict[str, Any]] | None = None,
) -> list[pulumi.Resource]:
    """Declare the policies of `policies()` in the namespace, and those that open it for something."""
    return [
        k8s.networking.v1.NetworkPolicy(
            f"{name}-{policy}",
            metadata={"name": policy, "namespace": namespace.metadata["name"], "labels": tags},
            spec=spec,
            opts=pulumi.ResourceOptions(parent=parent),
        )
        for policy, spec in {**policies(), **(opened or {})}.items()
    ]


def policies() -> dict[str, dict[str, Any]]:
    """Policy name to spec: deny by default, then what every namespace needs."""
    dns = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    ports = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    both = ["Ingress", "Egress"]
    within: list[dict[str, Any]] = [{"podSelector": {}}]
    return {
        "default-deny": {"podSelector": {}, "policyTypes": both},
        "allow-within": {
            "podSelector": {},
            "policyTypes": both,
            "ingress": [{"from": within}],
            "egress": [{"to": within}],
        },
        "allow-dns": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [dns], "ports": ports}]},
    }


def api_server(*ports: int) -> dict[str, dict[str, Any]]:
    """Policy name to spec: pods call the API server, and it calls them on these ports (webhooks, aggregated APIs).

    It is no pod, so no selector finds it, and its address is every cluster's own: the ports are open to all. Behind
    them is TLS; the calls that go out are to 443 (its Service) and 6443 (itself, where the Service is resolved first).
    """
    spec: dict[str, Any] = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": tcp(443, 6443)}]}
    if ports:  # a rule without ports would open all
        spec |= {"policyTypes": ["Ingress", "Egress"], "ingress": [{"ports": tcp(*ports)}]}
    return {"allow-api-server": spec}


def tcp(*ports: int) -> list[dict[str, Any]]:
    """Ports of a policy's rule."""
    return [{"protocol": "TCP", "port": port} for port in ports]
