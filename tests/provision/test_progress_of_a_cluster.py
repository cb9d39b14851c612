"""What is said of a cluster while it is waited for."""

from typing import Any

from infra.provision import waiting


def cluster(**conditions: str) -> dict[str, Any]:
    """Return a Cluster with conditions that say, unless they are "True", that they are False and why."""
    listed = [
        {"type": name, "status": "True" if said == "True" else "False", "message": "" if said == "True" else said}
        for name, said in conditions.items()
    ]
    return {"metadata": {"generation": 2}, "status": {"conditions": listed}}


def event(time: str, api: str, note: str) -> dict[str, Any]:
    """Return an event about a Machine."""
    about = {"apiVersion": api, "kind": "Machine", "name": "m-1"}
    return {"metadata": {"creationTimestamp": time}, "regarding": about, "note": note}


def test_what_does_not_hold_is_named_with_what_it_says() -> None:
    """Conditions that hold are left out, and so is the sum of all."""
    seen = cluster(
        Available="* InfrastructureReady: x", InfrastructureReady="no\n quota", ControlPlaneInitialized="True"
    )
    assert waiting.waits_for(seen, []) == "InfrastructureReady: no quota"
    assert waiting.waits_for({}, []) == "no controller has looked at it yet"


def test_machines_of_control_plane_and_workers_are_counted() -> None:
    """As far as Cluster API has counted them; a control plane without machines has none."""
    seen = cluster(WorkersAvailable="* m: 1 missing")
    seen["status"] |= {"workers": {"desiredReplicas": 5, "readyReplicas": 1}, "controlPlane": {"desiredReplicas": 3}}
    assert waiting.waits_for(seen, []) == "WorkersAvailable: * m: 1 missing; machines: 1 of 8 ready"


def test_the_last_event_of_cluster_api_is_told() -> None:
    """Not those of other objects in the namespace."""
    events = [
        event("2026-01-01T00:00:01Z", "infrastructure.cluster.x-k8s.io/v1beta2", "no capacity\nin a"),
        event("2026-01-01T00:00:00Z", "cluster.x-k8s.io/v1beta2", "made"),
        event("2026-01-01T00:00:02Z", "v1", "another"),
    ]
    assert waiting.waits_for({}, events).endswith("; last: Machine m-1: no capacity in a")


def test_a_cluster_is_available_once_that_is_said_of_its_present_spec() -> None:
    """A condition of an earlier generation does not count."""
    assert not waiting.available(cluster())
    assert not waiting.available(cluster(Available="no"))
    seen = cluster(Available="True")
    assert waiting.available(seen)
    seen["status"]["conditions"][0]["observedGeneration"] = 1
    assert not waiting.available(seen)
