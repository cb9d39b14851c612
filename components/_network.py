"""NetworkPolicies that close a namespace: in and out only within it, and out to the cluster's DNS."""

from typing import Any

import pulumi
import pulumi_kubernetes as k8s


def closed_namespace(
    name: str,
    namespace: "k8s.core.v1.Namespace",  # quoted: core/v1 takes half a second to load, and no verb but `up` needs it
    tags: dict[str, str],
    parent: pulumi.Resource,
) -> None:
    """Declare the policies of `policies()` in the namespace."""
    for policy, spec in policies().items():
        k8s.networking.v1.NetworkPolicy(
            f"{name}-{policy}",
            metadata={"name": policy, "namespace": namespace.metadata["name"], "labels": tags},
            spec=spec,
            opts=pulumi.ResourceOptions(parent=parent),
        )


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
