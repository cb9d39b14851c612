"""What is changed of an upstream chart's objects."""

from typing import Any

from components._charts import ready_soon


def test_containers_that_are_asked_are_asked_soon() -> None:
    """Nothing else of the Deployment changes, and who is not asked is not."""
    asked: dict[str, Any] = {
        "name": "manager",
        "readinessProbe": {"initialDelaySeconds": 30, "httpGet": {"path": "/readyz"}},
    }
    proxy = {"name": "proxy", "livenessProbe": {"initialDelaySeconds": 30}}
    given: dict[str, Any] = {
        "metadata": {"name": "m"},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [asked, proxy]}}},
    }
    changed = ready_soon(given)
    containers = changed["spec"]["template"]["spec"]["containers"]
    soon = {"initialDelaySeconds": 1, "periodSeconds": 1, "httpGet": {"path": "/readyz"}}
    assert containers == [{"name": "manager", "readinessProbe": soon}, proxy]
    assert (changed["metadata"], changed["spec"]["replicas"]) == (given["metadata"], 1)
    assert asked["readinessProbe"]["initialDelaySeconds"] == 30
