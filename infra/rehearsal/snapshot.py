"""A cluster's objects at one moment, and what the program declared of them."""

import dataclasses as dc
import functools
import gzip
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from infra.clusters.embedded.api import Api

Object = dict[str, Any]
_AWAITED = {kind: f"{kind.lower()}s" for kind in ("Deployment", "StatefulSet", "DaemonSet")}
_AT_ONCE = 4
_SKIPPED = {"Event.events.k8s.io", "Lease.coordination.k8s.io", "ComponentStatus", "ControllerRevision.apps"}
_FILTERS = {"Event": "?fieldSelector=type%3DWarning"}  # of the others every Job makes a dozen


@dc.dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All objects of a cluster.

    step: after which it was taken: `install`, `upgrade`, `rollback`, `upgrade again`.
    objects: by kind, which is `Pod` for the core group and `Deployment.apps` for others. Each has apiVersion and kind.
        A Secret has its keys and no values. Of events there are the warnings. Who set which field is left out.
    declared: the manifests of the state, as the program gave them: what was asked for, before defaults and webhooks.
    """

    step: str
    objects: Mapping[str, tuple[Object, ...]]
    declared: tuple[Object, ...]

    def all(self, *kinds: str) -> list[Object]:
        """The objects of kinds."""
        return [each for kind in kinds for each in self.objects.get(kind, ())]

    def find(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """The object of that kind and name, if there is one."""
        return self._by_name.get((kind, name, namespace))

    @functools.cached_property
    def _by_name(self) -> dict[tuple[str, str, str], Object]:
        return {
            (kind, each["metadata"].get("name", ""), each["metadata"].get("namespace", "")): each
            for kind, objects in self.objects.items()
            for each in objects
        }

    def templates(self) -> Iterator[tuple[Object, Object]]:
        """Every live object that makes pods (not one that another object made), with its pod template."""
        for kind in ("Deployment.apps", "StatefulSet.apps", "DaemonSet.apps", "Job.batch", "CronJob.batch"):
            for each in self.objects.get(kind, ()):
                if not each["metadata"].get("ownerReferences"):
                    yield each, pod_template(each)


def pod_template(owner: Object) -> Object:
    """The pod template (`metadata`, `spec`) of a Deployment, StatefulSet, DaemonSet, ReplicaSet, Job or CronJob."""
    spec = owner["spec"]["jobTemplate"]["spec"] if owner["kind"] == "CronJob" else owner["spec"]
    template: Object = spec["template"]
    return template


def kind_of(each: Object) -> str:
    """`Deployment.apps`; of the core group, `Pod`."""
    group, _, _ = each["apiVersion"].rpartition("/")
    return f"{each['kind']}.{group}" if group else str(each["kind"])


def name(each: Object) -> str:
    """What an object is called in a report: `Deployment kiban-metadata/mlflow`, `ClusterRole kiban-view`."""
    metadata = each["metadata"]
    path = "/".join(filter(None, (metadata.get("namespace"), metadata.get("name") or metadata.get("generateName"))))
    return f"{each['kind']} {path}"


def take(api: Api, step: str, state: Path | None) -> Snapshot:
    """Read everything that the API server lists. state: the stack's file in a backend that is a folder."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        lists = list(pool.map(lambda one: _list(api, *one), sorted(kinds(api).items())))
    return Snapshot(
        step=step,
        objects={kind: found for kind, found in lists if found},
        declared=declared(state) if state else (),
    )


def kinds(api: Api) -> dict[str, tuple[str, str]]:
    """Every kind that can be listed, to its apiVersion and path, of its group's versions in the one most preferred."""
    versions = {"v1": "/api/v1"}
    for group in api.get("/apis")["groups"]:
        named = [group["preferredVersion"], *group["versions"]]
        versions |= {each["groupVersion"]: f"/apis/{each['groupVersion']}" for each in named}
    found: dict[str, tuple[str, str]] = {}
    for version, path in versions.items():
        for each in api.get(path)["resources"]:
            if "list" in each["verbs"] and "/" not in each["name"]:
                kind = kind_of({"apiVersion": version, "kind": each["kind"]})
                if kind not in _SKIPPED:
                    found.setdefault(kind, (version, f"{path}/{each['name']}"))
    return found


def unready(api: Api) -> list[str]:
    """The Deployments, StatefulSets and DaemonSets that are not as they are to be, by name."""
    owners = (  # what is in a list does not say of what kind it is
        {"kind": kind, **each}
        for kind, plural in _AWAITED.items()
        for each in api.get(f"/apis/apps/v1/{plural}")["items"]
    )
    return [name(each) for each in owners if not settled(each)]


def ready_of(owner: Object) -> tuple[int, int]:
    """How many pods of a Deployment, StatefulSet or DaemonSet are ready, and how many are to be."""
    status = owner.get("status", {})
    if owner["kind"] == "DaemonSet":
        return status.get("numberReady", 0), status.get("desiredNumberScheduled", 0)
    return status.get("readyReplicas", 0), owner["spec"].get("replicas", 1)


def ended(pod: Object) -> bool:
    """Whether a pod has run to its end."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def settled(owner: Object) -> bool:
    """Whether a Deployment, StatefulSet or DaemonSet is as it is to be, and all its pods of its newest template."""
    status = owner.get("status", {})
    if status.get("observedGeneration", 0) < owner["metadata"].get("generation", 0):
        return False
    ready, wanted = ready_of(owner)
    updated = status.get("updatedNumberScheduled", status.get("updatedReplicas", 0))
    return bool(ready >= wanted and updated >= wanted)


def _list(api: Api, kind: str, at: tuple[str, str]) -> tuple[str, tuple[Object, ...]]:
    version, path = at
    short = kind.partition(".")[0]
    listed = api.get(path + _FILTERS.get(kind, ""))["items"] or ()
    return kind, tuple(_kept({"apiVersion": version, "kind": short, **each}) for each in listed)


def _kept(each: Object) -> Object:
    """The object without what nothing may, or need, look at: a Secret's values, and half of all there is."""
    each["metadata"].pop("managedFields", None)
    if each["kind"] == "Secret" and each["apiVersion"] == "v1":
        return each | {"data": dict.fromkeys(each.get("data") or {}, "")}
    return each


def declared(state: Path) -> tuple[Object, ...]:
    """The manifests of a stack's state (a Pulumi checkpoint), without what is Kiban's and not Kubernetes'."""
    text = gzip.decompress(state.read_bytes()) if state.suffix == ".gz" else state.read_bytes()
    resources = json.loads(text)["checkpoint"]["latest"].get("resources") or ()
    inputs = (each["inputs"] for each in resources if each["type"].startswith("kubernetes:") and each.get("custom"))
    return tuple(each for each in inputs if "apiVersion" in each and "metadata" in each)
