"""The machines that Karpenter can make in an embedded cluster, as its kwok provider reads them. Pure.

How Karpenter runs there is infra/clusters/embedded/karpenter.py's matter.
"""

from collections.abc import Iterable
from typing import Any

from components._labels import SIMULATED
from components._pools import GPU
from components.gpu_node_pools import GpuPool, Karpenter
from infra.clusters.simulated_node import PLATFORM, PODS, REGION, ZONES

InstanceType = dict[str, Any]
_MILLICPU, _MIB = 100, 10  # what the provider takes off each machine for its kubelet, whatever its type


def instance_types(pools: Iterable[GpuPool]) -> list[InstanceType]:
    """The instance types that Karpenter pools name, for INSTANCE_TYPES_FILE_PATH (Karpenter 1.14, kwok/cloudprovider).

    A machine has what the largest of the pools that name its type says, devices whole, as a cloud lists them: slices
    are a NodeOverlay's to add. It is offered in each of these pools' zones, spot or on demand as they want it. Labels
    of an offer are labels of its nodes.
    """
    named: dict[str, list[tuple[GpuPool, Karpenter]]] = {}
    for pool in pools:
        if isinstance(pool.source, Karpenter):
            for name in pool.source.instance_types:
                named.setdefault(name, []).append((pool, pool.source))
    return [_instance_type(name, wanted) for name, wanted in named.items()]


def _instance_type(name: str, wanted: list[tuple[GpuPool, Karpenter]]) -> InstanceType:
    pools = [pool for pool, _ in wanted]
    offers = {
        ("spot" if pool.spot else "on-demand", zone): None for pool, source in wanted for zone in source.zones or ZONES
    }
    return {
        "name": name,
        "architecture": PLATFORM["arch"],
        "operatingSystems": [PLATFORM["os"]],
        "resources": {
            "cpu": f"{max(pool.cpu for pool in pools) * 1000 + _MILLICPU}m",
            "memory": f"{max(pool.memory_gib for pool in pools) * 1024 + _MIB}Mi",
            "ephemeral-storage": "1Ti",
            "pods": str(PODS),
            GPU: str(max(pool.gpus_per_node for pool in pools)),
        },
        "offerings": [_offering(capacity, zone) for capacity, zone in offers],
    }


def _offering(capacity: str, zone: str) -> dict[str, Any]:
    labels = {
        "karpenter.sh/capacity-type": capacity,
        "topology.kubernetes.io/region": REGION,
        "topology.kubernetes.io/zone": zone,
        SIMULATED: "true",  # pods of simulated images ask for it (infra/clusters/embedded/placement.py)
    }
    return {
        "Price": 1.0,  # what costs more than what is a cloud's to say
        "Available": True,
        "Requirements": [{"key": key, "operator": "In", "values": [value]} for key, value in labels.items()],
    }
