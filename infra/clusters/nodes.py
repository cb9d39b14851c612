"""The nodes of an environment as Kubernetes objects, for clusters that have no real ones. Pure: nothing is applied."""

import dataclasses as dc

from components._labels import MANAGED_BY, POOL
from components._pools import GPU, SYSTEM_POOL, machines, node_labels, node_taints
from components.gpu_node_pools import GpuPool, Karpenter
from infra.clusters.simulated_node import ZONES, Manifest, manifest
from stacks._schema import SystemNodes


@dc.dataclass(frozen=True, kw_only=True)
class Nodes:
    """What an environment has nodes for. A pool that grows and shrinks is simulated at its largest."""

    system: SystemNodes = dc.field(default_factory=SystemNodes)
    gpu_pools: tuple[GpuPool, ...] = ()

    @property
    def provisioned(self) -> tuple[GpuPool, ...]:
        """The pools whose nodes Karpenter makes, as pods need them."""
        return tuple(pool for pool in self.gpu_pools if isinstance(pool.source, Karpenter))


def manifests(nodes: Nodes) -> list[Manifest]:
    """A Node object a node, system nodes first. Its conditions carry no times: whoever makes it knows the time.

    None of the pools whose nodes Karpenter makes.
    """
    pools: list[tuple[GpuPool | SystemNodes, int]] = [(nodes.system, nodes.system.count)]
    pools += [(pool, pool.maximum) for pool in nodes.gpu_pools if pool not in nodes.provisioned]
    rows = [(pool, index) for pool, count in pools for index in range(count)]
    return [_node(pool, index, number) for number, (pool, index) in enumerate(rows)]


def capacity(pool: GpuPool) -> dict[str, str]:
    """The devices that a node of the pool offers, by extended resource."""
    # a kubelet that had the devices whole before MIG cut them still names them, as none
    whole = {GPU: "0"} if pool.cuts else {}
    return whole | {share.resource: str(share.units_per_node) for share in pool.shares}


def devices(pool: GpuPool) -> dict[str, str]:
    """The devices of a node once its device plugin has registered them: of whole ones none where they are cut."""
    return {resource: str(amount) for resource, amount in machines(pool).devices.items()}


def _domains(pool: GpuPool, index: int) -> dict[str, str]:
    """The labels that say in which domain of each level a node is."""
    sizes = pool.domains or (pool.maximum,) * len(pool.wider_levels)
    return {level: f"{pool.name}-{index // size}" for level, size in zip(pool.wider_levels, sizes, strict=True)}


def _node(pool: GpuPool | SystemNodes, index: int, number: int) -> Manifest:
    gpus = pool if isinstance(pool, GpuPool) else None
    pool_name = gpus.name if gpus else SYSTEM_POOL
    name = f"{pool_name}-{index}"
    levels = _domains(gpus, index) if gpus else {}
    own = {POOL: pool_name, MANAGED_BY: "kiban", "node.kubernetes.io/instance-type": f"simulated-{pool_name}"}
    return manifest(
        name,
        labels=(node_labels(gpus) if gpus else {}) | levels | own,
        taints=[dc.asdict(taint) for taint in node_taints(gpus)] if gpus else (),
        resources={"cpu": str(pool.cpu), "memory": f"{pool.memory_gib}Gi"} | (capacity(gpus) if gpus else {}),
        number=number,
        zone=levels.get("topology.kubernetes.io/zone", ZONES[index % len(ZONES)]),
        provider_id=f"kwok://{name}",
    )
