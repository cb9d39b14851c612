"""Prometheus, Alertmanager and exporters, and who is told what: or a Prometheus that the cluster has already.

What is scraped is in charts/monitoring; when an alert fires, in components/monitoring_rules.py. Receivers' addresses
are credentials: often who knows one may post to it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_kubernetes as k8s
import yaml

from components._alerting import RECEIVERS, alertmanager
from components._crds import definitions, without_descriptions
from components._labels import labels, restricted
from components._monitoring import NAMESPACE, ExistingPrometheus, MonitoringArgs, Receiver
from components._network import closed_namespace
from components._scraping import own_policies, ways, ways_in
from components.foundation import Foundation
from components.gpu_node_pools import GpuNodePools
from components.metadata_store import MetadataStore
from components.pipeline_engine import PipelineEngine
from components.tenancy import Tenancy

__all__ = ["NAMESPACE", "ExistingPrometheus", "Monitoring", "MonitoringArgs", "Receiver"]
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
_CONFIGURATION = "alertmanager-configuration"

Credentials = Mapping[str, pulumi.Input[str]]


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
        devices: pulumi.Resource | None = None,
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
        parts = (foundation, pools, tenancy, metadata, pipelines, serving, devices)
        made = [part for part in parts if part is not None]
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
            data[RECEIVERS] = {one.name: credentials[one.credential] for one in args.receivers}
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
            "alertmanager": {"configSecret": _CONFIGURATION, "secrets": [RECEIVERS] if args.receivers else []},
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
