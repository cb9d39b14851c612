"""Clusters through Cluster API, whose core controllers run; machines are simulated nodes, by the simulated provider."""

import base64
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.clusters import embedded
from infra.clusters.nodes import Nodes
from infra.clusters.waiting import until
from stacks._schema import SystemNodes
from tests.checkout import Checkout
from tests.conftest import Record

pytestmark = pytest.mark.full

ENVIRONMENT = """from components.gpu_node_pools import ClusterApi, GpuPool, Ref
from components.tenancy import Team
from stacks._schema import Environment, ProvisionedCluster, State
environment = Environment(
    name="lab",
    cluster=ProvisionedCluster(
        name="lab", context="ml-lab", templates="TEMPLATES", kubernetes="KUBERNETES", infrastructure="simulated",
        values={"workers": 2, "kubeconfig": "SECRET"}, self_managed=MANAGED,
    ),
    state=State(durable=True),
    queueing=None,
    certificates=False,
    POOLS
)
"""
POOLS = """teams=(Team(name="vision", owner="vision-oncall", gpus={"t4": 2}, borrows={}),),
    gpu_pools=(
        GpuPool(
            name="t4", accelerator="Tesla-T4", min_nodes=0, max_nodes=2, gpus_per_node=1, cpu=8, memory_gib=30,
            source=ClusterApi(
                cluster="lab", namespace="default", version="v1.36.3",
                infrastructure=Ref(
                    group="infrastructure.cluster.x-k8s.io", kind="SimulatedMachineTemplate", name="t4"
                ),
                bootstrap=Ref(group="bootstrap.cluster.x-k8s.io", kind="SimulatedConfigTemplate", name="t4"),
            ),
        ),
    ),"""
MACHINES = """apiVersion: infrastructure.cluster.x-k8s.io/v1alpha1
kind: SimulatedMachineTemplate
metadata: {name: t4}
spec:
  template:
    spec:
      labels: {nvidia.com/gpu.product: Tesla-T4, nvidia.com/gpu.count: "1"}
      capacity: {cpu: "8", memory: 30Gi, nvidia.com/gpu: "1"}
---
apiVersion: bootstrap.cluster.x-k8s.io/v1alpha1
kind: SimulatedConfigTemplate
metadata: {name: t4}
spec:
  template:
    spec:
      labels:
        kiban.dev/pool: t4
        kiban.dev/capacity: on-demand
        nvidia.com/device-plugin.config: t4
        cluster-api/accelerator: t4
      taints: [{key: nvidia.com/gpu, value: present, effect: NoSchedule}]
"""
LEADING = """apiVersion: v1
kind: Secret
type: cluster.x-k8s.io/secret
metadata:
  name: << name >>-kubeconfig
  labels: {cluster.x-k8s.io/cluster-name: << name >>}
data:
  value: << kubeconfig >>
"""
DEPLOYMENT = "machinedeployment/lab-workers"


def describe(checkout: Checkout, **values: str) -> None:
    """Write the environment `lab`."""
    text = ENVIRONMENT
    defaults = {"TEMPLATES": "simulated", "KUBERNETES": "v1.36.3", "SECRET": "", "MANAGED": "False", "POOLS": ""}
    for name, value in (defaults | values).items():
        text = text.replace(name, value)
    (checkout.root / "stacks" / "lab.py").write_text(text)


def also(checkout: Checkout, folder: str, name: str, text: str) -> None:
    """Write templates: those of Kiban's own, and one more file."""
    clusters = checkout.root / "stacks" / "clusters"
    shutil.copytree(clusters / "simulated", clusters / folder)
    (clusters / folder / name).write_text(text)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the user's kubeconfig, which is not there yet."""
    return tmp_path / "mine" / "config"


@pytest.fixture
def lab(checkout: Checkout, file: Path) -> Iterator[Callable[..., Any]]:
    """Return what runs `kiban provision lab` and returns its document; its management cluster is gone at the end."""
    describe(checkout)
    checkout.environ["KIBAN_REAL_NODE"] = "0"
    yield lambda *words, expect=0: checkout.json("provision", "lab", "--kubeconfig", str(file), *words, expect=expect)
    checkout.run("cluster", "down", "lab-management")
    (checkout.root / "stacks" / "clusters" / "lab.uid").unlink(missing_ok=True)


