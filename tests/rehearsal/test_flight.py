"""Workloads in flight: whose they are, what they ask for, and how it is seen that one was lost."""

from typing import Any

import pytest

from infra.rehearsal import flight
from infra.rehearsal.flight import Share
from infra.rehearsal.snapshot import Snapshot

SHARE = Share(team="vision", namespace="team-vision", pool="a100", resource="nvidia.com/gpu", own=8, most=16)


def queue(name: str, **quotas: tuple[str, str]) -> dict[str, Any]:
    """Return a ClusterQueue: pool to nominal quota and borrowing limit of GPUs."""
    flavors = [
        {
            "name": pool,
            "resources": [
                {"name": "cpu", "nominalQuota": "8"},
                {"name": "nvidia.com/gpu", "nominalQuota": own, "borrowingLimit": more},
            ],
        }
        for pool, (own, more) in quotas.items()
    ]
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "ClusterQueue",
        "metadata": {"name": name},
        "spec": {"resourceGroups": [{"flavors": flavors}]},
    }


def test_shares_are_those_of_devices_that_a_team_may_have() -> None:
    """Of teams that have a namespace, own or borrowed; cores are no devices."""
    space = {"metadata": {"name": "team-vision", "labels": {"kiban.dev/team": "vision"}}}
    other = {"metadata": {"name": "argo", "labels": {}}}
    queues = (queue("vision", a100=("8", "8"), l4=("0", "2k"), none=("0", "0")), queue("unknown", a100=("1", "0")))
    now = Snapshot(
        step="install", objects={"Namespace": (space, other), "ClusterQueue.kueue.x-k8s.io": queues}, declared=()
    )
    assert list(flight.shares(now)) == [
        SHARE,
        Share(team="vision", namespace="team-vision", pool="l4", resource="nvidia.com/gpu", own=0, most=2000),
    ]


def test_a_job_is_what_a_member_would_write() -> None:
    """Suspended for Kueue, in the team's queue, a device a pod, and in no need of root."""
    made = flight.job(SHARE, "rehearsal-a100-waits", 16)
    assert made["metadata"]["namespace"] == "team-vision"
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "default"
    assert made["spec"]["suspend"] is True
    assert made["spec"]["parallelism"] == made["spec"]["completions"] == 16
    pod = made["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"kiban.dev/pool": "a100"}
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod["securityContext"]["runAsNonRoot"] is True


@pytest.mark.parametrize(
    ("suspend", "status", "state"),
    [
        (True, {}, "waiting"),
        (False, {"ready": 1}, "running"),
        (False, {"active": 1}, "not ready"),
        (False, {"failed": 1}, "ended"),
        (False, {"succeeded": 1, "ready": 0}, "ended"),
    ],
)
def test_a_jobs_state_is_one_word(suspend: bool, status: dict[str, int], state: str) -> None:  # noqa: FBT001
    """As its controller and Kueue have it."""
    assert flight.job_state({"spec": {"suspend": suspend}, "status": status}) == state
    assert flight.job_state(None) == "gone"
