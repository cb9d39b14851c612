"""Why a pod waits, from the objects alone."""

from pathlib import Path
from typing import Any

import pytest

from infra import kubectl, status
from infra.clusters import Cluster
from infra.errors import RunFailed
from infra.status import failing_items, pending_items, pool_items, queued_items, refused_items, usage, why_pending

GPU = "nvidia.com/gpu"
TAINT = {"key": GPU, "value": "present", "effect": "NoSchedule"}
TOLERATES = {"key": GPU, "operator": "Exists"}


def node(name: str, pool: str, gpus: int = 8, taints: tuple[dict[str, str], ...] = (TAINT,)) -> dict[str, Any]:
    """Return a ready simulated node of a pool."""
    return {
        "metadata": {"name": name, "labels": {"kiban.dev/pool": pool, "kiban.dev/simulated": "true"}},
        "spec": {"taints": list(taints)},
        "status": {
            "allocatable": {"cpu": "96"} | ({GPU: str(gpus)} if gpus else {}),
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pod(gpus: int, *, on: str | None = None, phase: str = "Pending", **spec: object) -> dict[str, Any]:
    """Return a pod that asks for GPUs, waiting or placed on a node."""
    return {
        "metadata": {"namespace": "team-a", "name": f"train-{on}"},
        "spec": {
            "containers": [{"resources": {"limits": {GPU: str(gpus)}}}],
            **({"nodeName": on} if on else {}),
            **spec,
        },
        "status": {"phase": phase, "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes"}]},
    }


NODES = [node("a-0", "a"), node("a-1", "a"), node("b-0", "b", gpus=4), node("system-0", "system", gpus=0, taints=())]


@pytest.mark.parametrize(
    ("waiting", "why"),
    [
        (pod(16, tolerations=[TOLERATES]), "asks for 16 nvidia.com/gpu on one node; the largest, in pool a, has 8"),
        (
            pod(8, nodeSelector={"kiban.dev/pool": "b"}),
            "asks for 8 nvidia.com/gpu on one node; the largest, in pool b, has 4",
        ),
        (pod(1, nodeSelector={"kiban.dev/pool": "c"}), "no node has kiban.dev/pool=c; pools: a, b, system"),
        (
            pod(1, nodeSelector={"kiban.dev/pool": "system"}),
            "none of its nodes offers nvidia.com/gpu; they offer no devices",
        ),
        (pod(8), "does not tolerate nvidia.com/gpu=present:NoSchedule"),
        (pod(8, tolerations=[TOLERATES]), "waits for room: at most 7 nvidia.com/gpu are free on one node"),
    ],
)
def test_the_first_reason_to_mend_is_named(waiting: dict[str, Any], why: str) -> None:
    """Each cause of waiting is told in the words of pools and devices."""
    placed = [pod(1, on="a-0", phase="Running"), pod(8, on="a-1", phase="Running"), pod(8, on="a-0", phase="Succeeded")]
    assert why_pending(waiting, NODES, usage(placed)) == why


def test_pools_show_what_is_there_and_what_is_taken() -> None:
    """Capacity is the live nodes', use is that of pods that have not finished, and the evidence says simulated."""
    items = {item["pool"]: item for item in pool_items(NODES, [pod(3, on="a-0"), pod(8, on="a-1", phase="Failed")])}
    assert (items["a"]["nodes"], items["a"]["ready"], items["a"]["capacity"], items["a"]["requested"]) == (2, 2, 16, 3)
    assert items["system"]["resource"] is None
    assert {item["evidence"] for item in items.values()} == {"simulated"}


def test_only_pods_without_a_node_are_pending() -> None:
    """A placed pod that has not started is the kubelet's matter, not the scheduler's."""
    items = pending_items(NODES, [pod(16), pod(1, on="a-0")])
    assert [(item["pending"], item["asks"], item["scheduler"]) for item in items] == [
        ("team-a/train-None", "16 nvidia.com/gpu", "0/2 nodes")
    ]


