"""Objects in the cluster that carry an environment's label and are not in its state: what a killed run has left.

Looks at every kind that can be listed, not at those that Kiban knows of. What may hold data is named, not deleted.
"""

import dataclasses as dc
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from components._labels import ENVIRONMENT
from infra import console
from infra.kubectl import Kubectl
from infra.target import Target

Say = Callable[[str], None]
_KEEP = frozenset(
    {"CustomResourceDefinition", "Namespace", "PersistentVolume", "PersistentVolumeClaim", "Secret", "StatefulSet"}
)


@dc.dataclass(frozen=True, kw_only=True, order=True)
class Orphan:
    """An object by the four names that identify it; its API version may change. `namespace` is "" for none."""

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {where}{self.name}"

    @property
    def kept(self) -> bool:
        """Whether it is for the user to delete, since it may hold data or take other objects with it."""
        return self.kind in _KEEP


def clear(
    target: Target, state: Mapping[str, Any], *, namespaces: bool = False, say: Say = console.say
) -> tuple[Orphan, ...]:
    """Delete the environment's orphans and say so of each; those that may hold data are only named. Return all.

    namespaces: delete those too, unless there is a volume claim in them, and kinds that no object is of.
    """
    found = find(target, state)
    doomed = {orphan for orphan in found if not orphan.kept}
    if namespaces and any(orphan.kind == "Namespace" for orphan in found):
        claims = _kubectl(target).get("persistentvolumeclaims", everywhere=True)
        used = {claim["metadata"]["namespace"] for claim in claims}
        doomed |= {orphan for orphan in found if orphan.kind == "Namespace" and orphan.name not in used}
    if namespaces:
        doomed |= _unused(_kubectl(target), [orphan for orphan in found if orphan.kind == "CustomResourceDefinition"])
    delete(target, doomed)
    for orphan in found:
        done = "deleted" if orphan in doomed else "left as it may hold data; delete it yourself"
        say(f"{target.stack}: {orphan} is the environment's but not in its state: {done}")
    return found


def _unused(kubectl: Kubectl, kinds: Sequence[Orphan]) -> set[Orphan]:
    """Those of the kinds that there is no object of, whoever made it; asked at once, since a platform has sixty."""
    if not kinds:
        return set()
    names = {each["metadata"]["name"]: each["spec"] for each in kubectl.get("customresourcedefinitions")}
    there = {_kind(each) for each in kubectl.get(",".join(kind.name for kind in kinds), everywhere=True)}
    return {kind for kind in kinds if (names[kind.name]["group"], names[kind.name]["names"]["kind"]) not in there}


def _kind(each: Mapping[str, Any]) -> tuple[str, str]:
    """The group and kind of an object."""
    group, _, _ = each["apiVersion"].rpartition("/")
    return group, each["kind"]


def find(target: Target, state: Mapping[str, Any]) -> tuple[Orphan, ...]:
    """The objects of the environment that the state (a Pulumi deployment) does not know."""
    kubectl = _kubectl(target)
    kinds = kubectl.run("api-resources", "--verbs=list,delete", "--output=name").split()
    answer = kubectl.run(
        "get", ",".join(kinds), "--all-namespaces", f"--selector={ENVIRONMENT}={target.stack}", "--output=json"
    )
    return orphans(json.loads(answer)["items"], state)


def delete(target: Target, doomed: Iterable[Orphan]) -> None:
    """Delete these objects and wait until they are gone; one that is gone already is no error."""
    kubectl = _kubectl(target)
    for (namespace, group, kind), alike in itertools.groupby(sorted(doomed, key=_together), key=_together):
        where = [f"--namespace={namespace}"] if namespace else []
        names = [orphan.name for orphan in alike]
        kubectl.run("delete", f"{kind}.{group}" if group else kind, *names, *where, "--ignore-not-found")


def _together(orphan: Orphan) -> tuple[str, str, str]:
    return orphan.namespace, orphan.group, orphan.kind


def _kubectl(target: Target) -> Kubectl:
    return Kubectl(target.cluster.kubeconfig, target.cluster.context)


def orphans(objects: Iterable[Mapping[str, Any]], state: Mapping[str, Any]) -> tuple[Orphan, ...]:
    """Those of the objects that the state does not know and that no other object owns, each once."""
    known = {
        identity(resource["outputs"])
        for resource in state.get("resources") or ()
        if resource.get("custom") and "metadata" in resource.get("outputs", {})
    }
    free = (identity(each) for each in objects if not each["metadata"].get("ownerReferences") and not _derived(each))
    return tuple(sorted(set(free) - known))


def _derived(each: Mapping[str, Any]) -> bool:
    """Whether Kubernetes made it of a Service, with that one's labels but without naming it as owner."""
    return (each["apiVersion"], each["kind"]) == ("v1", "Endpoints")


def identity(manifest: Mapping[str, Any]) -> Orphan:
    """The four names out of an object."""
    group, kind = _kind(manifest)
    metadata = manifest["metadata"]
    return Orphan(group=group, kind=kind, namespace=metadata.get("namespace", ""), name=metadata["name"])
