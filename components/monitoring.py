"""Prometheus, Alertmanager and exporters, and who is told what: or a Prometheus that the cluster has already.

What is scraped is in charts/monitoring; when an alert fires, in components/monitoring_rules.py. Receivers' addresses
are credentials: often who knows one may post to it.
"""

import dataclasses as dc
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_kubernetes as k8s
import yaml

from components._crds import definitions, without_descriptions
from components._labels import labels, restricted
from components._models import CANARY_CONTROLLER, CANARY_PORT
from components._network import closed_namespace, tcp
from components.foundation import Foundation
from components.gpu_node_pools import GpuNodePools
from components.metadata_store import KUBEFLOW, MetadataStore
from components.pipeline_engine import PipelineEngine
from components.tenancy import Team, Tenancy

NAMESPACE = "kiban-monitoring"
OPERATOR = "monitoring.coreos.com/v1"
ACCOUNT = "alertmanager"
"""The ServiceAccount by which alerts start retraining; its rights are the team namespaces' to give."""
KINDS = (
    "alertmanagerconfigs",
    "alertmanagers",
    "podmonitors",
    "probes",
    "prometheuses",
    "prometheusrules",
    "servicemonitors",
)
"""The operator's kinds without which it does not start; it does without the others."""
SEVERITIES = ("critical", "warning", "info")
_CONFIGURATION = "alertmanager-configuration"
_RECEIVERS = "alertmanager-receivers"
_FILES = f"/etc/alertmanager/secrets/{_RECEIVERS}"
_ARGO_TOKEN = "/var/run/secrets/kiban.dev/argo/token"  # noqa: S105 - a path
_ARGO_PORT = 2746
_CANARIES = {"matchLabels": {"app.kubernetes.io/name": CANARY_CONTROLLER}}
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_HOST = re.compile(r"https?://[^\s/]+")

Credentials = Mapping[str, pulumi.Input[str]]


@dc.dataclass(frozen=True, kw_only=True)
class Receiver:
    """Somebody who is told. The credential `alerts-NAME` is where: an address, or PagerDuty's integration key.

    kind: `webhook` (Alertmanager's JSON is posted) or `pagerduty`. severities: of the alerts that it gets.
    port: of the address, which has to be let out of the namespace.
    """

    name: str
    kind: str = "webhook"
    severities: tuple[str, ...] = ("critical",)
    port: int = 443

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name.startswith(("retrain-", "none")):
            raise ValueError(
                f"receiver {self.name!r}: accepted: lower-case letters, digits and '-', at most 40 characters, "
                "beginning with neither 'retrain-' nor 'none'"
            )
        if self.kind not in _KIND_FIELDS:
            raise ValueError(f"receiver {self.name!r}: kind={self.kind!r}; accepted: {', '.join(_KIND_FIELDS)}")
        if not self.severities or set(self.severities) - set(SEVERITIES):
            raise ValueError(
                f"receiver {self.name!r}: severities={self.severities!r}; accepted: some of {', '.join(SEVERITIES)}"
            )
        if not 1 <= self.port <= 65535:
            raise ValueError(f"receiver {self.name!r}: port={self.port!r}; accepted: 1 to 65535")

    @property
    def credential(self) -> str:
        """The name of its credential."""
        return f"alerts-{self.name}"


_KIND_FIELDS = {"webhook": ("webhook_configs", "url_file"), "pagerduty": ("pagerduty_configs", "routing_key_file")}


