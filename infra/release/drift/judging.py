"""From what the last `up` left and what is there now to findings: what was changed, and by whom.

A field that the program sets counts where its value differs, whoever owns it now, but for what an API gives to a
controller. A field, or an object, that the program does not set counts where no controller owns it.
"""

import dataclasses as dc
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from components._labels import ENVIRONMENT, TEAM
from infra.kubectl import Object
from infra.release.drift.fields import (
    MISSING,
    Json,
    Path,
    additions,
    bare,
    differences,
    hidden,
    merged,
    narrowed,
    text,
    touches,
)
from infra.release.drift.managers import Controllers, Entry, controllers, entries
from infra.release.drift.reading import Released, without
from infra.sweep import Orphan, identity, orphans

UNKNOWN = "not recorded"
"""The manager of what was taken away: managedFields tell who owns a field, not who removed one."""
_LONGEST, _BEFORE = 80, 20  # characters of a value, and of it before the first that differs
_COPY = "f:kubectl.kubernetes.io/last-applied-configuration"
_GOVERNING = frozenset({"LimitRange", "LocalQueue", "NetworkPolicy", "ResourceQuota", "Role", "RoleBinding"})
"""In a team's namespace objects of these kinds are not the team's; all others are its work."""
_BINDINGS = frozenset({"ClusterRoleBinding", "RoleBinding"})
_CHANGES = {
    "ClusterQueue": "quota",
    "ClusterRole": "rbac",
    "ClusterRoleBinding": "rbac",
    "Cohort": "quota",
    "CustomResourceDefinition": "definition",
    "LimitRange": "quota",
    "NetworkPolicy": "network policy",
    "ResourceQuota": "quota",
    "Role": "rbac",
    "RoleBinding": "rbac",
    "Secret": "secret",
}
_METADATA = {"f:labels": "label", "f:annotations": "annotation", "f:finalizers": "finalizer"}
_FIELDS = {"f:replicas": "scaled", "f:image": "image"}


@dc.dataclass(frozen=True, kw_only=True)
class Finding:
    """One difference.

    object: `Deployment kiban-metadata/mlflow`. field: "" for the object as a whole.
    released, live: the values, or of long ones where they differ; of a Secret, or where the state keeps a value
        encrypted, how a digest begins that is keyed anew in every run: it tells that two values of one report differ,
        and nothing about them.
    manager, at: who set it (UNKNOWN where that cannot be known) and when, RFC 3339; "" where that was not kept.
    change: scaled, image, label, annotation, finalizer, secret, rbac, network policy, quota, definition, edited; of
        objects deleted, recreated, added.
    """

    object: str
    field: str = ""
    released: str = ""
    live: str = ""
    manager: str = UNKNOWN
    at: str = ""
    change: str

    def as_item(self) -> dict[str, Any]:
        """The item of the verb's document."""
        return dc.asdict(self)


def findings(
    environment: str, state: Mapping[str, Any], known: Sequence[Released], live: Sequence[Object]
) -> tuple[Finding, ...]:
    """Judge all objects. environment: the value of its label. live: every object of the cluster."""
    by_version = {(identity(each), each["apiVersion"]): each for each in live}
    by_name = {identity(each): each for each in live}
    pairs = [
        (each, by_version.get((each.identity, each.version)) or by_name.get(each.identity))
        for each in sorted(known, key=lambda each: each.identity)
    ]
    spaces = {
        each.identity.name: TEAM in each.manifest["metadata"].get("labels", {})
        for each in known
        if each.identity.kind == "Namespace"
    }
    programs = controllers(
        [now for _, now in pairs if now],
        by_name.values(),
        [space for space, of_team in spaces.items() if not of_team],
    )
    judge = _Judge(programs, frozenset(each.manager for each in known))
    labelled = [each for each in live if each["metadata"].get("labels", {}).get(ENVIRONMENT) == environment]
    orphaned = set(orphans(labelled, state))
    others = sorted(by_name.keys() - {each.identity for each in known})
    return (
        *(finding for before, now in pairs for finding in judge.compared(before, now)),
        *(
            finding
            for name in others
            if name in orphaned or _governed(by_name[name], spaces)
            for finding in judge.unknown(name, by_name[name], orphaned=name in orphaned)
        ),
    )


def _governed(each: Object, spaces: Mapping[str, bool]) -> bool:
    """Whether it is for the program to say if an object is there. spaces: the platform's, to whether a team's."""
    if each["metadata"].get("ownerReferences"):
        return False
    if each["kind"] in _BINDINGS and any(one.get("namespace") in spaces for one in each.get("subjects") or ()):
        return True
    is_team = spaces.get(each["metadata"].get("namespace", ""))
    return is_team is False or (is_team is True and each["kind"] in _GOVERNING)


