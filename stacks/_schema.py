"""What an environment consists of. An environment's file holds values of these types and nothing else."""

import dataclasses as dc
import re
from collections.abc import Mapping

from components._devices import DevicePlugin, DeviceSoftwareArgs, GpuOperator
from components._karpenter import COUNTS_FOR_NOTHING
from components._metadata import store_at
from components._models import check_sizes
from components.foundation import FoundationArgs
from components.gpu_node_pools import ClusterApi, GpuNodePoolsArgs, GpuPool, Karpenter, Simulated
from components.metadata_store import MetadataStoreArgs
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


@dc.dataclass(frozen=True, kw_only=True)
class ProvisionedCluster:
    """A cluster that `kiban provision` makes through Cluster API; from then on a context of the user's kubeconfig.

    name: of the Cluster object. context: what it is called in the kubeconfig.
    templates: the folder of stacks/clusters with its manifests. Those called *.yaml.j2 are Jinja2 templates, with the
        delimiters << >> and <% %>, and may ask for name, namespace, kubernetes and every one of `values`.
    kubernetes: its version, as v1.36.3.
    infrastructure, bootstrap, control_plane: providers as clusterctl names them, NAME or NAME:VERSION. Infrastructure
        "simulated": machines are simulated nodes of the embedded cluster that manages them, and the other two unused.
    variables: environment variables that the providers need, credentials say; looked at, never written down.
    self_managed: whether its Cluster API objects are moved into it once it is there.
    Raises ValueError naming the field, the value and what is accepted.
    """

    name: str
    context: str
    templates: str
    kubernetes: str
    infrastructure: str
    bootstrap: str = "kubeadm"
    control_plane: str = "kubeadm"
    namespace: str = "default"
    values: Mapping[str, str | int] = dc.field(default_factory=dict)
    variables: tuple[str, ...] = ()
    self_managed: bool = False

    def __post_init__(self) -> None:
        name, version = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", r"v\d+\.\d+\.\d+(-[.0-9A-Za-z]+)?"
        provider = (rf"{name}(:{version})?", "a provider as clusterctl names it, NAME or NAME:v1.2.3")
        for field, pattern, accepted in (
            ("name", name, "lower-case letters, digits and '-'"),
            ("namespace", name, "lower-case letters, digits and '-'"),
            ("context", r"\S+", "the name of a context"),
            ("templates", name, "a folder of stacks/clusters, by its name"),
            ("kubernetes", version, "a version as v1.36.3"),
            *((field, *provider) for field in ("infrastructure", "bootstrap", "control_plane")),
        ):
            if not re.fullmatch(pattern, getattr(self, field)):
                raise ValueError(f"cluster: {field}={getattr(self, field)!r}; accepted: {accepted}")
        if taken := self.values.keys() & {"name", "namespace", "kubernetes"}:
            raise ValueError(f"cluster: values={min(taken)!r}; accepted: other names; that one is the field's own")


Cluster = EmbeddedCluster | KubeconfigCluster | ProvisionedCluster
_MACHINES = "Existing(), Karpenter(...), ClusterApi(...)"
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

    devices: what makes the devices of the pools' nodes into resources; None: the cluster has it, or simulates them.
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
    devices: GpuOperator | DevicePlugin | None = None
    queueing: Queueing | None = dc.field(default_factory=Queueing)
    certificates: bool = True
    metadata: MetadataStoreArgs | None = None
    pipelines: PipelineEngineArgs | None = None
    serving: ServingStackArgs | None = None
    monitoring: MonitoringArgs | None = None
    retraining: str | None = None

    def __post_init__(self) -> None:
        GpuNodePoolsArgs(pools=self.gpu_pools)
        for field in ("cpu", "memory_gib") if self.queueing else ():
            there = self.system_nodes.count * getattr(self.system_nodes, field)
            if getattr(self.queueing, field) > there:
                raise ValueError(
                    f"queueing: {field}={getattr(self.queueing, field)}; accepted: up to {there}, "
                    "what the system_nodes have together"
                )
        tenancy = self.tenancy
        self._check_devices()
        self._check_pipelines()
        self._check_serving()
        self._check_retraining()
        self._check_sources()
        if self.queueing and self.serving:
            check_sizes(self.serving.models, {team.name: tenancy.places(team) for team in self.teams})

    @property
    def tenancy(self) -> TenancyArgs:
        """The teams, and what they share."""
        return TenancyArgs(
            teams=self.teams, pools=self.gpu_pools, queueing=self.queueing, system_nodes=self.system_nodes.count
        )

    def _check_sources(self) -> None:
        """Nodes come from where the cluster can have them, every pool is somebody's, and what runs keeps its node."""
        embedded = isinstance(self.cluster, EmbeddedCluster)
        impossible, accepted = (ClusterApi, "Simulated(), Karpenter(...)") if embedded else (Simulated, _MACHINES)
        for pool in self.gpu_pools:
            if isinstance(pool.source, impossible):
                raise ValueError(  # noqa: TRY004 - as every value of an environment
                    f"pool {pool.name!r}: source={impossible.__name__}(...) on {type(self.cluster).__name__}(...); "
                    f"accepted there: {accepted}"
                )
            for share in pool.shares:
                if share.units and not any(team.most(share.name) for team in self.teams):
                    raise ValueError(
                        f"pool {pool.name!r}: no team has any of its {share.units} {share.resource}, so nobody could use "
                        f"them; accepted: a team with gpus or borrows of {share.name!r}, or no such pool"
                    )
        made = [pool.name for pool in self.gpu_pools if isinstance(pool.source, Karpenter)]
        for name, value in self.foundation.priorities if made else ():
            if value <= COUNTS_FOR_NOTHING:
                raise ValueError(
                    f"priority {name!r}: value={value}; accepted: above {COUNTS_FOR_NOTHING}, since Karpenter makes the "
                    f"nodes of pool {made[0]!r} and would take one for empty on which only such pods run"
                )

    def _check_devices(self) -> None:
        if self.devices and isinstance(self.cluster, EmbeddedCluster):
            raise ValueError(
                f"devices: {type(self.devices).__name__}; accepted: None on an embedded cluster, whose devices are "
                "simulated"
            )
        if self.devices:
            DeviceSoftwareArgs(software=self.devices, pools=self.gpu_pools)

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
        """The same environment on another cluster, with a throwaway state of its own; itself on its own.

        Devices are simulated there, so that what makes them into resources is left out.
        """
        if cluster == self.cluster:
            return self
        metadata = self.metadata and self.metadata.standing_in()
        serving = self.serving and self.serving.standing_in()
        monitoring = self.monitoring and self.monitoring.standing_in()
        return dc.replace(
            self,
            cluster=cluster,
            state=THROWAWAY,
            devices=None,
            gpu_pools=tuple(pool.standing_in() for pool in self.gpu_pools),
            metadata=metadata,
            serving=serving,
            monitoring=monitoring,
        )

    def without_controllers(self) -> "Environment":
        """The same environment for a cluster on which no pod runs for real: nothing there could answer for them."""
        return dc.replace(
            self,
            devices=None,
            queueing=None,
            certificates=False,
            metadata=None,
            pipelines=None,
            serving=None,
            monitoring=None,
            retraining=None,
        )
