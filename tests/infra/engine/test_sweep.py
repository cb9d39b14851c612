"""Which objects are orphans: the environment's by label, and not in its state."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from infra import sweep
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


class Cluster:
    """What kubectl tells of a cluster after a destroy: two kinds are left, and somebody's object of one of them."""

    def __init__(self) -> None:
        self.words: list[tuple[str, ...]] = []
        label = {"kiban.dev/environment": "dev"}
        self.lists = {
            "customresourcedefinitions": [
                definition("queues.kueue.example", "Queue", labels=label),
                definition("routes.gateway.example", "Route", labels=label),
            ],
            "queues.kueue.example,routes.gateway.example": [manifest("Route", "mine", api="gateway.example/v1")],
        }

    def run(self, *words: str) -> str:
        """Take a command; of all that has the label there are the definitions."""
        self.words.append(words)
        return json.dumps({"items": self.lists["customresourcedefinitions"]}) if words[0] == "get" else "all"

    def get(self, kind: str, *, everywhere: bool = False) -> list[dict[str, Any]]:
        """Return the objects of a kind."""
        assert everywhere or kind == "customresourcedefinitions"
        return self.lists[kind]


def definition(name: str, kind: str, **metadata: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a CustomResourceDefinition."""
    plural, _, group = name.partition(".")
    spec = {"group": group, "names": {"plural": plural, "kind": kind}}
    return manifest("CustomResourceDefinition", name, api="apiextensions.k8s.io/v1", **metadata) | {"spec": spec}


def test_a_kind_goes_unless_somebody_has_an_object_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An object without the environment's label too; and however many kinds there are, two calls tell."""
    cluster = Cluster()
    monkeypatch.setattr(sweep, "_kubectl", lambda _: cluster)
    target: Any = SimpleNamespace(stack="dev")
    found = sweep.clear(target, {}, namespaces=True, say=lambda _: None)
    assert [orphan.name for orphan in found] == ["queues.kueue.example", "routes.gateway.example"]
    assert [words[2] for words in cluster.words if words[0] == "delete"] == ["queues.kueue.example"]
