"""What is kept of measurements, who is told of alerts, and which Prometheus there may be already."""

import dataclasses as dc
import re
from collections import Counter
from collections.abc import Mapping

from components.tenancy import Team

NAMESPACE = "kiban-monitoring"
SEVERITIES = ("critical", "warning", "info")
KIND_FIELDS = {"webhook": ("webhook_configs", "url_file"), "pagerduty": ("pagerduty_configs", "routing_key_file")}
"""A kind of receiver to Alertmanager's list of such, and to the field that names the file with its credential."""
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_HOST = re.compile(r"https?://[^\s/]+")


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
        if self.kind not in KIND_FIELDS:
            raise ValueError(f"receiver {self.name!r}: kind={self.kind!r}; accepted: {', '.join(KIND_FIELDS)}")
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
    devices (the namespace of their software; None: the cluster's own), retraining (by alerts that ask for it).
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
    devices: str | None = None
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
