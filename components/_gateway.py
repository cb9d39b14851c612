"""Envoy Gateway, and the Gateway that requests from outside come in through, by TLS.

Upstream makes the certificates between Envoy and its controller by a Job that is a hook, and hooks are left out: here
they are cert-manager's.
"""

import dataclasses as dc
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components._charts import UpstreamChart
from components._crds import definitions, without_descriptions
from components._labels import TEAM, restricted
from components._network import api_server, closed_namespace, tcp

NAMESPACE = "envoy-gateway-system"
GATEWAY = "kiban"
CLASS = "envoy"
CONTROLLER_IMAGE = "docker.io/envoyproxy/gateway:v1.9.0"
ENVOY_IMAGE = "docker.io/envoyproxy/envoy:distroless-v1.39.3"
API = "gateway.networking.k8s.io/v1"
_CERTIFICATES = "cert-manager.io/v1"
_HTTP, _HTTPS = 80, 443
_SHIFT = 10_000
"""Envoy listens on a privileged port plus so much (Envoy Gateway 1.9)."""
MODEL_PORTS = (8080, 9081)
"""Where a model's pod listens: its server, and the agent before it."""
_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")


@dc.dataclass(frozen=True, kw_only=True)
class Gateway:
    """Where requests from outside the cluster come in.

    domain: a model is MODEL.TEAM.DOMAIN. service: the type of Envoy's Service; ClusterIP where nothing gives addresses.
    issuer: a ClusterIssuer of the environment's, who signs for the domain; None for an authority that is made here,
        whose certificate is in Secret `gateway-ca`.
    """

    domain: str
    service: str = "LoadBalancer"
    issuer: str | None = None

    def __post_init__(self) -> None:
        if not _DOMAIN.fullmatch(self.domain):
            raise ValueError(f"serving: gateway.domain={self.domain!r}; accepted: a DNS name, such as ml.example.com")
        if self.service not in ("ClusterIP", "LoadBalancer", "NodePort"):
            raise ValueError(
                f"serving: gateway.service={self.service!r}; accepted: ClusterIP, LoadBalancer or NodePort"
            )

    def host(self, model: str, team: str) -> str:
        """The name by which a model is reached."""
        return f"{model}.{team}.{self.domain}"


def declare(
    name: str,
    gateway: Gateway,
    *,
    chart: UpstreamChart,
    crds: Mapping[str, Mapping[str, Any]],
    teams: Sequence[str],
    priority: str,
    tags: dict[str, str],
    parent: pulumi.Resource,
    after: Sequence[pulumi.Resource],
) -> list[pulumi.Resource]:
    """Declare all of it; who depends on the result can attach routes. after: what cert-manager and the pods need."""
    own = pulumi.ResourceOptions(parent=parent, depends_on=list(after))
    lean = {kind: without_descriptions(manifest) for kind, manifest in crds.items()}
    kinds = definitions(f"{name}-crd", lean, tags, parent=parent)
    space = k8s.core.v1.Namespace(
        f"{name}-system", metadata={"name": NAMESPACE, "labels": tags | restricted()}, opts=own
    )
    policies = closed_namespace(f"{name}-system", space, tags, parent, opened())
    within = space.metadata["name"]

    def custom(of: str, api: str, kind: str, spec: dict[str, Any], needs: Sequence[pulumi.Resource]) -> pulumi.Resource:
        return k8s.apiextensions.CustomResource(
            f"{name}-{kind.lower()}-{of}",
            api_version=api,
            kind=kind,
            metadata={"name": of, "labels": tags, **({} if kind == "GatewayClass" else {"namespace": within})},
            spec=spec,
            opts=pulumi.ResourceOptions(parent=parent, depends_on=[*after, *needs]),
        )

    issued = [custom(of, _CERTIFICATES, "Issuer", spec, []) for of, spec in issuers().items()]
    signed = [
        custom(of, _CERTIFICATES, "Certificate", spec, issued) for of, spec in certificates(gateway, teams).items()
    ]
    release = k8s.helm.v4.Chart(
        name,
        name=chart.name,
        chart=chart.location,
        version=chart.version,
        namespace=within,
        values=chart_values(priority=priority),
        opts=pulumi.ResourceOptions(parent=parent, depends_on=[*kinds, *policies, *signed, *after]),
    )
    proxy = custom(GATEWAY, "gateway.envoyproxy.io/v1alpha1", "EnvoyProxy", envoy(gateway, priority), [release])
    kind = custom(CLASS, API, "GatewayClass", gateway_class(), [proxy])
    door = custom(GATEWAY, API, "Gateway", listeners(gateway), [kind])
    redirect = custom("https-only", API, "HTTPRoute", to_https(), [door])
    return [door, redirect]


def opened() -> dict[str, dict[str, Any]]:
    """NetworkPolicies besides a closed namespace's: who comes in and what goes out."""
    called = tcp(_HTTP + _SHIFT, _HTTPS + _SHIFT)
    models = {"namespaceSelector": {"matchExpressions": [{"key": TEAM, "operator": "Exists"}]}}
    out = tcp(*MODEL_PORTS)
    (server,) = api_server().values()
    return {
        "allow-api-server": {"podSelector": {}, "policyTypes": ["Egress"], "egress": server["egress"]},
        "allow-clients": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/component": "proxy"}},
            "policyTypes": ["Ingress"],
            "ingress": [{"ports": called}],
        },
        "allow-to-models": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/component": "proxy"}},
            "policyTypes": ["Egress"],
            "egress": [{"to": [models], "ports": out}],
        },
    }


