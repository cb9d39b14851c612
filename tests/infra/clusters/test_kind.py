"""The kind configuration of an environment, before kind sees it."""

import yaml

from components.gpu_node_pools import GpuPool
from infra.clusters import kind
from infra.clusters.nodes import Nodes
from stacks._schema import SystemNodes

POOLS = Nodes(
    system=SystemNodes(count=3),
    gpu_pools=(
        GpuPool(name="big", accelerator="NVIDIA-H200", gpus_per_node=8, nodes=16, spot=True),
        GpuPool(name="none", accelerator="Tesla-T4", gpus_per_node=1, min_nodes=0, max_nodes=4),
    ),
)


def test_each_pool_has_a_few_workers() -> None:
    """A pool has as many workers as it has nodes at least, but one to two; system nodes likewise."""
    pools = [worker.labels["kiban.dev/pool"] for worker in kind.workers(POOLS)]
    assert pools == ["system", "system", "big", "big", "none"]


def test_workers_are_labelled_and_tainted() -> None:
    """The rendered file has one control plane, and workers with the pool's labels and, for kubeadm, its taints."""
    config = yaml.safe_load(kind.render("local", POOLS))
    assert config["name"] == "kiban-local"
    assert [node["role"] for node in config["nodes"]] == ["control-plane", *["worker"] * 5]
    big = config["nodes"][3]
    assert big["labels"]["nvidia.com/gpu.product"] == "NVIDIA-H200"
    patch = yaml.safe_load(big["kubeadmConfigPatches"][0])
    assert patch["kind"] == "JoinConfiguration"
    assert [taint["key"] for taint in patch["nodeRegistration"]["taints"]] == ["nvidia.com/gpu", "kiban.dev/spot"]
    assert "kubeadmConfigPatches" not in config["nodes"][1]


def test_what_looks_like_yaml_stays_a_string() -> None:
    """A label whose value reads as a number or a boolean arrives as text."""
    pool = GpuPool(name="p", accelerator="Tesla-T4", gpus_per_node=1, nodes=1, labels={"a": "1e3", "b": "yes", "c": ""})
    labels = yaml.safe_load(kind.render("x", Nodes(gpu_pools=(pool,))))["nodes"][-1]["labels"]
    assert (labels["a"], labels["b"], labels["c"]) == ("1e3", "yes", "")
