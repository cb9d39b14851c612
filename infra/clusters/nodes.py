"""The nodes of an environment as Kubernetes objects, for clusters that have no real ones. Pure: nothing is applied.

Simulated nodes run nothing: a pod that "completes" on one shows that it was admitted and scheduled, no more.
"""

import dataclasses as dc
from typing import Any

from components._labels import MANAGED_BY, POOL, SIMULATED
from components.gpu_node_pools import GPU, SYSTEM_POOL, GpuPool, node_labels, node_taints
from infra.toolchain import TOOLS
from stacks._schema import SystemNodes

Manifest = dict[str, Any]
CONDITIONS = [
    {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "simulated"},
    {"type": "MemoryPressure", "status": "False", "reason": "KubeletHasSufficientMemory", "message": "simulated"},
    {"type": "DiskPressure", "status": "False", "reason": "KubeletHasNoDiskPressure", "message": "simulated"},
    {"type": "PIDPressure", "status": "False", "reason": "KubeletHasSufficientPID", "message": "simulated"},
]
_ZONES = ("a", "b", "c")
_PLATFORM = (("os", "linux"), ("arch", "amd64"))
_PODS = 110  # the kubelet's default


@dc.dataclass(frozen=True, kw_only=True)
class Nodes:
    """What an environment has nodes for. A pool that grows and shrinks is simulated at its largest."""

    system: SystemNodes = dc.field(default_factory=SystemNodes)
    gpu_pools: tuple[GpuPool, ...] = ()


def manifests(nodes: Nodes) -> list[Manifest]:
    """A Node object a node, system nodes first. Its conditions carry no times: whoever makes it knows the time."""
    pools: list[tuple[GpuPool | SystemNodes, int]] = [(nodes.system, nodes.system.count)]
    pools += [(pool, pool.maximum) for pool in nodes.gpu_pools]
    rows = [(pool, index) for pool, count in pools for index in range(count)]
    return [_node(pool, index, number) for number, (pool, index) in enumerate(rows)]


def capacity(pool: GpuPool) -> dict[str, str]:
    """The devices that a node of the pool offers, by extended resource."""
    whole = {GPU: "0"} if pool.mig_profile is not None else {}  # MIG's mixed strategy still names whole devices
    return whole | {pool.resource: str(pool.units_per_node)}


def _node(pool: GpuPool | SystemNodes, index: int, number: int) -> Manifest:
    gpus = pool if isinstance(pool, GpuPool) else None
    pool_name = gpus.name if gpus else SYSTEM_POOL
    name = f"{pool_name}-{index}"
    own = {
        POOL: pool_name,
        SIMULATED: "true",
        MANAGED_BY: "kiban",
        "kubernetes.io/hostname": name,
        # the beta ones, too: where they are missing the controller manager adds them, by two requests a node
        **{f"{prefix}kubernetes.io/{key}": value for prefix in ("", "beta.") for key, value in _PLATFORM},
        "node.kubernetes.io/instance-type": f"simulated-{pool_name}",
        "topology.kubernetes.io/region": "simulated",
        "topology.kubernetes.io/zone": f"simulated-{_ZONES[index % len(_ZONES)]}",
    }
    resources = {
        "cpu": str(pool.cpu),
        "memory": f"{pool.memory_gib}Gi",
        "ephemeral-storage": "1Ti",
        "pods": str(_PODS),
    } | (capacity(gpus) if gpus else {})
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": (node_labels(gpus) if gpus else {}) | own,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "spec": {
            "providerID": f"kwok://{name}",
            "taints": [dc.asdict(taint) for taint in node_taints(gpus)] if gpus else [],
        },
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "conditions": CONDITIONS,
            "nodeInfo": {
                **dict.fromkeys(("machineID", "systemUUID", "bootID", "kubeProxyVersion"), ""),
                **dict.fromkeys(("osImage", "kernelVersion"), "simulated"),
                "operatingSystem": dict(_PLATFORM)["os"],
                "architecture": dict(_PLATFORM)["arch"],
                "containerRuntimeVersion": f"kwok://{TOOLS['kwok'].version}",
                "kubeletVersion": f"v{TOOLS['kube-apiserver'].version}",
            },
            # of 198.18.0.0/16, for benchmarks (RFC 2544): nothing answers there
            "addresses": [
                {"type": "InternalIP", "address": f"198.18.{number // 250}.{number % 250 + 1}"},
                {"type": "Hostname", "address": name},
            ],
        },
    }