def issuers() -> dict[str, dict[str, Any]]:
    """Issuer name to spec: one that signs itself, and two authorities that it signs."""
    return {
        "self-signed": {"selfSigned": {}},
        "envoy-gateway-ca": {"ca": {"secretName": "envoy-gateway-ca"}},
        "gateway-ca": {"ca": {"secretName": "gateway-ca"}},
    }


def certificates(gateway: Gateway, teams: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Certificate name to spec; each is also its Secret's name.

    Envoy wants its controller's to bear the name `envoy-gateway`, and a client's of its own (Envoy Gateway 1.9).
    """
    names = [f"envoy-gateway{rest}" for rest in ("", f".{NAMESPACE}", f".{NAMESPACE}.svc")]
    internal = {
        "envoy-gateway": [*names, f"envoy-gateway.{NAMESPACE}.svc.cluster.local"],
        "envoy": [f"*.{NAMESPACE}"],
        "envoy-rate-limit": [f"*.{NAMESPACE}"],
    }
    outside = (
        {"name": "gateway-ca", "kind": "Issuer"}
        if gateway.issuer is None
        else {"name": gateway.issuer, "kind": "ClusterIssuer"}
    )
    hosts = [f"*.{team}.{gateway.domain}" for team in teams] or [f"*.{gateway.domain}"]
    return {
        "envoy-gateway-ca": _authority("envoy-gateway-ca"),
        "gateway-ca": _authority("gateway-ca"),
        "gateway": _certificate("gateway", hosts, outside),
        **{
            name: _certificate(name, hosts, {"name": "envoy-gateway-ca", "kind": "Issuer"})
            | {"usages": ["digital signature", "key encipherment", "server auth", "client auth"]}
            for name, hosts in internal.items()
        },
    }


def _authority(name: str) -> dict[str, Any]:
    return {
        "isCA": True,
        "commonName": name,
        "secretName": name,
        "duration": "87600h",
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Never"},
        "issuerRef": {"name": "self-signed", "kind": "Issuer"},
    }


def _certificate(name: str, hosts: Sequence[str], issuer: dict[str, str]) -> dict[str, Any]:
    return {
        "dnsNames": list(hosts),
        "secretName": name,
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
        "issuerRef": issuer,
    }


def chart_values(*, priority: str) -> dict[str, Any]:
    """Values of Envoy Gateway's chart (1.9); its kinds are declared apart."""
    return {
        "crds": {"enabled": False},
        "global": {"images": {"envoyGateway": {"image": CONTROLLER_IMAGE, "pullPolicy": "IfNotPresent"}}},
        "deployment": {"priorityClassName": priority},
        "topologyInjector": {"enabled": False},  # its certificate is the Job's, which is left out
        "config": {
            "envoyGateway": {
                "gateway": {"controllerName": gateway_class()["controllerName"]},
                "provider": {"type": "Kubernetes", "kubernetes": {"shutdownManager": {"image": CONTROLLER_IMAGE}}},
            }
        },
    }


def envoy(gateway: Gateway, priority: str) -> dict[str, Any]:
    """Spec of the EnvoyProxy: how the pods that Envoy Gateway makes are."""
    resources = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}
    return {
        "provider": {
            "type": "Kubernetes",
            "kubernetes": {
                "envoyService": {"type": gateway.service},
                "envoyDeployment": {
                    "container": {"image": ENVOY_IMAGE, "resources": resources},
                    "patch": {
                        "type": "StrategicMerge",
                        "value": {"spec": {"template": {"spec": {"priorityClassName": priority}}}},
                    },
                },
            },
        }
    }


def gateway_class() -> dict[str, Any]:
    """Spec of the GatewayClass."""
    return {
        "controllerName": "gateway.envoyproxy.io/gatewayclass-controller",
        "parametersRef": {
            "group": "gateway.envoyproxy.io",
            "kind": "EnvoyProxy",
            "name": GATEWAY,
            "namespace": NAMESPACE,
        },
    }


def listeners(gateway: Gateway) -> dict[str, Any]:
    """Spec of the Gateway: TLS for the teams' routes; without TLS only the redirect to it."""
    teams = {"matchExpressions": [{"key": TEAM, "operator": "Exists"}]}
    return {
        "gatewayClassName": CLASS,
        "listeners": [
            {
                "name": "http",
                "port": _HTTP,
                "protocol": "HTTP",
                "allowedRoutes": {"namespaces": {"from": "Same"}},
            },
            {
                "name": "https",
                "port": _HTTPS,
                "protocol": "HTTPS",
                "hostname": f"*.{gateway.domain}",
                "tls": {"mode": "Terminate", "certificateRefs": [{"name": "gateway"}]},
                "allowedRoutes": {"namespaces": {"from": "Selector", "selector": teams}},
            },
        ],
    }


def to_https() -> dict[str, Any]:
    """Spec of the HTTPRoute that sends plain HTTP to TLS."""
    redirect = {"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}
    return {"parentRefs": [{"name": GATEWAY, "sectionName": "http"}], "rules": [{"filters": [redirect]}]}
