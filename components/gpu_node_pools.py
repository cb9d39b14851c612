"""GPU pools as the cluster sees them, and Kueue, which hands them out. How teams share them is components/tenancy.py.

Nodes are not made here: where they come from is the cluster's matter (infra/clusters).
"""

import dataclasses as dc
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_kubernetes as k8s
import yaml

from components._accelerators import ACCELERATORS
from components._charts import UpstreamChart, controller
from components._labels import POOL, TEAM, labels
from components.foundation import Foundation

KUEUE = "kueue.x-k8s.io/v1beta2"
GPU = "nvidia.com/gpu"
SYSTEM_POOL = "system"
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


@dc.dataclass(frozen=True, kw_only=True)
class Taint:
    """A node taint; `effect` as in core/v1."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"

    def __post_init__(self) -> None:
        if self.effect not in _EFFECTS:
            raise ValueError(f"taint {self.key!r}: effect={self.effect!r}; accepted: {', '.join(_EFFECTS)}")


@dc.dataclass(frozen=True, kw_only=True)
class GpuPool:
    """Nodes of one accelerator, tainted and handed out together.

    accelerator: value of the node label nvidia.com/gpu.product (GPU feature discovery).
    nodes: a fixed count; or leave it out and give min_nodes and max_nodes. 0 to 5,000.
    gpus_per_node: whole devices on a node, 1 to 16.
    spot: nodes that the provider may take back.
    mig_profile: every device is cut into as many of these as it holds.
    time_slices: how many pods share a device in turn, 1 (none) to 48.
    cpu, memory_gib: what a node has besides.
    topology: node labels from the widest domain to the narrowest, for Kueue to place a workload's pods close together.
        Such a pool takes only workloads that say so (annotations kueue.x-k8s.io/podset-*-topology), and needs `nodes`:
        Kueue counts those that are there.
    Raises ValueError naming the field, the value and what is accepted.
    """

    name: str
    accelerator: str
    gpus_per_node: int
    nodes: int | None = None
    min_nodes: int | None = None
    max_nodes: int | None = None
    spot: bool = False
    mig_profile: str | None = None
    time_slices: int = 1
    cpu: int = 96
    memory_gib: int = 1024
    labels: Mapping[str, str] = dc.field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    topology: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"pool {self.name!r}: accepted: a name of lower-case letters, digits and '-', at most 40 characters"
            )
        if self.name == SYSTEM_POOL:
            raise ValueError(f"pool {self.name!r}: accepted: another name; this one is of the nodes without GPUs")
        if self.accelerator not in ACCELERATORS:
            self._refuse("accelerator", self.accelerator, ", ".join(ACCELERATORS))
        self._check_counts()
        profiles = ACCELERATORS[self.accelerator].mig
        if self.mig_profile is not None and self.mig_profile not in profiles:
            accepted = ", ".join(profiles) or f"none: {self.accelerator} has no MIG"
            self._refuse("mig_profile", self.mig_profile, accepted)
        if self.mig_profile is not None and self.time_slices > 1:
            self._refuse("time_slices", self.time_slices, "1 where mig_profile is set (share by one of the two)")
        if self.topology and self.nodes is None:
            self._refuse("topology", self.topology, "none where the pool grows from min_nodes to max_nodes")

    def _check_counts(self) -> None:
        if self.nodes is not None and (self.min_nodes is not None or self.max_nodes is not None):
            self._refuse("nodes", self.nodes, "either nodes, or min_nodes and max_nodes")
        if self.nodes is None and (self.min_nodes is None or self.max_nodes is None):
            self._refuse("nodes", self.nodes, "a count, or both min_nodes and max_nodes")
        for field in ("nodes", "min_nodes", "max_nodes"):
            value = getattr(self, field)
            if value is not None and not 0 <= value <= 5000:
                self._refuse(field, value, "0 to 5000")
        if self.maximum < self.minimum:
            self._refuse("max_nodes", self.max_nodes, f"min_nodes={self.min_nodes} or more")
        for field, low, high in (
            ("gpus_per_node", 1, 16),
            ("time_slices", 1, 48),
            ("cpu", 1, 1024),
            ("memory_gib", 1, 24576),
        ):
            if not low <= getattr(self, field) <= high:
                self._refuse(field, getattr(self, field), f"{low} to {high}")

    def _refuse(self, field: str, value: object, accepted: str) -> None:
        raise ValueError(f"pool {self.name!r}: {field}={value!r}; accepted: {accepted}")

    @property
    def minimum(self) -> int:
        """Nodes that the pool always has."""
        return self.nodes if self.nodes is not None else self.min_nodes or 0

    @property
    def maximum(self) -> int:
        """Nodes that the pool has at its largest."""
        return self.nodes if self.nodes is not None else self.max_nodes or 0

    @property
    def resource(self) -> str:
        """The extended resource that a pod asks for to get a part of this pool."""
        if self.mig_profile is not None:
            return f"nvidia.com/mig-{self.mig_profile}"
        return f"{GPU}.shared" if self.time_slices > 1 else GPU

    @property
    def units_per_node(self) -> int:
        """How much of `resource` a node has."""
        mig = ACCELERATORS[self.accelerator].mig
        instances = mig[self.mig_profile] if self.mig_profile is not None else 1
        return self.gpus_per_node * instances * self.time_slices

    @property
    def units(self) -> int:
        """How much of `resource` the pool has at its largest."""
        return self.units_per_node * self.maximum


@dc.dataclass(frozen=True, kw_only=True)
class GpuNodePoolsArgs:
    """The pools, each name once; their order is the order in which Kueue tries their flavors."""

    pools: tuple[GpuPool, ...]

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(p.name for p in self.pools).items() if count > 1]
        if twice:
            raise ValueError(f"gpu_pools: {twice[0]!r} is the name of two pools; accepted: one pool a name")


class GpuNodePools(pulumi.ComponentResource):
    """Device configuration of each pool; and Kueue, with a ResourceFlavor a pool and one of plain CPU.

    kueue: None for a cluster without it; then there are no flavors.
    `pools` maps a pool's name to the extended resource that its nodes offer.
    """

    pools: dict[str, str]

    def __init__(
        self,
        name: str,
        args: GpuNodePoolsArgs,
        *,
        foundation: Foundation,
        kueue: UpstreamChart | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("kiban:components:GpuNodePools", name, None, opts)
        own = pulumi.ResourceOptions(parent=self)
        tags = labels("gpu-node-pools", name)
        for config, data in (
            ("gpu-device-plugin", device_plugin_config(args.pools)),
            ("gpu-mig-partitions", {"config.yaml": mig_partitions(args.pools)}),
        ):
            k8s.core.v1.ConfigMap(
                f"{name}-{config}",
                metadata={"name": config, "namespace": foundation.system_namespace, "labels": tags},
                data=data,
                opts=own,
            )
        if kueue is not None:
            chart = controller(
                f"{name}-kueue",
                kueue,
                namespace="kueue-system",
                called_on=[9443, 8082],
                values=kueue_values(version=kueue.version, priority=foundation.highest),
                tags=tags,
                parent=self,
                after=[foundation.priorities[foundation.highest]],
            )
            for kind, word, specs in (
                ("Topology", "topology", topologies(args.pools)),
                ("ResourceFlavor", "flavor", flavors(args.pools)),
            ):
                for each, spec in specs.items():
                    k8s.apiextensions.CustomResource(
                        f"{name}-{word}-{each}",
                        api_version=KUEUE,
                        kind=kind,
                        metadata={"name": each, "labels": tags},
                        spec=spec,
                        opts=pulumi.ResourceOptions(parent=self, depends_on=[chart]),
                    )
        self.pools = {pool.name: pool.resource for pool in args.pools}
        self.register_outputs({"pools": self.pools})


def kueue_values(*, version: str, priority: str) -> dict[str, Any]:
    """Values of Kueue's chart (0.19): one controller that sees the namespaces of teams only, and Jobs and pods in them.

    All its webhooks for workloads have that selector, so that its being down stops nothing elsewhere. It signs its
    webhooks' certificate itself: nothing else has to be up for Jobs to be. A pod that no Job made is a workload of its
    own, in the team's default queue where it names none: a step of a workflow, and a server's pod too.
    """
    configuration = {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "health": {"healthProbeBindAddress": ":8081"},
        "metrics": {"bindAddress": ":8443", "enableClusterQueueResources": True},
        "webhook": {"port": 9443},
        "leaderElection": {"leaderElect": True, "resourceName": "c1f6bfd2.kueue.x-k8s.io"},
        # upstream's figures: left out, it is one of each at a time, and each pod waits for the others' to be let go
        "controller": {
            "groupKindConcurrency": {
                "Job.batch": 5,
                "Pod": 5,
                "Workload.kueue.x-k8s.io": 10,
                "LocalQueue.kueue.x-k8s.io": 5,
                "ClusterQueue.kueue.x-k8s.io": 5,
            }
        },
        "clientConnection": {"qps": 300, "burst": 500},
        "managedJobsNamespaceSelector": {"matchExpressions": [{"key": TEAM, "operator": "Exists"}]},
        "integrations": {"frameworks": ["batch/job", "pod"]},
    }
    return {
        "controllerManager": {
            "replicas": 1,
            "readinessProbe": {"initialDelaySeconds": 1, "periodSeconds": 2},
            "manager": {
                "priorityClassName": priority,
                # the chart in the module names a staging registry
                "image": {
                    "repository": "registry.k8s.io/kueue/kueue",
                    "tag": f"v{version}",
                    "pullPolicy": "IfNotPresent",
                },
                "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}},
            },
        },
        "managerConfig": {"controllerManagerConfigYaml": yaml.safe_dump(configuration)},
    }


def topologies(pools: tuple[GpuPool, ...]) -> dict[str, dict[str, Any]]:
    """Topology name to spec, one for each pool that has levels."""
    return {pool.name: {"levels": [{"nodeLabel": level} for level in pool.topology]} for pool in pools if pool.topology}


def flavors(pools: tuple[GpuPool, ...]) -> dict[str, dict[str, Any]]:
    """ResourceFlavor name to spec: plain CPU first, then the pools in their order.

    A workload has to tolerate what the nodes' taints ask of it (that it wants GPUs, that it bears a loss); the taints
    that are a pool's own are tolerated for it, since a quota of the pool is leave to be there.
    """
    return {SYSTEM_POOL: {"nodeLabels": {POOL: SYSTEM_POOL}}} | {pool.name: _flavor(pool) for pool in pools}


def _flavor(pool: GpuPool) -> dict[str, Any]:
    tolerations = [{"operator": "Equal", **_taint(taint)} for taint in pool.taints]
    return {
        "nodeLabels": {POOL: pool.name, "nvidia.com/gpu.product": pool.accelerator},
        "nodeTaints": [_taint(taint) for taint in node_taints(pool)],
        **({"tolerations": tolerations} if tolerations else {}),
        **({"topologyName": pool.name} if pool.topology else {}),
    }


def _taint(taint: Taint) -> dict[str, str]:
    return {field: value for field, value in dc.asdict(taint).items() if value}


def device_plugin_config(pools: tuple[GpuPool, ...]) -> dict[str, str]:
    """One key a pool, selected by the node label nvidia.com/device-plugin.config (NVIDIA device plugin 0.20)."""
    return {pool.name: yaml.safe_dump(_device_plugin(pool)) for pool in pools}


def _device_plugin(pool: GpuPool) -> dict[str, Any]:
    config: dict[str, Any] = {"version": "v1", "flags": {"migStrategy": "mixed" if pool.mig_profile else "none"}}
    if pool.time_slices > 1:
        config["sharing"] = {
            "timeSlicing": {"renameByDefault": True, "resources": [{"name": GPU, "replicas": pool.time_slices}]}
        }
    return config


def mig_partitions(pools: tuple[GpuPool, ...]) -> str:
    """MIG manager's config.yaml: how the devices of each pool with a MIG profile are cut (MIG manager 0.15)."""
    cut = {
        pool.name: [
            {
                "devices": "all",
                "mig-enabled": True,
                "mig-devices": {pool.mig_profile: ACCELERATORS[pool.accelerator].mig[pool.mig_profile]},
            }
        ]
        for pool in pools
        if pool.mig_profile is not None
    }
    uncut = {"all-disabled": [{"devices": "all", "mig-enabled": False}]}
    return yaml.safe_dump({"version": "v1", "mig-configs": uncut | cut})


