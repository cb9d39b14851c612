"""JobSet's controller: what its chart is given, and what is changed of its objects."""

from typing import Any

from components._jobset import fitted, values

DEPLOYMENT, SECRET = "kubernetes:apps/v1:Deployment", "kubernetes:core/v1:Secret"


def test_the_image_is_upstreams_release() -> None:
    """The chart in the module names a staging registry and the tag of a branch."""
    image = values(version="1.2.3")["image"]
    assert f"{image['repository']}:{image['tag']}" == "registry.k8s.io/jobset/jobset:v1.2.3"


def test_the_deployment_goes_first_and_is_soon_seen_to_be_ready() -> None:
    """No team's Job takes its place; what the chart says besides stays."""
    probe = {"httpGet": {"path": "/readyz"}, "initialDelaySeconds": 5, "periodSeconds": 10}
    pod = {"containers": [{"name": "controller", "readinessProbe": probe}], "serviceAccountName": "jobset-controller"}
    given: dict[str, Any] = {
        "metadata": {"name": "a"},
        "spec": {"replicas": 1, "template": {"metadata": {}, "spec": pod}},
    }
    made = fitted(DEPLOYMENT, given, priority="urgent")
    spec = made["spec"]["template"]["spec"]
    assert spec["priorityClassName"] == "urgent"
    assert spec["serviceAccountName"] == "jobset-controller"
    (container,) = spec["containers"]
    assert container["readinessProbe"] == {"httpGet": {"path": "/readyz"}, "initialDelaySeconds": 1, "periodSeconds": 2}
    assert (made["metadata"], made["spec"]["replicas"]) == ({"name": "a"}, 1)


def test_the_certificate_is_the_controllers_alone() -> None:
    """Declared with keys, even empty ones, it would be drift, and overwritten by the next upgrade."""
    given = {"metadata": {"name": "jobset-webhook-server-cert"}, "data": {"tls.crt": "", "tls.key": ""}}
    assert fitted(SECRET, given, priority="urgent") == {"metadata": {"name": "jobset-webhook-server-cert"}}


def test_other_objects_are_the_charts() -> None:
    """Nothing else is changed."""
    given = {"metadata": {"name": "a"}, "data": {"x": "y"}}
    assert fitted("kubernetes:core/v1:ConfigMap", given, priority="urgent") is given