def nodes(checkout: Checkout, cluster: str = "lab-management") -> dict[str, bool]:
    """Return the nodes that machines are, and whether they are Ready."""
    found = json.loads(checkout.kubectl(cluster, "get", "nodes", "-o", "json"))["items"]
    return {
        each["metadata"]["name"]: any(
            one["type"] == "Ready" and one["status"] == "True" for one in each["status"]["conditions"]
        )
        for each in found
        if each["spec"].get("providerID", "").startswith("simulated://")
    }


def until_ready(checkout: Checkout, count: int, cluster: str = "lab-management") -> float:
    """Wait until so many nodes are there, all Ready, and return the seconds."""
    began = time.monotonic()
    until(
        lambda: len(found := nodes(checkout, cluster)) == count and all(found.values()),
        seconds=180,
        what=f"{count} nodes",
        every=0.5,
    )
    return time.monotonic() - began


def test_a_cluster_is_made_kept_and_deleted(
    checkout: Checkout, lab: Callable[..., Any], file: Path, record: Record
) -> None:
    """Made to Available, found by its context; nodes are added, replaced and removed; a delete leaves nothing."""
    began = time.monotonic()
    (made,) = lab()["items"]
    seconds = time.monotonic() - began
    assert (made["context"], made["machines"], made["evidence"]) == ("ml-lab", 2, "simulated")
    assert (checkout.root / "stacks" / "clusters" / "lab.uid").read_text().strip() == made["uid"]
    kubectl = checkout.run("tools", "path", "kubectl").stdout.strip()
    listed = checkout.shell(f"{kubectl} --context ml-lab get nodes -o name", KUBECONFIG=str(file)).stdout
    assert set(listed.split()) >= {f"node/{name}" for name in nodes(checkout)}
    until_ready(checkout, 2)

    before = nodes(checkout)
    assert lab()["items"][0]["uid"] == made["uid"]
    assert nodes(checkout) == before

    checkout.kubectl("lab-management", "scale", DEPLOYMENT, "--replicas=4")
    added = until_ready(checkout, 4)
    sick = next(iter(nodes(checkout)))
    checkout.kubectl("lab-management", "annotate", "node", sick, "simulation.kiban.dev/fail=no power")
    until(lambda: sick not in nodes(checkout), seconds=180, what="the machine is not replaced", every=0.5)
    until_ready(checkout, 4)
    checkout.kubectl("lab-management", "scale", DEPLOYMENT, "--replicas=0")
    until_ready(checkout, 0)

    checkout.kubectl(
        "lab-management", "label", "cluster.cluster.x-k8s.io/lab", "kiban.dev/environment=x", "--overwrite"
    )
    assert "is environment x's; accepted: another" in lab(expect=2)["error"]
    checkout.kubectl(
        "lab-management", "label", "cluster.cluster.x-k8s.io/lab", "kiban.dev/environment=lab", "--overwrite"
    )

    assert "give --yes" in lab("--delete", expect=2)["error"]
    assert lab("--delete", "--yes")["items"][0]["deleted"] == "lab"
    assert "lab-management" not in {each["cluster"] for each in checkout.json("cluster", "list")["items"]}
    assert "ml-lab" not in file.read_text()
    assert not (checkout.root / "stacks" / "clusters" / "lab.uid").exists()
    assert lab("--delete", "--yes")["items"][0]["deleted"] == "lab"
    record(
        line="issue 10, a cluster through Cluster API",
        evidence="executed",
        figure=f"available after {seconds:.0f} s, two more nodes after {added:.0f} s; replaced, to none, deleted",
        goal="made, scaled, healed, deleted",
        command="./kiban provision lab --kubeconfig FILE",
    )


