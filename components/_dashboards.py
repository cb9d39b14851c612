"""Dashboards of the platform as Grafana reads them; their panels are the rows of the tables below.

Made with grafana-foundation-sdk. Every query is PromQL over what components/monitoring_rules.py also uses, or records.
"""

import dataclasses as dc

from grafana_foundation_sdk.builders import dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef

_DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")


@dc.dataclass(frozen=True, kw_only=True)
class _Panel:
    """title, unit (Grafana's name of it), query, and the legend of each of its series."""

    title: str
    unit: str
    query: str
    legend: str


def _panel(title: str, unit: str, query: str, legend: str) -> _Panel:
    return _Panel(title=title, unit=unit, query=query, legend=legend)


_GATEWAY = (
    _panel(
        "Requests through the gateway",
        "reqps",
        "model:requests:rate5m",
        "{{team}}/{{model}}",
    ),
    _panel("Requests answered with an error", "percentunit", "model:errors:ratio_rate1h", "{{team}}/{{model}}"),
)
_MODELS = (
    _panel("Ready replicas", "short", "model:replicas_ready:count", "{{team}}/{{model}}"),
    _panel(
        "Predictions",
        "reqps",
        'sum by (namespace, model_name) (rate(request_predict_seconds_count{namespace=~"team-.+"}[5m]))',
        "{{namespace}}/{{model_name}}",
    ),
    _panel("Latency of the slowest predictions", "s", "model:latency:seconds_rate5m", "{{team}}/{{model}}"),
    _panel(
        "Share of features that drifted",
        "percentunit",
        "max by (team, model, version) (argo_workflows_kiban_model_drift_share)",
        "{{team}}/{{model}} {{version}}",
    ),
    _panel(
        "Distance of predictions from the reference",
        "short",
        "max by (team, model, version) (argo_workflows_kiban_model_prediction_drift)",
        "{{team}}/{{model}} {{version}}",
    ),
    _panel(
        "Accuracy against labels that arrived",
        "percentunit",
        "max by (team, model, version) (argo_workflows_kiban_model_accuracy)",
        "{{team}}/{{model}} {{version}}",
    ),
    _panel(
        "Requests in the monitor's window",
        "short",
        "max by (team, model, version) (argo_workflows_kiban_model_requests)",
        "{{team}}/{{model}} {{version}}",
    ),
)
_GPUS = (
    _panel("Utilisation", "percent", "max by (UUID, gpu) (DCGM_FI_DEV_GPU_UTIL)", "{{gpu}} {{UUID}}"),
    _panel(
        "Memory in use",
        "percentunit",
        "DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE + DCGM_FI_DEV_FB_RESERVED)",
        "{{gpu}} {{UUID}}",
    ),
    _panel("Temperature", "celsius", "max by (UUID, gpu) (DCGM_FI_DEV_GPU_TEMP)", "{{gpu}} {{UUID}}"),
    _panel("Power", "watt", "max by (UUID, gpu) (DCGM_FI_DEV_POWER_USAGE)", "{{gpu}} {{UUID}}"),
    _panel("Last XID", "short", "max by (UUID, gpu) (DCGM_FI_DEV_XID_ERRORS)", "{{gpu}} {{UUID}}"),
    _panel(
        "Rows remapped after uncorrectable errors",
        "short",
        "max by (UUID, gpu) (DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS)",
        "{{gpu}} {{UUID}}",
    ),
)
_RUNS = (
    _panel("Workflows by state", "short", "sum by (status) (argo_workflows_gauge)", "{{status}}"),
    _panel(
        "Workflows that ended within an hour",
        "short",
        "sum by (namespace, phase) (increase(argo_workflows_total_count[1h]))",
        "{{namespace}} {{phase}}",
    ),
    _panel(
        "Waiting for the controller",
        "short",
        "sum by (queue_name) (argo_workflows_queue_depth_gauge)",
        "{{queue_name}}",
    ),
    _panel(
        "Workloads that wait",
        "short",
        "sum by (cluster_queue, status) (kueue_pending_workloads)",
        "{{cluster_queue}} {{status}}",
    ),
    _panel("Quota in use", "percentunit", "queue:quota_used:ratio", "{{cluster_queue}} {{resource}}"),
    _panel(
        "Workloads admitted",
        "short",
        "sum by (cluster_queue) (increase(kueue_admitted_workloads_total[1h]))",
        "{{cluster_queue}}",
    ),
)
_PLATFORM = (
    _panel("Targets that cannot be scraped", "short", "count by (job) (up == 0) or sum by (job) (up * 0)", "{{job}}"),
    _panel(
        "Requests to the API server",
        "reqps",
        "sum by (verb, code) (rate(apiserver_request_total[5m]))",
        "{{verb}} {{code}}",
    ),
    _panel(
        "Nodes that are ready",
        "short",
        'sum(kube_node_status_condition{condition="Ready", status="true"})',
        "ready",
    ),
    _panel(
        "Age of the last success in periods",
        "short",
        "cronjob:success_age:periods",
        "{{namespace}}/{{cronjob}}",
    ),
    _panel(
        "Space left on volumes",
        "percentunit",
        "max by (namespace, persistentvolumeclaim) "
        "(kubelet_volume_stats_available_bytes / kubelet_volume_stats_capacity_bytes)",
        "{{namespace}}/{{persistentvolumeclaim}}",
    ),
    _panel(
        "Time until certificates end",
        "s",
        "max by (namespace, name) (certmanager_certificate_expiration_timestamp_seconds) - time()",
        "{{namespace}}/{{name}}",
    ),
    _panel(
        "Space left on nodes",
        "percentunit",
        'min by (node, mountpoint) (node_filesystem_avail_bytes{fstype!~"tmpfs|ramfs|overlay|squashfs"} '
        "/ node_filesystem_size_bytes)",
        "{{node}} {{mountpoint}}",
    ),
    _panel("Memory of Prometheus", "bytes", 'process_resident_memory_bytes{job="prometheus"}', "{{instance}}"),
)


