"""Nodes that come with the Jobs and go after them: Kueue admits, Karpenter makes machines, kwok lives for them.

The controllers are the real ones. The machines are simulated, and so is what runs on them.
"""

import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from infra.clusters.waiting import until
from tests import generated
from tests.checkout import Checkout
from tests.conftest import Record

pytestmark = pytest.mark.full
CLUSTER, POOL, MOST, IDLE = "elastic", "a100", 2, 10
ENVIRONMENT = f'''"""A team, and a pool whose nodes Karpenter makes."""

from components.gpu_node_pools import GpuPool, Karpenter, NodeClass
from components.tenancy import Queueing, Team
from stacks._schema import THROWAWAY, EmbeddedCluster, Environment, SystemNodes

environment = Environment(
    name="{CLUSTER}",
    cluster=EmbeddedCluster(name="{CLUSTER}"),
    state=THROWAWAY,
    system_nodes=SystemNodes(count=1, cpu=8, memory_gib=32),
    queueing=Queueing(cpu=4, memory_gib=16, requeue_minutes=2),
    certificates=False,
    teams=(Team(name="vision", owner="vision-oncall", gpus={{"{POOL}": {8 * MOST}}}),),
    gpu_pools=(
        GpuPool(
            name="{POOL}",
            accelerator="NVIDIA-A100-SXM4-80GB",
            gpus_per_node=8,
            min_nodes=0,
            max_nodes={MOST},
            source=Karpenter(
                node_class=NodeClass(group="karpenter.kwok.sh", kind="KWOKNodeClass", name="default"),
                instance_types=("p4de.24xlarge",),
                idle_seconds={IDLE},
            ),
        ),
    ),
)
'''
DURATION = "simulation.kiban.dev/duration"
THERE = ("-n", "team-vision")
ON_GPUS = {"nodeSelector": {"kiban.dev/pool": POOL}, "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]}


def job(name: str, gpus: int, *, seconds: int, pool: str = POOL) -> dict[str, Any]:
    """Return a Job of one pod that runs on the pool's nodes for so long; another pod follows one that was lost."""
    asked = {"cpu": "1", "memory": "1Gi"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    made = generated.job(name, "team-vision", asked, selector={"kiban.dev/pool": pool}, lasts=f"{seconds}s")
    del made["spec"]["backoffLimit"]
    return made


class Cloud:
    """What is on the cluster: nodes of the pool, pods of Jobs."""

    def __init__(self, checkout: Checkout) -> None:
        self.kubectl = functools.partial(checkout.kubectl, CLUSTER)

    def start(self, *jobs: dict[str, Any]) -> None:
        """Create the Jobs."""
        self.kubectl(*THERE, "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": jobs}))

    def get(self, kind: str, *words: str) -> list[dict[str, Any]]:
        """Return the objects of a kind."""
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, *words, "-o", "json"))["items"]
        return found

    def nodes(self) -> set[str]:
        """Return the names of the nodes that Karpenter has made."""
        return {node["metadata"]["name"] for node in self.get("nodes", "-l", "karpenter.sh/nodepool")}

    def pod(self, name: str) -> dict[str, Any] | None:
        """Return the Job's pod that has not ended, if there is one."""
        live = [
            pod
            for pod in self.get("pods", *THERE, "-l", f"job-name={name}")
            if pod["status"]["phase"] in {"Pending", "Running"} and "deletionTimestamp" not in pod["metadata"]
        ]
        return live[0] if live else None

    def runs(self, name: str) -> bool:
        """Whether the Job's pod runs."""
        pod = self.pod(name)
        return pod is not None and pod["status"]["phase"] == "Running"

    def fill(self, name: str) -> dict[str, Any]:
        """Start a Job that takes a whole node, and return its pod once that runs."""
        self.start(job(name, 8, seconds=600))
        until(lambda: self.runs(name), seconds=240, what="the run to start", every=1)
        pod = self.pod(name)
        assert pod
        return pod

    def finish(self, name: str) -> None:
        """Let the Job's pod end now."""
        self.kubectl(*THERE, "annotate", "pod", "-l", f"job-name={name}", "--overwrite", f"{DURATION}=1s")

    def queued_again(self) -> bool:
        """Whether the one Job is suspended, and then has given back its quota."""
        (job,), (workload,) = (self.get(kind, *THERE) for kind in ("jobs", "workloads.kueue.x-k8s.io"))
        return job["spec"]["suspend"] and "admission" not in workload["status"]

    @contextlib.contextmanager
    def exhausted(self) -> Iterator[None]:
        """Have no machine left that the pool could be given."""
        (pool,) = self.get("nodepools")
        self._limit({"nvidia.com/gpu": "0"})
        try:
            yield
        finally:
            self._limit(pool["spec"]["limits"])

    def _limit(self, limits: dict[str, str]) -> None:
        patch = [{"op": "replace", "path": "/spec/limits", "value": limits}]
        self.kubectl("patch", "nodepool", POOL, "--type=json", "-p", json.dumps(patch))

    def complete(self, *names: str) -> bool:
        """Whether all of the Jobs are complete."""
        status = {each["metadata"]["name"]: each["status"] for each in self.get("jobs", *THERE)}
        return all(status[name].get("succeeded") for name in names)


