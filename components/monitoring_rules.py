"""Alert rules, recording rules and dashboards of the platform: what they say and from which thresholds.

Pure: text of charts/monitoring/rules and numbers in, groups of a PrometheusRule out. Who scrapes is another matter, but
these rules want the namespace, pod and container that an exporter says of others to be kept (honorLabels: Argo, Kueue,
kube-state-metrics, cert-manager, the GPU exporter, kubelet).
"""

import dataclasses as dc
from pathlib import Path
from typing import Any

import jinja2
import yaml

from components._dashboards import dashboards, queries

__all__ = ["Burn", "RuleArgs", "Thresholds", "WatchedModel", "dashboards", "queries", "rules"]

RUNBOOKS = "https://github.com/kiban-dev/kiban/blob/main/docs/runbooks"
SEVERITIES = ("critical", "warning", "info")
_RULES = Path(__file__).parents[1] / "charts" / "monitoring" / "rules"

Group = dict[str, Any]


@dc.dataclass(frozen=True, kw_only=True)
class Burn:
    """One alert's pair of windows of a burn rate, as the SRE workbook has them (ch. 5, multiwindow, multi-burn-rate).

    factor: how many times faster than the objective allows, over both windows. Windows are Prometheus' durations.
    """

    long: str
    short: str
    factor: float


@dc.dataclass(frozen=True, kw_only=True)
class Thresholds:
    """From where on an alert fires. *_minutes and *_hours: how long, or over how long; *_share: 0 to 1.

    failed_runs: workflows of one namespace within an hour. run_hours: a step's longest time.
    controller_queue: workflows that Argo's controller has yet to look at.
    quota_share: of nominal quota and what may be borrowed.
    application_xids: XIDs that a program causes, not a GPU (NVIDIA, XID errors, r580). gpu_celsius: core temperature.
    idle_percent: utilisation over idle_hours of a GPU that a pod holds.
    latency_quantile: of a model's requests, held against its objective.
    monitor_hours: how long a watched version may be without a result of its monitor.
    backup_periods, job_periods: age of the last success in periods of the CronJob's schedule.
    volume_share, volume_full_share, disk_share: of space left. restarts: of a container in 15 minutes.
    renewal_hours: past the time at which cert-manager should have renewed.
    api_error_share: of requests answered 5xx. reconcile_error_share: of a controller's reconciliations.
    """

    failed_runs: int = 3
    run_hours: int = 24
    controller_queue: int = 100
    stalled_minutes: int = 60
    inadmissible_minutes: int = 60
    quota_share: float = 0.95
    quota_minutes: int = 240
    application_xids: tuple[int, ...] = (13, 31, 43, 45, 68)
    gpu_celsius: int = 85
    idle_percent: int = 5
    idle_hours: int = 2
    latency_quantile: float = 0.99
    fast: tuple[Burn, Burn] = (
        Burn(long="1h", short="5m", factor=14.4),
        Burn(long="6h", short="30m", factor=6),
    )
    slow: tuple[Burn, Burn] = (
        Burn(long="1d", short="2h", factor=3),
        Burn(long="3d", short="6h", factor=1),
    )
    monitor_hours: int = 26
    backup_periods: int = 2
    job_periods: int = 3
    volume_share: float = 0.15
    volume_full_share: float = 0.03
    disk_share: float = 0.1
    renewal_hours: int = 6
    expiry_hours: int = 72
    api_error_share: float = 0.03
    reconcile_error_share: float = 0.5
    restarts: int = 3

    def __post_init__(self) -> None:
        for field in dc.fields(self):
            value = getattr(self, field.name)
            share = field.name.endswith(("_share", "_quantile"))
            if share and not 0 < value < 1:
                raise ValueError(f"thresholds: {field.name}={value!r}; accepted: above 0, below 1")
            if isinstance(value, int) and value < 1:
                raise ValueError(f"thresholds: {field.name}={value!r}; accepted: 1 or more")

    @property
    def windows(self) -> tuple[str, ...]:
        """Every window over which a model's errors are recorded, each once."""
        pairs = [window for burn in (*self.fast, *self.slow) for window in (burn.short, burn.long)]
        return tuple(dict.fromkeys(pairs))


@dc.dataclass(frozen=True, kw_only=True)
class WatchedModel:
    """What is held against the measurements of a deployed model.

    version: the one in service, as its drift monitor's label `version` says it.
    availability: share of requests that are not answered 5xx. latency_ms: at Thresholds.latency_quantile.
    drift_share, prediction_drift: largest accepted. accuracy: least accepted. None: not watched.
    fewest_requests: in the drift monitor's window, for its numbers to mean anything.
    retrain: whether its drift and accuracy alerts start a retraining.
    """

    name: str
    team: str
    version: str
    availability: float = 0.99
    latency_ms: int = 1000
    drift_share: float | None = None
    prediction_drift: float | None = None
    accuracy: float | None = None
    fewest_requests: int = 200
    retrain: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.availability < 1:
            raise ValueError(
                f"model {self.name!r}: availability={self.availability!r}; accepted: above 0, below 1, such as 0.999"
            )
        if self.latency_ms < 1:
            raise ValueError(f"model {self.name!r}: latency_ms={self.latency_ms!r}; accepted: 1 or more (milliseconds)")
        for field in ("drift_share", "prediction_drift", "accuracy"):
            value = getattr(self, field)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"model {self.name!r}: {field}={value!r}; accepted: 0 to 1, or None")
        if self.fewest_requests < 1:
            raise ValueError(f"model {self.name!r}: fewest_requests={self.fewest_requests!r}; accepted: 1 or more")


@dc.dataclass(frozen=True, kw_only=True)
class RuleArgs:
    """What there is to be watched.

    gateway: whether requests come through Envoy, which alone counts those that fail. gpus: whether there are GPU pools.
    runbooks: where the pages of docs/runbooks are read; the alert's name and `.md` are added.
    """

    models: tuple[WatchedModel, ...] = ()
    gateway: bool = True
    gpus: bool = True
    runbooks: str = RUNBOOKS
    thresholds: Thresholds = dc.field(default_factory=Thresholds)

    def __post_init__(self) -> None:
        if not self.runbooks.startswith(("https://", "http://")) or self.runbooks.endswith("/"):
            raise ValueError(f"runbooks={self.runbooks!r}; accepted: an http(s) address without a slash at its end")


def rules(args: RuleArgs) -> list[Group]:
    """Groups of a PrometheusRule; every alert has a severity, a summary, a description and its runbook's address."""
    left_out = set() if args.gpus else {"gpus"}
    names = sorted(path.name.removesuffix(".yaml.j2") for path in _RULES.glob("*.yaml.j2"))
    return [_group(name, args) for name in names if name not in left_out]


def _group(name: str, args: RuleArgs) -> Group:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_RULES),
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - YAML, from numbers and names that are checked
    )
    text = environment.get_template(f"{name}.yaml.j2").render(args=args, t=args.thresholds)
    found = yaml.safe_load(text)
    for rule in found:
        if "alert" in rule:
            rule["annotations"]["runbook_url"] = f"{args.runbooks}/{rule['alert']}.md"
    return {"name": f"kiban-{name}", "rules": found}