def node_labels(pool: GpuPool) -> dict[str, str]:
    """The labels that every node of the pool carries: GPU feature discovery's, and the pool's name."""
    accelerator = ACCELERATORS[pool.accelerator]
    own = {
        POOL: pool.name,
        "nvidia.com/gpu.product": pool.accelerator,
        "nvidia.com/gpu.family": accelerator.family,
        "nvidia.com/gpu.memory": str(accelerator.memory_mib),
        "nvidia.com/gpu.count": str(pool.gpus_per_node),
        "nvidia.com/gpu.replicas": str(pool.time_slices),
        "nvidia.com/gpu.present": "true",
        "nvidia.com/mig.capable": str(bool(accelerator.mig)).lower(),
        "nvidia.com/device-plugin.config": pool.name,
    }
    if pool.mig_profile is not None:
        own |= {"nvidia.com/mig.strategy": "mixed", "nvidia.com/mig.config": pool.name}
    return dict(pool.labels) | own | {"kiban.dev/capacity": "spot" if pool.spot else "on-demand"}


def node_taints(pool: GpuPool) -> tuple[Taint, ...]:
    """The taints of every node of the pool: only pods that want GPUs, and of spot pools those that bear a loss."""
    spot = (Taint(key="kiban.dev/spot", value="true"),) if pool.spot else ()
    return (Taint(key=GPU, value="present"), *spot, *pool.taints)
