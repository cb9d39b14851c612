"""Who may reach whom for the sake of monitoring: what is scraped, who is alerted, who asks Prometheus."""

import dataclasses as dc
from collections.abc import Mapping, Sequence
from typing import Any

from components._alerting import ARGO_PORT
from components._metadata import KUBEFLOW
from components._models import CANARY_CONTROLLER, CANARY_PORT
from components._monitoring import NAMESPACE, MonitoringArgs
from components._network import tcp

_CANARIES = {"matchLabels": {"app.kubernetes.io/name": CANARY_CONTROLLER}}


@dc.dataclass(frozen=True, kw_only=True)
class Ports:
    """Ports of a namespace's pods, by who calls them; and which of its pods ask Prometheus."""

    scraped: tuple[int, ...]
    alerted: tuple[int, ...] = ()
    asking: Mapping[str, Any] | None = None


def ways(args: MonitoringArgs, *, argo: bool, kserve: bool) -> dict[str, Ports]:
    """Namespace to what is called in it, of those that Kiban closes.

    Kueue's and KServe's metrics are at 8443, cert-manager's at 9402 (their charts); Argo's controller's at 9090;
    argo-server's where it serves; Envoy Gateway's and its proxies' at 19001; DCGM exporter's at 9400; at 8080 the GPU
    operator's, which a Prometheus of the cluster's own may scrape. What moves canaries asks Prometheus.
    """
    kserves = Ports(scraped=(8443, CANARY_PORT), asking=_CANARIES) if args.gateway else Ports(scraped=(8443,))
    found = {
        "kueue-system": Ports(scraped=(8443,)) if args.queueing else None,
        "cert-manager": Ports(scraped=(9402,)) if args.certificates else None,
        KUBEFLOW: Ports(scraped=(9090, ARGO_PORT), alerted=(ARGO_PORT,) if args.retraining else ()) if argo else None,
        "kserve": kserves if kserve else None,
        "envoy-gateway-system": Ports(scraped=(19001,)) if args.gateway else None,
    }
    if args.devices is not None:
        found[args.devices] = Ports(scraped=(9400, 8080))
    teams = {team.namespace: Ports(scraped=(8080,)) for team in args.teams if kserve}
    return {name: ports for name, ports in found.items() if ports} | teams


_PROMETHEUS = {"app.kubernetes.io/name": "prometheus", "prometheus": "kiban"}
_ALERTMANAGER = {"app.kubernetes.io/name": "alertmanager", "alertmanager": "kiban"}
"""Labels that the operator (0.93) gives the pods of the two that the chart names `kiban`."""


def own_policies(args: MonitoringArgs, paths: Mapping[str, Ports]) -> dict[str, dict[str, Any]]:
    """NetworkPolicies of the monitoring namespace by name, besides those that close it.

    The kubelet (10250) and the API server are no pods. Where DCGM exporter is the cluster's own, so is its namespace.
    """
    if args.existing:
        return {"allow-grafana": _out({}, [{"ports": tcp(args.existing.port)}])} if args.grafana else {}
    asking = {"key": "app.kubernetes.io/component", "operator": "In"}
    api = [{"ports": tcp(443, 6443)}]
    scraped = [{"to": [_in(name)], "ports": tcp(*ports.scraped)} for name, ports in paths.items() if ports.scraped]
    beyond = tcp(443, 6443, 10250, *((9400,) if args.gpus and args.devices is None else ()))
    alerted = [{"to": [_in(name)], "ports": tcp(*ports.alerted)} for name, ports in paths.items() if ports.alerted]
    told = sorted({one.port for one in args.receivers})
    queried = [_in(name) | {"podSelector": ports.asking} for name, ports in paths.items() if ports.asking]
    policies = {
        "allow-api-server": {
            "podSelector": {"matchExpressions": [asking | {"values": ["prometheus-operator", "kube-state-metrics"]}]},
            "policyTypes": ["Egress"],
            "egress": api,
        },
        "allow-scraping": _out(_PROMETHEUS, [*scraped, {"ports": beyond}]),
    }
    if alerted or told:
        policies["allow-alerting"] = _out(_ALERTMANAGER, [*alerted, *([{"ports": tcp(*told)}] if told else [])])
    if queried:
        policies["allow-queries"] = {
            **_pods(_PROMETHEUS),
            "policyTypes": ["Ingress"],
            "ingress": [{"from": queried, "ports": tcp(9090)}],
        }
    return policies


def ways_in(args: MonitoringArgs, ports: Ports) -> dict[str, dict[str, Any]]:
    """NetworkPolicies of a namespace that is watched, by name: Prometheus and Alertmanager in, who asks Prometheus out.

    Of an existing Prometheus only the namespace is known.
    """
    prometheus = _in(args.existing.namespace) if args.existing else _in(NAMESPACE) | _pods(_PROMETHEUS)
    ingress = [{"from": [prometheus], "ports": tcp(*ports.scraped)}] if ports.scraped else []
    if ports.alerted:
        ingress.append({"from": [_in(NAMESPACE) | _pods(_ALERTMANAGER)], "ports": tcp(*ports.alerted)})
    policies = {"allow-monitoring": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": ingress}}
    if ports.asking:
        listens = args.existing.port if args.existing else 9090
        policies["allow-prometheus"] = {
            "podSelector": ports.asking,
            "policyTypes": ["Egress"],
            "egress": [{"to": [prometheus], "ports": tcp(listens)}],
        }
    return policies


def _out(pods: Mapping[str, str], egress: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {**_pods(pods), "policyTypes": ["Egress"], "egress": list(egress)}


def _in(namespace: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}


def _pods(tags: Mapping[str, str]) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": dict(tags)}}