@pytest.fixture(scope="module")
def up(checkout: Checkout) -> Checkout:
    """Return the checkout with the environment up."""
    (checkout.root / "stacks" / f"{CLUSTER}.py").write_text(ENVIRONMENT)
    checkout.run("up", CLUSTER)
    return checkout


@pytest.fixture
def cloud(up: Checkout) -> Iterator[Cloud]:
    """Return the cluster with an empty pool, which it is again after the test."""
    cloud = Cloud(up)
    assert cloud.nodes() == set()
    yield cloud
    cloud.kubectl(*THERE, "delete", "jobs", "--all")
    until(lambda: not cloud.nodes() and not cloud.get("nodeclaims"), seconds=240, what="an empty pool", every=1)


def while_waiting(look: Callable[[], None], condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Wait on a condition, and look each time."""

    def holds() -> bool:
        look()
        return condition()

    until(holds, seconds=seconds, what=what, every=1)


def test_jobs_make_nodes_up_to_the_maximum_and_the_pool_goes_back_to_zero(
    cloud: Cloud, up: Checkout, record: Record
) -> None:
    """Of three Jobs of a node each two are admitted and get nodes; the third has to wait; afterwards there is none."""
    began = time.monotonic()
    seen: list[int] = []
    cloud.start(*(job(f"train-{number}", 8, seconds=20) for number in range(MOST + 1)))
    until(lambda: len(cloud.nodes()) == MOST, seconds=240, what="the pool at its largest", every=1)
    came = time.monotonic() - began
    item = next(each for each in up.json("cluster", "status", CLUSTER)["items"] if "provisioned" in each)
    assert (item["provisioned"], item["evidence"]) == (MOST, "simulated")
    suspended = [each["metadata"]["name"] for each in cloud.get("jobs", *THERE) if each["spec"]["suspend"]]
    assert len(suspended) == 1
    names = [f"train-{number}" for number in range(MOST + 1)]
    while_waiting(
        lambda: seen.append(len(cloud.nodes())), lambda: cloud.complete(*names), seconds=300, what="all Jobs to end"
    )
    ended = time.monotonic()
    while_waiting(
        lambda: seen.append(len(cloud.nodes())), lambda: not cloud.nodes(), seconds=240, what="the pool to be empty"
    )
    assert max(seen) == MOST
    record(
        line="10.1 pending Jobs make nodes, and the pool goes back to zero",
        evidence="simulated",
        figure=f"0 to {MOST} nodes in {came:.0f} s, {MOST + 1} Jobs, to 0 in {time.monotonic() - ended:.0f} s",
        goal=f"never more than {MOST}",
        command="kubectl apply -f job.yaml",
    )


def test_pods_that_pass_kueue_by_get_no_more_nodes_than_the_maximum(cloud: Cloud) -> None:
    """A namespace that is no team's has no quota: there the NodePool's own limit holds."""
    limits = {"nvidia.com/gpu": "8"}
    container = {"name": "main", "image": "registry.example/train:1", "resources": {"limits": limits}}
    pods = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"past-{number}"}, "spec": spec}
        for number in range(MOST + 1)
        for spec in [{"containers": [container], **ON_GPUS}]
    ]
    cloud.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}))
    try:

        def phases() -> list[str]:
            return sorted(pod["status"]["phase"] for pod in cloud.get("pods", "-n", "default"))

        until(lambda: phases() == ["Pending", "Running", "Running"], seconds=240, what="two to run", every=1)
        held = time.monotonic() + 15  # a new round of scheduling each 10 s
        while_waiting(
            lambda: _same(len(cloud.nodes()), MOST), lambda: time.monotonic() > held, seconds=240, what="some rounds"
        )
        assert phases() == ["Pending", "Running", "Running"]
    finally:
        cloud.kubectl("delete", "pods", "--all", "-n", "default")


def _same(found: object, wanted: object) -> None:
    assert found == wanted


def test_a_node_that_fails_is_replaced_and_its_run_completes(cloud: Cloud, record: Record) -> None:
    """In the middle of a run the machine is gone: another comes, on which the run starts again, and ends."""
    before = cloud.fill("train")
    lost = before["spec"]["nodeName"]
    began = time.monotonic()
    cloud.kubectl("annotate", "node", lost, "simulation.kiban.dev/fail=the machine is gone")
    cloud.kubectl("wait", "--for=condition=Ready=false", f"node/{lost}", "--timeout=30s")
    cloud.kubectl("delete", "node", lost, "--timeout=60s")  # as a cloud's controller does, once it knows of it

    def again() -> bool:
        pod = cloud.pod("train")
        return pod is not None and pod["metadata"]["uid"] != before["metadata"]["uid"] and cloud.runs("train")

    until(again, seconds=300, what="the run to start again", every=1)
    took = time.monotonic() - began
    after = cloud.pod("train")
    assert after
    assert after["spec"]["nodeName"] != lost
    assert cloud.nodes() == {after["spec"]["nodeName"]}
    cloud.finish("train")
    until(lambda: cloud.complete("train"), seconds=240, what="the run to end", every=1)
    (ended,) = cloud.get("jobs", *THERE)
    assert (ended["status"]["failed"], ended["status"]["succeeded"]) == (1, 1)
    record(
        line="10.1 a node fails in the middle of a run",
        evidence="simulated",
        figure=f"the run is on another node after {took:.0f} s, and completes",
        goal="replaced, requeued, complete",
        command="kubectl delete node",
    )


def test_a_run_whose_node_is_not_replaced_is_queued_again(cloud: Cloud, record: Record) -> None:
    """The cloud has no machine left: the run gives back its place, and has it again when there is one."""
    before = cloud.fill("train")
    with cloud.exhausted():
        began = time.monotonic()
        cloud.kubectl("delete", "node", before["spec"]["nodeName"], "--timeout=60s")
        until(cloud.queued_again, seconds=300, what="the run to be queued again", every=1)
        took = time.monotonic() - began
        (workload,) = cloud.get("workloads.kueue.x-k8s.io", *THERE)
        true = {each["type"]: each["reason"] for each in workload["status"]["conditions"] if each["status"] == "True"}
        assert true["Evicted"] == "PodsReadyTimeout"
    until(lambda: cloud.runs("train"), seconds=300, what="the run to start again", every=1)
    cloud.finish("train")
    until(lambda: cloud.complete("train"), seconds=240, what="the run to end", every=1)
    record(
        line="10.1 a failed node that cannot be replaced",
        evidence="simulated",
        figure=f"the run is queued again after {took:.0f} s, starts when there is a machine, and completes",
        goal="requeued, complete",
        command="kubectl delete node",
    )


def test_a_running_job_keeps_its_node_while_an_idle_one_goes(cloud: Cloud, record: Record) -> None:
    """Two nodes an eighth full could be one: neither pod is moved for it, and only a node without a pod goes."""
    cloud.start(job("long", 1, seconds=600), job("filler", 7, seconds=600))
    until(lambda: cloud.runs("long") and cloud.runs("filler"), seconds=240, what="a full node", every=1)
    cloud.start(job("other", 1, seconds=600))
    until(lambda: cloud.runs("other"), seconds=240, what="a second node", every=1)
    pods = {name: cloud.pod(name) for name in ("long", "other")}
    kept, idle = (pod["spec"]["nodeName"] for pod in pods.values() if pod)
    assert kept != idle
    cloud.finish("filler")  # at once: of what has not changed Karpenter thinks again after 5 minutes only
    until(lambda: cloud.complete("filler"), seconds=240, what="room on the first node", every=1)
    held = time.monotonic() + 60  # it lets new nodes be for 20 s, looks each 10 s, and again 15 s before it acts
    while_waiting(
        lambda: _same(cloud.nodes(), {kept, idle}), lambda: time.monotonic() > held, seconds=240, what="idle time"
    )
    for name, pod in pods.items():
        now = cloud.pod(name)
        assert now
        assert pod
        assert now["metadata"]["uid"] == pod["metadata"]["uid"]
    cloud.kubectl(*THERE, "delete", "job", "other")
    until(lambda: cloud.nodes() == {kept}, seconds=240, what="the idle node to go", every=1)
    assert cloud.runs("long")
    record(
        line="10.1 consolidation spares running training",
        evidence="simulated",
        figure="two nodes an eighth full stay; the empty one goes",
        goal="no pod evicted",
        command="",
    )


def test_a_job_of_the_plain_pool_makes_no_node(cloud: Cloud) -> None:
    """Tolerating GPU nodes is not asking for one."""
    cloud.start(job("plain", 0, seconds=10, pool="system"))
    while_waiting(
        lambda: _same(cloud.get("nodeclaims"), []), lambda: cloud.complete("plain"), seconds=240, what="the Job to end"
    )
