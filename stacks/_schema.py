"""What an environment consists of. An environment's file holds values of these types and nothing else."""

import dataclasses as dc

from components.foundation import FoundationArgs
from components.gpu_node_pools import GpuNodePoolsArgs, GpuPool
from components.metadata_store import MetadataStoreArgs, store_at
from components.monitoring import MonitoringArgs
from components.pipeline_engine import PipelineEngineArgs
from components.serving_stack import ServingStackArgs
from components.tenancy import Queueing, Team, TenancyArgs


@dc.dataclass(frozen=True, kw_only=True)
class EmbeddedCluster:
    """A control plane with simulated nodes on this machine, by name (`kiban cluster up NAME`)."""

    name: str


@dc.dataclass(frozen=True, kw_only=True)
class KubeconfigCluster:
    """A cluster that exists: a context of the user's kubeconfig, and proof that it is the right one.

    kube_system_uid: `kubectl get namespace kube-system -o jsonpath={.metadata.uid}`.
    """

    context: str
    kube_system_uid: str


Cluster = EmbeddedCluster | KubeconfigCluster
RENAMED: dict[str, str] = {}
"""Fields of an environment's values that are called otherwise now, or are gone: `Class.field` to what to write instead.

A field that a release had is never just taken away: tests/stacks/values.txt has them all.
"""


@dc.dataclass(frozen=True, kw_only=True)
class State:
    """Where the record of what exists is kept, and how carefully.

    durable: every step is written before the next (survives a kill with nothing to adopt); else only the end is,
        and a run after a kill adopts what it finds (docs/adr/0003). For throwaway clusters.
    backend: a Pulumi backend URL; None: a folder beside the embedded cluster's own state.
    secrets_provider: as `pulumi stack init --secrets-provider`; "passphrase" for the environment's own passphrase.
    """

    durable: bool
    backend: str | None = None
    secrets_provider: str = "passphrase"


THROWAWAY = State(durable=False)


@dc.dataclass(frozen=True, kw_only=True)
class SystemNodes:
    """Nodes without GPUs, for the platform's own pods. Where the cluster is not embedded they exist already."""

    count: int = 3
    cpu: int = 16
    memory_gib: int = 64

    def __post_init__(self) -> None:
        for field, low, high in (("count", 0, 5000), ("cpu", 1, 1024), ("memory_gib", 1, 24576)):
            if not low <= getattr(self, field) <= high:
                raise ValueError(f"system_nodes: {field}={getattr(self, field)!r}; accepted: {low} to {high}")


@dc.dataclass(frozen=True, kw_only=True)
class Environment:
    """One environment of the platform.

    queueing: how Kueue shares the pools out; None: no Kueue, and no borrowing.
    certificates: whether there is cert-manager.
    metadata: databases, object store and MLflow; None: none, and then no pipelines.
    pipelines: Argo Workflows, and Kubeflow Pipelines where its data says so.
    serving: KServe, models, and a gateway where its data says so; None: none.
    monitoring: Prometheus, Alertmanager and exporters, or those that the cluster has; None: none.
    retraining: whose models in stacks/models.yaml a retraining proposes to change, the lowest rung's; None: no model
        is watched or retrained.
    """

    name: str
    cluster: Cluster
    state: State
    system_nodes: SystemNodes = dc.field(default_factory=SystemNodes)
    foundation: FoundationArgs = dc.field(default_factory=FoundationArgs)
    teams: tuple[Team, ...] = ()
    gpu_pools: tuple[GpuPool, ...] = ()
    queueing: Queueing | None = dc.field(default_factory=Queueing)
    certificates: bool = True
    metadata: MetadataStoreArgs | None = None
    pipelines: PipelineEngineArgs | None = None
    serving: ServingStackArgs | None = None
    monitoring: MonitoringArgs | None = None
    retraining: str | None = None

    def __post_init__(self) -> None:
        GpuNodePoolsArgs(pools=self.gpu_pools)
        TenancyArgs(teams=self.teams, pools=self.gpu_pools, queueing=self.queueing)
        for field in ("cpu", "memory_gib") if self.queueing else ():
            there = self.system_nodes.count * getattr(self.system_nodes, field)
            if getattr(self.queueing, field) > there:
                raise ValueError(
                    f"queueing: {field}={getattr(self.queueing, field)}; accepted: up to {there}, "
                    "what the system_nodes have together"
                )
        self._check_pipelines()
        self._check_serving()
        self._check_retraining()

    def _check_pipelines(self) -> None:
        if self.metadata:
            dc.replace(self.metadata, teams=self.teams)
        if self.pipelines and not self.metadata:
            raise ValueError("pipelines: there is no metadata; accepted: both, or metadata alone")
        if self.pipelines and self.pipelines.kubeflow:
            if self.metadata and not self.metadata.mysql:
                raise ValueError("pipelines: kubeflow needs MySQL; accepted: with metadata.mysql")
            self.pipelines.kubeflow.check(self.teams, queueing=self.queueing is not None)

    def _check_serving(self) -> None:
        if not self.serving:
            return
        if not self.metadata or not self.certificates:
            raise ValueError("serving: it needs metadata, where models are, and certificates; accepted: with both")
        prometheus = self.monitoring.prometheus if self.monitoring else None
        args = dc.replace(self.serving, teams=self.teams, pools=self.gpu_pools, prometheus=prometheus)
        args.check(store_at(dc.replace(self.metadata, teams=self.teams)))

    def _check_retraining(self) -> None:
        parts = {"pipelines": self.pipelines, "serving": self.serving, "monitoring": self.monitoring}
        missing = [name for name, part in parts.items() if part is None]
        if self.retraining and missing:
            raise ValueError(f"retraining: there is no {missing[0]}; accepted: with {', '.join(parts)}")

    def on(self, cluster: EmbeddedCluster) -> "Environment":
        """The same environment on another cluster, with a throwaway state of its own; itself on its own."""
        if cluster == self.cluster:
            return self
        metadata = self.metadata and self.metadata.standing_in()
        serving = self.serving and self.serving.standing_in()
        monitoring = self.monitoring and self.monitoring.standing_in()
        return dc.replace(
            self, cluster=cluster, state=THROWAWAY, metadata=metadata, serving=serving, monitoring=monitoring
        )

    def without_controllers(self) -> "Environment":
        """The same environment for a cluster on which no pod runs for real: nothing there could answer for them."""
        return dc.replace(
            self,
            queueing=None,
            certificates=False,
            metadata=None,
            pipelines=None,
            serving=None,
            monitoring=None,
            retraining=None,
        )