def test_a_pools_machines_are_made_on_it(
    checkout: Checkout,
    lab: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record: Record,
) -> None:
    """`up` on the cluster that was made: what is rendered of the pool's source makes nodes of it, and none again."""
    also(checkout, "pools", "gpus.yaml", MACHINES)
    describe(checkout, TEMPLATES="pools", POOLS=POOLS)
    lab()
    monkeypatch.setitem(checkout.environ, "KUBECONFIG", str(tmp_path / "mine" / "config"))
    monkeypatch.setitem(checkout.environ, "PULUMI_BACKEND_URL", tmp_path.as_uri())
    monkeypatch.setitem(checkout.environ, "PULUMI_CONFIG_PASSPHRASE", "of a test")
    checkout.run("up", "lab")
    assert len(nodes(checkout)) == 2
    checkout.kubectl("lab-management", "scale", "machinedeployment/t4", "--replicas=2")
    seconds = until_ready(checkout, 4)
    found = json.loads(checkout.kubectl("lab-management", "get", "nodes", "-l", "kiban.dev/pool=t4", "-o", "json"))[
        "items"
    ]
    assert [each["status"]["allocatable"]["nvidia.com/gpu"] for each in found] == ["1", "1"]
    checkout.run("up", "lab")
    assert len(nodes(checkout)) == 4
    checkout.kubectl("lab-management", "scale", "machinedeployment/t4", "--replicas=0")
    until_ready(checkout, 2)
    assert "the platform is on its cluster" in lab("--delete", "--yes", expect=2)["error"]
    checkout.run("destroy", "lab", "--yes")
    lab("--delete", "--yes")
    record(
        line="issue 10, a pool by Cluster API",
        evidence="executed",
        figure=f"from 0 to 2 nodes in {seconds:.0f} s, and back",
        goal="nodes come and go",
        command="./kiban up lab",
    )


def test_a_run_that_was_killed_is_finished_by_the_next(checkout: Checkout, lab: Callable[..., Any], file: Path) -> None:
    """Wherever it was: here while it waits for the cluster."""
    words = ["./kiban", "provision", "lab", "--kubeconfig", str(file)]
    with subprocess.Popen(words, cwd=checkout.root, env=checkout.variables(), stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr
        for line in run.stderr:
            if "applying" in line:
                run.send_signal(signal.SIGKILL)
    assert lab()["items"][0]["machines"] == 2


def test_what_is_waited_for_in_vain_is_told(checkout: Checkout, lab: Callable[..., Any]) -> None:
    """A version that nothing has: the condition says it, and the run ends with it."""
    describe(checkout, KUBERNETES="v1.99.0")
    error = lab("--timeout", "15", expect=1)["error"]
    assert "not available within 15 s" in error
    assert "spec.version is v1.99.0; accepted: v1.36.3" in error


def test_a_cluster_takes_over_its_own_management(
    checkout: Checkout, lab: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    """Objects are moved in with clusterctl, the management cluster goes; a delete moves them out again."""
    monkeypatch.setenv("KIBAN_HOME", str(checkout.root / ".kiban"))
    monkeypatch.setitem(checkout.environ, "KIBAN_NETNS", "0")
    nothing = Nodes(system=SystemNodes(count=0))
    cell = embedded.up("cell", nothing, say=print, isolated=False, cluster_api=True)
    value = base64.b64encode(cell.kubeconfig.read_bytes()).decode()
    also(checkout, "cell", "a-secret.yaml.j2", LEADING)
    describe(checkout, TEMPLATES="cell", SECRET=value, MANAGED="True")

    (made,) = lab()["items"]
    assert (made["uid"], made["machines"]) == (cell.uid, 2)
    assert {each["cluster"] for each in checkout.json("cluster", "list")["items"]} == {"cell"}
    until_ready(checkout, 2, "cell")
    before = nodes(checkout, "cell")
    assert lab()["items"][0]["uid"] == cell.uid
    assert nodes(checkout, "cell") == before
    checkout.kubectl("cell", "scale", DEPLOYMENT, "--replicas=3")
    until_ready(checkout, 3, "cell")

    lab("--delete", "--yes")
    assert {each["cluster"] for each in checkout.json("cluster", "list")["items"]} == {"cell"}
    assert nodes(checkout, "cell") == {}
    record(
        line="issue 10, a cluster manages itself",
        evidence="executed",
        figure="moved in and out with clusterctl, machines kept",
        goal="moved",
        command="./kiban provision lab --kubeconfig FILE",
    )
