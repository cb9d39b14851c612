"""Real clusters for the integration tests: one that all share and only read, and ones of a test's own.

Their state and settings are theirs until the last of these tests; whatever is left of any of them is then taken down.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.gpu_node_pools import GpuPool
from infra import console, paths
from infra.clusters import Cluster, embedded
from infra.clusters.nodes import Nodes
from infra.kubectl import Kubectl
from stacks._schema import SystemNodes

POOLS = Nodes(
    system=SystemNodes(count=2),
    gpu_pools=(
        GpuPool(name="a100", accelerator="NVIDIA-A100-SXM4-80GB", gpus_per_node=8, nodes=2),
        GpuPool(name="mig", accelerator="NVIDIA-H100-80GB-HBM3", gpus_per_node=8, nodes=1, mig_profile="1g.10gb"),
    ),
)


@pytest.fixture(scope="package")
def cluster_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a KIBAN_HOME for this run, whose clusters are gone when it ends."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIBAN_HOME", str(home))
        patch.setenv("KIBAN_REAL_NODE", "0")  # what a test wants one for says so
        yield home
        for name in sorted(path.name for path in home.glob("clusters/*")):
            embedded.down(name, say=console.say)


@pytest.fixture(scope="package")
def shared_cluster(cluster_home: Path) -> Cluster:
    """Return a running cluster with the nodes of POOLS; a test leaves it as it was."""
    assert paths.home() == cluster_home
    return embedded.up("shared", POOLS, say=console.say)


@pytest.fixture(scope="package")
def kubectl(shared_cluster: Cluster) -> Kubectl:
    """Return kubectl on the shared cluster."""
    return Kubectl(shared_cluster.kubeconfig, shared_cluster.context)


@pytest.fixture
def named(cluster_home: Path) -> Iterator[Callable[[str], str]]:
    """Return a function that reserves a cluster's name for the test, to be taken down at its end."""
    assert paths.home() == cluster_home
    taken: list[str] = []

    def reserve(name: str) -> str:
        taken.append(name)
        return name

    yield reserve
    for name in taken:
        embedded.down(name, say=console.say)


def run_job(kubectl: Kubectl, name: str, **annotations: str) -> None:
    """Make a Job of one pod, with annotations of simulation.kiban.dev."""
    container = {"name": "main", "image": "example.test/train:1"}
    marks = {f"simulation.kiban.dev/{key}": value for key, value in annotations.items()}
    pod = {"metadata": {"annotations": marks}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "default"}}
    kubectl.apply([job | {"spec": {"backoffLimit": 0, "template": pod}}], field_manager="tests")