@dc.dataclass(frozen=True, kw_only=True)
class ExistingPrometheus:
    """A Prometheus Operator that the cluster has: with exporters of nodes and of the cluster's state, and Alertmanager.

    namespace: whence it scrapes. url: of Prometheus, as pods reach it. selects: labels by which it selects rules and
    monitors, in all namespaces.
    """

    namespace: str
    url: str
    selects: Mapping[str, str]

    def __post_init__(self) -> None:
        if not self.namespace or self.namespace == NAMESPACE:
            raise ValueError(f"existing: namespace={self.namespace!r}; accepted: another than {NAMESPACE}")
        if not _HOST.fullmatch(self.url):
            raise ValueError(f"existing: url={self.url!r}; accepted: http[s]://HOST[:PORT]")

    @property
    def port(self) -> int:
        """Where it listens."""
        scheme, _, host = self.url.partition("://")
        _, _, port = host.partition(":")
        return int(port) if port else {"http": 80, "https": 443}[scheme]


@dc.dataclass(frozen=True, kw_only=True)
class MonitoringArgs:
    """How long measurements are kept, and who is told.

    retention_days: 1 to 3650. storage_gib: of the volume that they are on; None: none, and they go with the pod.
    storage_class: None for the cluster's default.
    existing: a Prometheus to attach to, which then says itself how long it keeps what, and whom it tells.
    grafana: whether it is installed. Dashboards are ConfigMaps with the label grafana_dashboard=1 in any case.
    What there is to be watched: teams, queueing (Kueue), certificates (cert-manager), gateway (Envoy), gpus (pools),
    retraining (by alerts that ask for it).
    """

    teams: tuple[Team, ...] = ()
    retention_days: int = 15
    storage_gib: int | None = None
    storage_class: str | None = None
    existing: ExistingPrometheus | None = None
    receivers: tuple[Receiver, ...] = ()
    grafana: bool = False
    queueing: bool = True
    certificates: bool = True
    gateway: bool = False
    gpus: bool = False
    retraining: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.retention_days <= 3650:
            raise ValueError(f"monitoring: retention_days={self.retention_days!r}; accepted: 1 to 3650")
        if self.storage_gib is not None and not 1 <= self.storage_gib <= 65536:
            raise ValueError(f"monitoring: storage_gib={self.storage_gib!r}; accepted: 1 to 65536, or None for none")
        if self.storage_class is not None and (not self.storage_class or self.storage_gib is None):
            raise ValueError(
                f"monitoring: storage_class={self.storage_class!r}; accepted: a name, with storage_gib, or None for "
                "the cluster's default"
            )
        if self.existing and (self.receivers or self.storage_gib):
            raise ValueError("monitoring: existing with receivers or storage_gib; accepted: those are its own to have")
        twice = [name for name, count in Counter(one.name for one in self.receivers).items() if count > 1]
        if twice:
            raise ValueError(f"monitoring: receivers: {twice[0]!r} twice; accepted: each name once")

    @property
    def prometheus(self) -> str:
        """Where pods reach Prometheus."""
        return self.existing.url if self.existing else f"http://prometheus.{NAMESPACE}.svc:9090"

    def standing_in(self) -> "MonitoringArgs":
        """The same for a throwaway cluster: a Prometheus of its own without a volume, and nobody is told."""
        return dc.replace(self, existing=None, receivers=(), storage_gib=None, storage_class=None)

    @property
    def credentials(self) -> tuple[str, ...]:
        """The names of those that it takes. Receivers' are somebody else's; Grafana's is generated."""
        return (*(one.credential for one in self.receivers), *(("grafana-admin",) if self.grafana else ()))