def dashboards(*, gateway: bool, gpus: bool) -> dict[str, str]:
    """JSON of each dashboard by file name; `datasource` is a variable that the reader sets.

    gateway: whether Envoy counts requests. gpus: whether there are GPU pools.
    """
    return {f"{name}.json": _json(name, title, panels) for name, title, panels in _tables(gateway=gateway, gpus=gpus)}


def queries(*, gateway: bool, gpus: bool) -> dict[tuple[str, str], str]:
    """Dashboard and title of each panel to its query."""
    tables = _tables(gateway=gateway, gpus=gpus)
    return {(name, panel.title): panel.query for name, _, panels in tables for panel in panels}


def _tables(*, gateway: bool, gpus: bool) -> list[tuple[str, str, tuple[_Panel, ...]]]:
    return [
        ("models", "Kiban: models", (_GATEWAY if gateway else ()) + _MODELS),
        *([("gpus", "Kiban: GPUs", _GPUS)] if gpus else []),
        ("runs", "Kiban: runs and queues", _RUNS),
        ("platform", "Kiban: platform", _PLATFORM),
    ]


def _json(name: str, title: str, panels: tuple[_Panel, ...]) -> str:
    made = (
        dashboard.Dashboard(title)
        .uid(f"kiban-{name}")
        .tags(["kiban"])
        .time("now-6h", "now")
        .refresh("1m")
        .readonly()
        .with_variable(dashboard.DatasourceVariable("datasource").type("prometheus"))
    )
    for panel in panels:
        query = prometheus.Dataquery().ref_id("A").expr(panel.query).legend_format(panel.legend)
        chart = timeseries.Panel().title(panel.title).unit(panel.unit).datasource(_DATASOURCE).span(12).height(8)
        made = made.with_panel(chart.min(0).with_target(query))
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build())