class _Judge:
    """programs: the controllers. kiban: the names that Kiban's own changes have."""

    def __init__(self, programs: Controllers, kiban: frozenset[str]) -> None:
        self._programs = programs
        self._kiban = kiban
        self._key = secrets.token_bytes(16)

    def unknown(self, name: Orphan, each: Object, *, orphaned: bool) -> Iterator[Finding]:
        """What people did to an object that the state does not know: they made it, or set a field of a controller's."""
        owners = entries(each)
        people = [entry for entry in owners if entry.manager not in self._programs and entry.manager not in self._kiban]
        if orphaned or (people and people[0] is owners[0]):
            yield _finding(name, next(iter(owners), None), change="added")
            return
        for entry in people:
            for path, value in additions(entry.fields, {}, each):
                yield self._field(name, path, MISSING, value, entry, veiled=False)

    def compared(self, before: Released, now: Object | None) -> Iterator[Finding]:
        """What was done to an object of the state."""
        if now is None:
            yield _finding(before.identity, None, change="deleted")
            return
        ends = now["metadata"].get("deletionTimestamp")
        if ends:
            yield dc.replace(_finding(before.identity, None, change="deleted"), at=ends)
        uids = before.manifest["metadata"].get("uid"), now["metadata"]["uid"]
        if uids[0] != uids[1]:
            made = next(iter(entries(now)), None)
            yield _finding(before.identity, made, change="recreated")
        yield from self._fields(before, now)

    def _fields(self, before: Released, now: Object) -> Iterator[Finding]:
        released, live = (without(each, before.ignored) for each in (before.manifest, now))
        program = merged(entry.fields for entry in entries(before.manifest) if entry.manager == before.manager)
        owners = entries(now)
        changed = {
            path: (was, value, _owner(owners, path, before.manager))
            for path, was, value in differences(program, released, live)
        }
        for entry in owners:
            if entry.manager in self._programs:
                continue
            for path, value in additions(entry.fields, program, live):
                changed.setdefault(path, (MISSING, value, entry))
        for path, (was, value, owner) in sorted(changed.items()):
            if not (owner and owner.manager in self._programs and _given_away(path, owner, released)):
                yield self._field(before.identity, path, was, value, owner, veiled=hidden(released, path))

    def _field(self, name: Orphan, path: Path, was: Json, value: Json, owner: Entry | None, *, veiled: bool) -> Finding:
        veiled = veiled or name.kind == "Secret" or path[-1] == _COPY
        where, old, new = narrowed(path, was, value)
        shown = _cut(self._shown(old, veiled=veiled), self._shown(new, veiled=veiled))
        return _finding(
            name,
            owner,
            change=_change(name.kind, where),
            field=text(where),
            released=shown[0],
            live=shown[1],
        )

    def _shown(self, value: Json, *, veiled: bool) -> str:
        if value is MISSING:
            return ""
        known = bare(value)
        said = known if isinstance(known, str) else json.dumps(known, sort_keys=True, separators=(",", ":"))
        if veiled:
            return f"secret {hmac.new(self._key, said.encode(), hashlib.sha256).hexdigest()[:12]}"
        return said


def _cut(old: str, new: str) -> tuple[str, str]:
    """Both at most so long, and from where they differ on if they are longer."""
    if max(len(old), len(new)) <= _LONGEST:
        return old, new
    same = next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, same - _BEFORE)
    head = "…" if start else ""
    old, new = (f"{head}{one[start : start + _LONGEST]}{'…' * (len(one) > start + _LONGEST)}" for one in (old, new))
    return old, new


def _owner(owners: Sequence[Entry], path: Path, kiban: str) -> Entry | None:
    """Who set what a path leads to, the last where there are several; Kiban's own name only where there is no other."""
    touching = [entry for entry in owners if touches(entry.fields, path)]
    others = [entry for entry in touching if entry.manager != kiban]
    return next(reversed(others or touching), None)


def _given_away(path: Path, owner: Entry, released: Object) -> bool:
    """Whether an API gives a field that the program sets to a controller.

    Replicas through the subresource that a HorizontalPodAutoscaler uses, the rules of an aggregated ClusterRole, and
    the authority that is injected into webhooks.
    """
    return (
        owner.subresource == "scale"
        or path[-1] == "f:caBundle"
        or (path == ("f:rules",) and "aggregationRule" in released)
    )


def _change(kind: str, path: Path) -> str:
    if path[0] == "f:metadata":
        return _METADATA.get(path[1], "edited")
    return _CHANGES.get(kind) or _FIELDS.get(path[-1], "edited")


def _finding(name: Orphan, owner: Entry | None, **what: str) -> Finding:
    if owner is None:
        return Finding(object=str(name), **what)
    return Finding(object=str(name), manager=owner.manager, at=owner.at, **what)
