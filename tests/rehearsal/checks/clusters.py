"""Clusters for tests of checks: snapshots of a few objects each, and what may be looked at of them."""

from collections.abc import Iterable
from typing import Any, cast

from components._labels import ENVIRONMENT, TEAM
from infra.clusters.embedded.api import Api, Refused
from infra.rehearsal.look import Check, Look, Outcome
from infra.rehearsal.snapshot import Object, Snapshot, kind_of

PLATFORM = {ENVIRONMENT: "test"}


def made(api: str, kind: str, name: str, namespace: str = "", **fields: Any) -> Object:  # noqa: ANN401 - of any kind
    """Return an object; `labels` and `owner`, another object, are of its metadata."""
    metadata: Object = {"name": name, "uid": f"{kind}/{namespace}/{name}", "labels": fields.pop("labels", {})}
    if namespace:
        metadata["namespace"] = namespace
    if owner := fields.pop("owner", None):
        metadata["ownerReferences"] = [{"uid": owner["metadata"]["uid"], "controller": True}]
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **fields}


def space(name: str, team: str | None = None, *, platform: bool = True, level: str | None = "restricted") -> Object:
    """Return a Namespace."""
    labels = {"kubernetes.io/metadata.name": name} | (PLATFORM if platform else {})
    labels |= ({TEAM: team} if team else {}) | ({"pod-security.kubernetes.io/enforce": level} if level else {})
    return made("v1", "Namespace", name, labels=labels)


def deployment(
    name: str,
    namespace: str = "kiban-metadata",
    spec: Object | None = None,
    **container: Any,  # noqa: ANN401 - fields of a container
) -> Object:
    """Return a Deployment of the platform's with one container; its pods have the label app=NAME."""
    main = {"name": "main", "image": "ghcr.io/mlflow/mlflow:v3.17.2", **container}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [main], **(spec or {})}}
    return made("apps/v1", "Deployment", name, namespace, labels=PLATFORM, spec={"template": template})


def snapshot(*objects: Object, declared: Iterable[Object] = ()) -> Snapshot:
    """Return a cluster of these objects."""
    by_kind: dict[str, tuple[Object, ...]] = {}
    for each in objects:
        by_kind[kind_of(each)] = (*by_kind.get(kind_of(each), ()), each)
    return Snapshot(step="upgrade", objects=by_kind, declared=tuple(declared))


class NoServer:
    """An API server that has nothing and takes everything."""

    def get(self, path: str) -> Object:
        """Find nothing."""
        raise Refused(404, f"GET {path}: not found (404)")

    def dry_run(self, _path: str, manifest: Object) -> Object:
        """Admit it as it is."""
        return manifest


def outcome(
    checks: Iterable[Check],
    which: str,
    now: Snapshot,
    *,
    base: Snapshot | None = None,
    api: object = None,
    images: Iterable[str] = (),
) -> Outcome:
    """Return what one of the checks says."""
    (check,) = (each for each in checks if each.id == which)
    server = cast("Api", api or NoServer())
    return check.look(Look(now=now, base=base, api=server, images=frozenset(images)))


def said(*given: Any, **named: Any) -> list[str]:  # noqa: ANN401 - those of `outcome`
    """Return each finding of `outcome` as `OBJECT: MESSAGE`; each has a remedy of one line."""
    findings = outcome(*given, **named).findings
    assert all(each.remedy and "\n" not in each.remedy + each.message for each in findings)
    return [f"{each.object}: {each.message}" for each in findings]
