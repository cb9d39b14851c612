"""Nodes from an environment's data: what each is called, labelled, tainted, and what it offers."""

from typing import Any

from components.gpu_node_pools import GpuPool, Taint
from infra.clusters.nodes import Nodes, manifests
from stacks._schema import SystemNodes

NONE = SystemNodes(count=0)


def only(pool: GpuPool) -> dict[str, Any]:
    """Return the first node of a pool."""
    return manifests(Nodes(system=NONE, gpu_pools=(pool,)))[0]


def test_system_nodes_come_first_and_are_for_everyone() -> None:
    """System nodes carry the pool's label, no taint and no GPUs."""
    nodes = manifests(Nodes(system=SystemNodes(count=2, cpu=4, memory_gib=8)))
    assert [node["metadata"]["name"] for node in nodes] == ["system-0", "system-1"]
    assert nodes[0]["metadata"]["labels"]["kiban.dev/pool"] == "system"
    assert nodes[0]["spec"]["taints"] == []
    assert nodes[0]["status"]["allocatable"] == {"cpu": "4", "memory": "8Gi", "ephemeral-storage": "1Ti", "pods": "110"}


def test_a_pool_that_grows_is_simulated_at_its_largest() -> None:
    """A pool of 1 to 4 nodes has 4, spread over three zones, each with its own name and address."""
    pool = GpuPool(name="l4", accelerator="NVIDIA-L4", gpus_per_node=4, min_nodes=1, max_nodes=4)
    nodes = manifests(Nodes(system=SystemNodes(count=1), gpu_pools=(pool,)))[1:]
    assert [node["metadata"]["name"] for node in nodes] == ["l4-0", "l4-1", "l4-2", "l4-3"]
    zones = [node["metadata"]["labels"]["topology.kubernetes.io/zone"] for node in nodes]
    assert zones == ["simulated-a", "simulated-b", "simulated-c", "simulated-a"]
    addresses = {address["address"] for node in nodes for address in node["status"]["addresses"]}
    assert len(addresses) == 8


def test_nodes_are_in_the_domains_of_their_pools_levels() -> None:
    """Sixteen nodes in blocks of eight and racks of four: two blocks, four racks, each within one block."""
    levels = ("example.com/block", "example.com/rack", "kubernetes.io/hostname")
    pool = GpuPool(
        name="near",
        accelerator="NVIDIA-L4",
        gpus_per_node=8,
        nodes=16,
        topology=levels,
        domains=(8, 4),
        labels={"x": "y"},
    )
    nodes = [node["metadata"]["labels"] for node in manifests(Nodes(system=NONE, gpu_pools=(pool,)))]
    assert [labels["example.com/rack"] for labels in nodes] == [f"near-{rack}" for rack in range(4) for _ in range(4)]
    assert [labels["example.com/block"] for labels in nodes] == ["near-0"] * 8 + ["near-1"] * 8
    assert [labels["kubernetes.io/hostname"] for labels in nodes] == [f"near-{index}" for index in range(16)]


def test_a_pool_that_says_no_sizes_is_one_domain() -> None:
    """Kueue sees no node that lacks the label of a level."""
    pool = GpuPool(name="near", accelerator="NVIDIA-L4", gpus_per_node=8, nodes=3, topology=("rack",))
    nodes = manifests(Nodes(system=NONE, gpu_pools=(pool,)))
    assert [node["metadata"]["labels"]["rack"] for node in nodes] == ["near-0"] * 3


def test_whole_gpus_are_offered_under_their_own_name() -> None:
    """A plain pool offers nvidia.com/gpu and is found by the accelerator's label."""
    node = only(GpuPool(name="a100", accelerator="NVIDIA-A100-SXM4-80GB", gpus_per_node=8, nodes=1))
    assert node["status"]["capacity"]["nvidia.com/gpu"] == "8"
    assert node["metadata"]["labels"]["nvidia.com/gpu.product"] == "NVIDIA-A100-SXM4-80GB"
    assert {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"} in node["spec"]["taints"]


def test_mig_slices_are_offered_and_whole_gpus_are_none() -> None:
    """With a MIG profile every device is cut: slices by the profile's name, and 0 whole devices beside them."""
    node = only(GpuPool(name="m", accelerator="NVIDIA-A100-SXM4-40GB", gpus_per_node=8, nodes=1, mig_profile="1g.5gb"))
    offered = {name: units for name, units in node["status"]["capacity"].items() if name.startswith("nvidia.com")}
    assert offered == {"nvidia.com/gpu": "0", "nvidia.com/mig-1g.5gb": "56"}
    assert node["metadata"]["labels"]["nvidia.com/mig.strategy"] == "mixed"


def test_of_a_mix_each_profile_is_offered() -> None:
    """Every device of the node is cut alike."""
    mix = {"3g.20gb": 1, "1g.5gb": 4}
    node = only(GpuPool(name="m", accelerator="NVIDIA-A100-SXM4-40GB", gpus_per_node=8, nodes=1, mig=mix))
    offered = {name: units for name, units in node["status"]["capacity"].items() if name.startswith("nvidia.com")}
    assert offered == {"nvidia.com/gpu": "0", "nvidia.com/mig-3g.20gb": "8", "nvidia.com/mig-1g.5gb": "32"}


def test_time_slices_are_offered_as_shared() -> None:
    """With time slicing a node offers as many shared devices as pods may take turns, and no others."""
    node = only(GpuPool(name="t4", accelerator="Tesla-T4", gpus_per_node=2, nodes=1, time_slices=4))
    offered = {name: units for name, units in node["status"]["capacity"].items() if name.startswith("nvidia.com")}
    assert offered == {"nvidia.com/gpu.shared": "8"}


def test_spot_nodes_and_own_taints_are_marked() -> None:
    """A spot pool's nodes say so in a label and a taint, and keep the taints and labels of the data."""
    taint = Taint(key="team", value="x", effect="NoExecute")
    pool = GpuPool(
        name="s", accelerator="Tesla-T4", gpus_per_node=1, nodes=1, spot=True, taints=(taint,), labels={"rack": "7"}
    )
    node = only(pool)
    assert node["metadata"]["labels"]["kiban.dev/capacity"] == "spot"
    assert node["metadata"]["labels"]["rack"] == "7"
    assert [taint["key"] for taint in node["spec"]["taints"]] == ["nvidia.com/gpu", "kiban.dev/spot", "team"]
