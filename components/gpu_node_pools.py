"""GPU pools as the cluster sees them, and Kueue, which hands them out. How teams share them is components/tenancy.py.

What a pool is says components/_pools.py; where its nodes come from, its `source` (components/_sources.py).
"""

import dataclasses as dc
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_kubernetes as k8s
import yaml

from components import _jobset
from components._charts import UpstreamChart, controller
from components._labels import POOL, TEAM, labels
from components._pools import GPU, SYSTEM_POOL, GpuPool, Taint, machines, node_taints, shares, written
from components._provisioning import provision
from components._sources import ClusterApi, Existing, Karpenter, NodeClass, Ref, Simulated, Source
from components.foundation import Foundation

__all__ = [
    "ClusterApi",
    "Existing",
    "GpuNodePools",
    "GpuNodePoolsArgs",
    "GpuPool",
    "Karpenter",
    "NodeClass",
    "Ref",
    "Simulated",
    "Source",
    "Taint",
]
KUEUE = "kueue.x-k8s.io/v1beta2"


@dc.dataclass(frozen=True, kw_only=True)
class GpuNodePoolsArgs:
    """The pools, each name once; their order is the order in which Kueue tries their flavors.

    requeue_minutes: how long an admitted workload may wait for its pods before it is queued again; None: for ever.
    """

    pools: tuple[GpuPool, ...]
    requeue_minutes: int | None = None

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(p.name for p in self.pools).items() if count > 1]
        if twice:
            raise ValueError(f"gpu_pools: {twice[0]!r} is the name of two pools; accepted: one pool a name")


class GpuNodePools(pulumi.ComponentResource):
    """Device configuration of each pool, and what makes its nodes; Kueue, with a ResourceFlavor a pool and one of CPU.

    kueue: None for a cluster without it; then there are no flavors. jobset: None for one whose Kueue knows no JobSets;
    its kinds are `jobset_crds`, a definition's name to its manifest.
    `pools` maps what the pools offer, by name, to the extended resource that it is.
    """

    pools: dict[str, str]

    def __init__(
        self,
        name: str,
        args: GpuNodePoolsArgs,
        *,
        foundation: Foundation,
        kueue: UpstreamChart | None = None,
        jobset: UpstreamChart | None = None,
        jobset_crds: Mapping[str, Mapping[str, Any]] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("kiban:components:GpuNodePools", name, None, opts)
        own = pulumi.ResourceOptions(parent=self)
        tags = labels("gpu-node-pools", name)
        for config, data in device_configuration(args.pools).items():
            k8s.core.v1.ConfigMap(
                f"{name}-{config}",
                metadata={"name": config, "namespace": foundation.system_namespace, "labels": tags},
                data=data,
                opts=own,
            )
        provision(name, map(machines, args.pools), tags, parent=self)
        needed: list[pulumi.Resource] = [foundation.priorities[foundation.highest]]
        if jobset is not None:  # its kinds first: Kueue looks for them when it starts
            needed += _jobset.declare(
                f"{name}-jobset", jobset, jobset_crds or {}, foundation=foundation, tags=tags, parent=self
            )
        if kueue is not None:
            chart = controller(
                f"{name}-kueue",
                kueue,
                namespace="kueue-system",
                called_on=[9443, 8082],
                values=kueue_values(
                    version=kueue.version,
                    priority=foundation.highest,
                    jobsets=jobset is not None,
                    requeue_minutes=args.requeue_minutes,
                ),
                tags=tags,
                parent=self,
                after=needed,
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
        self.pools = {name: share.resource for name, share in shares(args.pools).items()}
        self.register_outputs({"pools": self.pools})


def kueue_values(
    *, version: str, priority: str, jobsets: bool = False, requeue_minutes: int | None = None
) -> dict[str, Any]:
    """Values of Kueue's chart (0.19): one controller that sees the namespaces of teams only, and Jobs and pods in them.

    All its webhooks for workloads have that selector, so that its being down stops nothing elsewhere. It signs its
    webhooks' certificate itself: nothing else has to be up for Jobs to be. A pod that no Job made is a workload of its
    own, in the team's default queue where it names none: a step of a workflow, and a server's pod too. A JobSet is one
    workload, where there are such.
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
        "integrations": {"frameworks": ["batch/job", "pod", *(["jobset.x-k8s.io/jobset"] if jobsets else [])]},
        # without an end to it, what cannot start keeps its quota from what could
        **({"waitForPodsReady": {"timeout": f"{requeue_minutes}m"}} if requeue_minutes else {}),
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


def flavor_labels(pool: GpuPool) -> dict[str, str]:
    """The node labels of the pool's flavor: those alone does Kueue compare with a pod's node selector."""
    return {POOL: pool.name, "nvidia.com/gpu.product": pool.accelerator}


def _flavor(pool: GpuPool) -> dict[str, Any]:
    tolerations = [{"operator": "Equal", **written(taint)} for taint in pool.taints]
    return {
        "nodeLabels": flavor_labels(pool),
        "nodeTaints": [written(taint) for taint in node_taints(pool)],
        **({"tolerations": tolerations} if tolerations else {}),
        **({"topologyName": pool.name} if pool.topology else {}),
    }


def device_configuration(pools: tuple[GpuPool, ...]) -> dict[str, dict[str, str]]:
    """ConfigMap name to data: what device software reads in its own namespace; labels of nodes select a pool's part."""
    return {
        "gpu-device-plugin": device_plugin_config(pools),
        "gpu-mig-partitions": {"config.yaml": mig_partitions(pools)},
    }


def device_plugin_config(pools: tuple[GpuPool, ...]) -> dict[str, str]:
    """One key a pool, selected by the node label nvidia.com/device-plugin.config (NVIDIA device plugin 0.20)."""
    return {pool.name: yaml.safe_dump(_device_plugin(pool)) for pool in pools}


def _device_plugin(pool: GpuPool) -> dict[str, Any]:
    config: dict[str, Any] = {"version": "v1", "flags": {"migStrategy": "mixed" if pool.cuts else "none"}}
    if pool.time_slices > 1:
        config["sharing"] = {
            "timeSlicing": {"renameByDefault": True, "resources": [{"name": GPU, "replicas": pool.time_slices}]}
        }
    return config


def mig_partitions(pools: tuple[GpuPool, ...]) -> str:
    """MIG manager's config.yaml: how the devices of each pool with MIG instances are cut (MIG manager 0.15)."""
    cut = {
        pool.name: [{"devices": "all", "mig-enabled": True, "mig-devices": pool.cuts}] for pool in pools if pool.cuts
    }
    uncut = {"all-disabled": [{"devices": "all", "mig-enabled": False}]}
    return yaml.safe_dump({"version": "v1", "mig-configs": uncut | cut})
