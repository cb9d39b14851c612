"""Why a pod waits, from the objects alone."""

from typing import Any

import pytest

from infra.status import pending_items, pool_items, refused_items, usage, why_pending

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
