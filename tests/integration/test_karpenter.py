"""Karpenter beside an embedded control plane, without Kueue or a real node: it starts, makes a node, and is gone."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from components._pools import machines
from components._provisioning import manifests
from components.gpu_node_pools import GpuPool, Karpenter, NodeClass
from infra.clusters import embedded
from infra.clusters.embedded import karpenter, processes
from infra.clusters.nodes import Nodes
from infra.clusters.waiting import until
from infra.kubectl import Kubectl
from stacks._schema import SystemNodes

pytestmark = pytest.mark.full

NAME = "cloud"
POOL = GpuPool(
    name="a100",
    accelerator="NVIDIA-A100-SXM4-80GB",
    gpus_per_node=8,
    min_nodes=0,
    max_nodes=2,
    mig_profile="3g.40gb",
    source=Karpenter(
        node_class=NodeClass(group="karpenter.kwok.sh", kind="KWOKNodeClass", name="default"),
        instance_types=("p4de.24xlarge",),
        idle_seconds=5,
    ),
)
NODES = Nodes(system=SystemNodes(count=1), gpu_pools=(POOL,))
SLICE = "nvidia.com/mig-3g.40gb"
NODE_POOL, OVERLAY = manifests(machines(POOL))
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "asks", "namespace": "default"},
    "spec": {
        "nodeSelector": {"kiban.dev/pool": "a100", "kiban.dev/simulated": "true"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "containers": [{"name": "main", "image": "example.test/x:1", "resources": {"limits": {SLICE: "1"}}}],
    },
}


@pytest.fixture(scope="module")
def kubectl(cluster_home: Path) -> Iterator[Kubectl]:
    """Return kubectl on a cluster with a pool of Karpenter's."""
    assert cluster_home
    cluster = embedded.up(NAME, NODES, say=print)
    yield Kubectl(cluster.kubeconfig, cluster.context)
    embedded.down(NAME, say=print)


def quiet(line: str) -> None:
    """Say nothing."""


def made() -> tuple[int | None, int | None]:
    """Return how many nodes Karpenter has made, and how many of them are Ready."""
    status = embedded.status(NAME)
    return status.provisioned, status.provisioned_ready


def test_a_pod_that_waits_makes_a_node_with_the_pools_devices(kubectl: Kubectl) -> None:
    """Slices that a NodeOverlay tells of bring a node, which has all of them, and no whole device beside them."""
    assert made() == (0, 0)
    kubectl.apply([NODE_POOL, POD], field_manager="tests")
    until(lambda: "asks" in unschedulable(kubectl), seconds=30, what="the pod to be unschedulable")
    assert made() == (0, 0)  # no instance type has slices
    kubectl.apply([OVERLAY], field_manager="tests")
    kubectl.run("wait", "--for=condition=Ready", "pod/asks", "--timeout=60s")
    (node,) = kubectl.get("nodes", selector="karpenter.sh/nodepool=a100")
    assert {name: amount for name, amount in node["status"]["allocatable"].items() if "/" in name} == {
        "nvidia.com/gpu": "0",
        SLICE: "16",
    }
    assert node["status"]["allocatable"]["cpu"] == str(POOL.cpu)
    assert node["metadata"]["labels"]["kiban.dev/simulated"] == "true"


def unschedulable(kubectl: Kubectl) -> set[str]:
    """Return the pods that the scheduler has found no node for."""
    pods = kubectl.get("pods", namespace="default")
    return {
        pod["metadata"]["name"]
        for pod in pods
        for condition in pod["status"].get("conditions", ())
        if condition.get("reason") == "Unschedulable"
    }


def test_another_up_leaves_its_nodes_and_a_killed_one_is_started_again(kubectl: Kubectl) -> None:
    """What the data has no node for is not removed; Karpenter is known by its process, as all others are."""
    until(lambda: made() == (1, 1), seconds=30, what="one node of Karpenter's")
    before = {process.name: process.pid for process in embedded.status(NAME).processes}
    embedded.up(NAME, NODES, say=quiet)
    assert {process.name: process.pid for process in embedded.status(NAME).processes} == before
    victim = psutil.Process(before[karpenter.NAME] or 0)
    victim.kill()
    victim.wait(timeout=30)
    assert not embedded.status(NAME).ready
    embedded.up(NAME, say=quiet)
    after = {process.name: process.pid for process in embedded.status(NAME).processes}
    assert [name for name in before if after[name] != before[name]] == [karpenter.NAME]
    assert made() == (1, 1)
    assert kubectl.get("pod", "asks")[0]["status"]["phase"] == "Running"


def test_an_idle_node_goes(kubectl: Kubectl) -> None:
    """With its last pod gone the node is ended, and then its claim."""
    kubectl.run("delete", "pod", "asks")
    until(lambda: made() == (0, 0), seconds=90, what="the idle node to be gone", every=1)
    until(lambda: not kubectl.get("nodeclaims"), seconds=30, what="the claim to be gone", every=1)


def test_its_role_is_enough(kubectl: Kubectl) -> None:
    """In all that it did here it was forbidden nothing."""
    assert kubectl
    log = processes.log(embedded.folder(NAME), karpenter.NAME)
    written = [path.read_text() for path in (log, log.with_suffix(".log.1"))]
    assert written
    assert [line for text in written for line in text.splitlines() if "forbidden" in line] == []


def test_it_ends_with_its_pools_and_leaves_nothing(kubectl: Kubectl, named: Callable[[str], str]) -> None:
    """A pool that is no longer its own is simulated; `down` leaves no process and no file."""
    assert kubectl
    name = named("passing")
    embedded.up(name, NODES, say=quiet)
    where = embedded.folder(name)
    assert karpenter.NAME in processes.everything(where).values()
    fixed = GpuPool(name="a100", accelerator="NVIDIA-A100-SXM4-80GB", gpus_per_node=8, nodes=1)
    embedded.up(name, Nodes(system=NODES.system, gpu_pools=(fixed,)), say=quiet)
    assert karpenter.NAME not in processes.everything(where).values()
    assert embedded.status(name).nodes == 2
    embedded.down(name, say=quiet)
    assert not processes.everything(where)
    assert not where.exists()
