"""Which objects are orphans: the environment's by label, and not in its state."""

from typing import Any

from infra.sweep import Orphan, orphans


def manifest(kind: str, name: str, *, api: str = "v1", namespace: str | None = None, **metadata: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return an object as the API server lists it."""
    where = {"namespace": namespace} if namespace else {}
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, **where, **metadata}}


def state(*manifests: dict[str, Any]) -> dict[str, Any]:
    """Return a deployment that knows these objects, a component, and the provider."""
    known = [{"custom": True, "type": "kubernetes:x", "outputs": each} for each in manifests]
    others = [
        {"type": "kiban:components:Foundation"},
        {"custom": True, "type": "pulumi:providers:kubernetes", "outputs": {}},
    ]
    return {"resources": [*others, *known]}


def test_what_the_state_knows_is_no_orphan() -> None:
    """An object is known by group, kind, namespace and name, whatever version of its API the state holds."""
    known = manifest("Thing", "a", api="kiban.dev/v1alpha1", namespace="n")
    found = [manifest("Thing", "a", api="kiban.dev/v1", namespace="n"), manifest("Thing", "a", api="kiban.dev/v1")]
    assert orphans(found, state(known)) == (Orphan(group="kiban.dev", kind="Thing", namespace="", name="a"),)


def test_same_names_in_another_group_are_orphans() -> None:
    """Two kinds that only share their name are not confused."""
    found = manifest("Ingress", "a", api="extensions/v1beta1", namespace="n")
    known = manifest("Ingress", "a", api="networking.k8s.io/v1", namespace="n")
    assert [orphan.group for orphan in orphans([found], state(known))] == ["extensions"]


def test_what_another_object_owns_is_left_to_its_owner() -> None:
    """Pods of a Deployment carry its labels and go with it."""
    owned = manifest("Pod", "a-1", namespace="n", ownerReferences=[{"kind": "ReplicaSet", "name": "a"}])
    assert orphans([owned], state()) == ()


def test_what_kubernetes_makes_of_a_service_is_left_to_it() -> None:
    """The Endpoints of a Service have its labels and no owner; they go with it, and deleting them would cut it off."""
    found = [manifest("Endpoints", "web", namespace="n"), manifest("Service", "web", namespace="n")]
    assert [orphan.kind for orphan in orphans(found, state())] == ["Service"]


def test_an_object_that_is_listed_twice_is_told_once() -> None:
    """Some kinds are served by several groups or versions at once."""
    assert len(orphans([manifest("ConfigMap", "a", namespace="n")] * 2, state())) == 1


def test_what_may_hold_data_is_never_deleted() -> None:
    """Volumes, namespaces, secrets and definitions are for the user to delete."""
    kinds = ("PersistentVolumeClaim", "Namespace", "Secret", "CustomResourceDefinition", "ConfigMap")
    kept = {orphan.kind: orphan.kept for orphan in orphans([manifest(kind, "a") for kind in kinds], state())}
    assert [kind for kind, stays in kept.items() if not stays] == ["ConfigMap"]


def test_a_stack_without_a_state_knows_nothing() -> None:
    """After a run that was killed before its end, everything with the label counts."""
    assert len(orphans([manifest("ConfigMap", "a", namespace="n")], {})) == 1
