"""Workloads in flight: whose they are, what they ask for, and how it is seen that one was lost."""

import pytest

from infra.rehearsal import flight
from infra.rehearsal.asking import Part

PART = Part(
    namespace="team-vision",
    queue="default",
    cluster_queue="vision",
    flavor="a100",
    resource="nvidia.com/gpu",
    pool="a100",
    topology=False,
    own=8,
    most=16,
)


def test_a_job_is_what_a_member_would_write() -> None:
    """Suspended for Kueue, in the team's queue, a device a pod, and in no need of root."""
    made = flight.job(PART, "rehearsal-a100-waits", 16)
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
