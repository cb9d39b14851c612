"""A state is read as Pulumi and its Kubernetes provider write it."""

from typing import Any

from infra.release.drift.reading import released, without

DEFINITION = {
    "apiVersion": "v1",
    "kind": "Thing",
    "metadata": {"name": "a"},
    "schema": [{"x_kubernetes_validations": 1, "x_own": 2}],
    "__fieldManager": "kiban",
}


def test_released_objects_are_those_that_stay() -> None:
    """Not a component, not what a replacement has yet to delete, not what was only read."""
    resource = {"custom": True, "outputs": DEFINITION, "modified": "then", "ignoreChanges": ["a.b"]}
    others = [{"custom": False}, resource | {"delete": True}, resource | {"external": True}, {"custom": True}]
    (only,) = released({"resources": [resource, *others]})
    assert (only.manager, only.version, only.at, only.ignored) == ("kiban", "v1", "then", ("a.b",))
    assert only.manifest["schema"] == [{"x-kubernetes-validations": 1, "x_own": 2}]
    assert released({}) == ()


def test_ignored_fields_are_left_out() -> None:
    """Names, places and quoted names; what is not there is no error, and the object itself stays as it is."""
    manifest: dict[str, Any] = {
        "spec": {"rules": [{"weight": 1, "name": "a"}]},
        "metadata": {"annotations": {"a.b/c": 1}},
    }
    paths = ["spec.rules[0].weight", 'metadata.annotations["a.b/c"]', "spec.rules[7].weight", "status.x"]
    assert without(manifest, paths) == {"spec": {"rules": [{"name": "a"}]}, "metadata": {"annotations": {}}}
    assert manifest["spec"]["rules"][0]["weight"] == 1