class Monitoring(pulumi.ComponentResource):
    """The operator's kinds, the chart, rules, dashboards, and in each namespace that is scraped a way in.

    groups: of alert and recording rules. dashboards: file name to JSON. chart: the folder of charts/monitoring.
    crds: a definition's name to its manifest; of the operator's those in KINDS are taken.
    `namespace` is where it is, `prometheus` the address to ask.
    """

    namespace: pulumi.Output[str]
    prometheus: str

    def __init__(
        self,
        name: str,
        args: MonitoringArgs,
        *,
        foundation: Foundation,
        tenancy: Tenancy,
        pools: GpuNodePools,
        metadata: MetadataStore | None = None,
        pipelines: PipelineEngine | None = None,
        serving: pulumi.Resource | None = None,
        groups: Sequence[Mapping[str, Any]],
        dashboards: Mapping[str, str],
        credentials: Credentials,
        chart: str,
        crds: Mapping[str, Mapping[str, Any]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("kiban:components:Monitoring", name, None, opts)
        self._name, self._tags = name, labels("monitoring", name)
        paths = ways(args, argo=pipelines is not None, kserve=serving is not None)
        space = k8s.core.v1.Namespace(
            f"{name}-{NAMESPACE}",
            metadata={"name": NAMESPACE, "labels": self._tags | restricted()},
            opts=pulumi.ResourceOptions(parent=self, depends_on=[foundation.priorities[foundation.highest]]),
        )
        self.namespace = space.metadata["name"]
        self.prometheus = args.prometheus
        closed_namespace(f"{name}-{NAMESPACE}", space, self._tags, self, own_policies(args, paths))

        kinds = definitions(f"{name}-crd", {} if args.existing else own_kinds(crds), self._tags, parent=self)
        boards = [self._dashboard(file, text) for file, text in dashboards.items()]
        secrets = self._secrets(args, credentials)
        k8s.helm.v4.Chart(
            name,
            name="monitoring",
            chart=chart,
            namespace=self.namespace,
            values=chart_values(
                args,
                argo=pipelines is not None,
                kserve=serving is not None,
                dashboards=[dashboard_name(file) for file in dashboards],
                priority=foundation.highest,
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[*kinds, *boards, *secrets]),
        )
        for group in groups:
            k8s.apiextensions.CustomResource(
                f"{name}-{group['name']}",
                api_version=OPERATOR,
                kind="PrometheusRule",
                metadata=self._metadata(group["name"], args.existing.selects if args.existing else {}),
                spec={"groups": [group]},
                opts=pulumi.ResourceOptions(parent=self, depends_on=kinds),
            )
        # Their namespaces are others' to make. A team's waits for that alone: one that waited for all that the platform
        # has would make the state grow with the square of the teams.
        made = [part for part in (foundation, pools, tenancy, metadata, pipelines, serving) if part is not None]
        teams = {team.namespace: tenancy.namespaces[team.name] for team in args.teams}
        for watched, ports in paths.items():
            for policy, spec in ways_in(args, ports).items():
                k8s.networking.v1.NetworkPolicy(
                    f"{name}-{watched}-{policy}",
                    metadata={"name": policy, "namespace": teams.get(watched, watched), "labels": self._tags},
                    spec=spec,
                    opts=pulumi.ResourceOptions(parent=self, depends_on=[] if watched in teams else made),
                )
        self.register_outputs({"namespace": self.namespace, "prometheus": self.prometheus})

    def _metadata(self, name: str, more: Mapping[str, str] | None = None) -> dict[str, Any]:
        return {"name": name, "namespace": self.namespace, "labels": self._tags | dict(more or {})}

    def _dashboard(self, file: str, text: str) -> pulumi.Resource:
        return k8s.core.v1.ConfigMap(
            f"{self._name}-dashboard-{file}",
            metadata=self._metadata(dashboard_name(file), {"grafana_dashboard": "1"}),
            data={file: text},
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _secrets(self, args: MonitoringArgs, credentials: Credentials) -> list[pulumi.Resource]:
        """Declare Alertmanager's configuration, what it may tell no one, and Grafana's password."""
        data: dict[str, dict[str, pulumi.Input[str]]] = {}
        if not args.existing:
            data[_CONFIGURATION] = {"alertmanager.yaml": yaml.safe_dump(alertmanager(args), sort_keys=False)}
        if args.receivers:
            data[_RECEIVERS] = {one.name: credentials[one.credential] for one in args.receivers}
        if args.grafana:
            data["grafana"] = {"admin": credentials["grafana-admin"]}
        return [
            k8s.core.v1.Secret(
                f"{self._name}-{secret}",
                metadata=self._metadata(secret),
                string_data=values,
                opts=pulumi.ResourceOptions(parent=self),
            )
            for secret, values in data.items()
        ]


def own_kinds(crds: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Those of the operator's kinds that it needs, without the texts of `kubectl explain`: they are three quarters.

    A state that is written at every step (durable) would have them in it each time.
    """
    names = {f"{kind}.monitoring.coreos.com" for kind in KINDS}
    return {name: without_descriptions(manifest) for name, manifest in crds.items() if name in names}


def dashboard_name(file: str) -> str:
    """The ConfigMap's, of a dashboard's file."""
    return f"dashboard-{file.removesuffix('.json')}"


def chart_values(
    args: MonitoringArgs, *, argo: bool, kserve: bool, dashboards: Sequence[str], priority: str
) -> dict[str, Any]:
    """Values of charts/monitoring: what an environment decides; all else is in its values.yaml."""
    stack: dict[str, Any] = {"enabled": args.existing is None, "priorityClassName": priority}
    if args.existing is None:
        stack |= {
            "retention": f"{args.retention_days}d",
            "alertmanager": {"configSecret": _CONFIGURATION, "secrets": [_RECEIVERS] if args.receivers else []},
        }
    if args.storage_gib is not None:
        # a tenth for the write-ahead log and for blocks that are being compacted
        stack |= {
            "retentionSize": f"{args.storage_gib * 1024 * 9 // 10}MiB",
            "storage": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": f"{args.storage_gib}Gi"}},
                **({"storageClassName": args.storage_class} if args.storage_class else {}),
            },
        }
    return {
        "stack": stack,
        "selected": dict(args.existing.selects) if args.existing else {},
        "watch": {
            "kueue": args.queueing,
            "certManager": args.certificates,
            "argo": argo,
            "kserve": kserve,
            "envoy": args.gateway,
            "gpus": args.gpus,
            "teams": [team.namespace for team in args.teams],
        },
        "grafana": {
            "enabled": args.grafana,
            "priorityClassName": priority,
            "dashboards": list(dashboards),
            **({"prometheus": args.existing.url} if args.existing else {}),
        },
    }


def alertmanager(args: MonitoringArgs) -> dict[str, Any]:
    """Alertmanager's configuration: by severity to the receivers, and to a team's retraining what asks for that.

    An alert goes to all whom it concerns. It names no secret, only the files that have them.
    """
    retrained = args.teams if args.retraining else ()
    return {
        "route": {
            "receiver": "none",
            "group_by": ["alertname", "namespace", "team", "model"],
            "group_wait": "30s",
            "group_interval": "5m",
            "repeat_interval": "4h",
            "routes": [*(_retraining_route(team) for team in retrained), *(_route(one) for one in args.receivers)],
        },
        "receivers": [
            {"name": "none"},
            *(_retraining(team) for team in retrained),
            *(_receiver(one) for one in args.receivers),
        ],
        "inhibit_rules": [
            # what is critical about one thing says what is worth a warning about it
            _silences(["team", "model"], 'retrain!="true"'),
            _silences(["namespace", "persistentvolumeclaim"]),
        ],
    }


def _silences(equal: Sequence[str], *more: str) -> dict[str, Any]:
    """A critical alert silences warnings with the same labels.

    They have to be there: Alertmanager takes two alerts that both lack a label for equal in it.
    """
    there = [f'{label}=~".+"' for label in equal]
    return {
        "source_matchers": ['severity="critical"', *there],
        "target_matchers": ['severity="warning"', *there, *more],
        "equal": list(equal),
    }


def _retraining_route(team: Team) -> dict[str, Any]:
    return {
        "receiver": f"retrain-{team.name}",
        "matchers": ['retrain="true"', f'team="{team.name}"'],
        "group_by": ["team", "model"],
        "group_wait": "10s",  # for the model's other alerts; a second run would be refused anyway
        "group_interval": "1m",
        "repeat_interval": "1h",
        "continue": True,
    }


def _route(receiver: Receiver) -> dict[str, Any]:
    severities = "|".join(receiver.severities)
    return {"receiver": receiver.name, "matchers": [f'severity=~"{severities}"'], "continue": True}


def _retraining(team: Team) -> dict[str, Any]:
    """The receiver that submits the team's WorkflowTemplate `retrain` by argo-server's event endpoint (Argo 3.7)."""
    return {
        "name": f"retrain-{team.name}",
        "webhook_configs": [
            {
                "url": f"https://argo-server.{KUBEFLOW}.svc:{_ARGO_PORT}/api/v1/events/{team.namespace}/retrain",
                "send_resolved": False,
                "http_config": {
                    "authorization": {"type": "Bearer", "credentials_file": _ARGO_TOKEN},
                    # the certificate is the process's own and new at every start; who it is, the NetworkPolicies say
                    "tls_config": {"insecure_skip_verify": True},
                },
            }
        ],
    }


def _receiver(receiver: Receiver) -> dict[str, Any]:
    kind, field = _KIND_FIELDS[receiver.kind]
    return {"name": receiver.name, kind: [{"send_resolved": True, field: f"{_FILES}/{receiver.name}"}]}


@dc.dataclass(frozen=True, kw_only=True)
class Ports:
    """Ports of a namespace's pods, by who calls them; and which of its pods ask Prometheus."""

    scraped: tuple[int, ...]
    alerted: tuple[int, ...] = ()
    asking: Mapping[str, Any] | None = None


def ways(args: MonitoringArgs, *, argo: bool, kserve: bool) -> dict[str, Ports]:
    """Namespace to what is called in it, of those that Kiban closes.

    Kueue's and KServe's metrics are at 8443, cert-manager's at 9402 (their charts); Argo's controller's at 9090;
    argo-server's where it serves; Envoy Gateway's and its proxies' at 19001. What moves canaries asks Prometheus.
    """
    kserves = Ports(scraped=(8443, CANARY_PORT), asking=_CANARIES) if args.gateway else Ports(scraped=(8443,))
    found = {
        "kueue-system": Ports(scraped=(8443,)) if args.queueing else None,
        "cert-manager": Ports(scraped=(9402,)) if args.certificates else None,
        KUBEFLOW: Ports(scraped=(9090, _ARGO_PORT), alerted=(_ARGO_PORT,) if args.retraining else ()) if argo else None,
        "kserve": kserves if kserve else None,
        "envoy-gateway-system": Ports(scraped=(19001,)) if args.gateway else None,
    }
    teams = {team.namespace: Ports(scraped=(8080,)) for team in args.teams if kserve}
    return {name: ports for name, ports in found.items() if ports} | teams


_PROMETHEUS = {"app.kubernetes.io/name": "prometheus", "prometheus": "kiban"}
_ALERTMANAGER = {"app.kubernetes.io/name": "alertmanager", "alertmanager": "kiban"}
"""Labels that the operator (0.93) gives the pods of the two that the chart names `kiban`."""


def own_policies(args: MonitoringArgs, paths: Mapping[str, Ports]) -> dict[str, dict[str, Any]]:
    """NetworkPolicies of the monitoring namespace by name, besides those that close it.

    The kubelet (10250) and the API server are no pods, and the GPU exporter is in a namespace of the cluster's own.
    """
    if args.existing:
        return {"allow-grafana": _out({}, [{"ports": tcp(args.existing.port)}])} if args.grafana else {}
    asking = {"key": "app.kubernetes.io/component", "operator": "In"}
    api = [{"ports": tcp(443, 6443)}]
    scraped = [{"to": [_in(name)], "ports": tcp(*ports.scraped)} for name, ports in paths.items() if ports.scraped]
    beyond = tcp(443, 6443, 10250, *((9400,) if args.gpus else ()))
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