def test_what_the_api_server_refused_is_told_once() -> None:
    """A Job whose pods exceed a quota has no pod to be pending; its newest event says why."""
    about = {"kind": "Job", "namespace": "team-a", "name": "train"}
    events: list[dict[str, Any]] = [
        {"reason": "FailedCreate", "involvedObject": about, "message": "old", "lastTimestamp": "2026-01-01T00:00:00Z"},
        {"reason": "FailedCreate", "involvedObject": about, "message": "new", "lastTimestamp": "2026-01-02T00:00:00Z"},
        {"reason": "SuccessfulCreate", "involvedObject": about, "message": "x", "lastTimestamp": None},
    ]
    assert refused_items(events) == [{"refused": "Job team-a/train", "why": "new"}]


def workload(*conditions: tuple[str, str, str], **spec: object) -> dict[str, Any]:
    """Return Kueue's Workload of a Job of three pods that ask for two GPUs each."""
    containers = [{"resources": {"requests": {GPU: "2", "cpu": "1"}}}]
    return {
        "metadata": {
            "namespace": "team-a",
            "name": "job-train-f00",
            "ownerReferences": [{"kind": "Job", "name": "train"}],
        },
        "spec": {"podSets": [{"count": 3, "template": {"spec": {"containers": containers}}}], **spec},
        "status": {
            "conditions": [{"type": kind, "status": state, "message": said} for kind, state, said in conditions]
        },
    }


@pytest.mark.parametrize(
    ("waiting", "why"),
    [
        (workload(("QuotaReserved", "False", "insufficient quota")), "insufficient quota"),
        (
            workload(("QuotaReserved", "True", "reserved"), ("Admitted", "False", "check capacity is pending")),
            "check capacity is pending",
        ),
        (workload(("Evicted", "True", "preempted"), ("QuotaReserved", "False", "1 more needed")), "1 more needed"),
        (workload(active=False), "deactivated"),
        (workload(), "waits for Kueue to look at it"),
    ],
)
def test_what_kueue_keeps_waiting_is_told_in_its_words(waiting: dict[str, Any], why: str) -> None:
    """A workload that is not admitted has no pods yet; it stands for all that they will ask for."""
    assert queued_items([waiting]) == [
        {"pending": "Job team-a/train", "asks": f"6 {GPU}", "why": why, "source": "Kueue"}
    ]


def test_what_kueue_admitted_or_has_seen_end_does_not_wait() -> None:
    """From admission on the pods speak for themselves."""
    assert queued_items([workload(("Admitted", "True", "")), workload(("Finished", "True", ""))]) == []


@pytest.mark.parametrize(
    ("said", "found"),
    [('error: the server doesn\'t have a resource type "workloads"', True), ("Unable to connect", False)],
    ids=["no-kueue", "no-answer"],
)
def test_a_cluster_without_kueue_has_no_queue(said: str, found: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    """Only that the kind is unknown is no error."""

    def get(*_: object, **__: object) -> None:
        raise RunFailed(f"kubectl get workloads.kueue.x-k8s.io: {said}")

    monkeypatch.setattr(kubectl.Kubectl, "get", get)
    cluster = Cluster(name="box", kubeconfig=Path("/nowhere"), context="x", uid="y")
    if found:
        assert status.workloads(cluster) == []
    else:
        with pytest.raises(RunFailed, match="Unable to connect"):
            status.workloads(cluster)


def test_a_pod_that_cannot_start_says_why() -> None:
    """What the kubelet waits for is told, but for a container that is on its way."""

    def stuck(name: str, reason: str, message: str | None = None) -> dict[str, Any]:
        waiting = {"reason": reason} | ({"message": message} if message else {})
        container = {"name": "main", "state": {"waiting": waiting}}
        return {"metadata": {"namespace": "team-a", "name": name}, "status": {"containerStatuses": [container]}}

    pods = [
        stuck("root", "CreateContainerConfigError", "container has runAsNonRoot and image will run as root"),
        stuck("starts", "ContainerCreating"),
        stuck("crashes", "CrashLoopBackOff"),
    ]
    assert failing_items(pods) == [
        {
            "failing": "team-a/root",
            "why": "main: CreateContainerConfigError: container has runAsNonRoot and image will run as root",
        },
        {"failing": "team-a/crashes", "why": "main: CrashLoopBackOff"},
    ]
