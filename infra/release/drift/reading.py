"""What the last `up` left, out of a stack's state, and what is there now, in few calls."""

import dataclasses as dc
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from infra.kubectl import Kubectl, Object
from infra.sweep import Orphan, identity

_SKIPPED = frozenset({"Event"})  # nobody's, and many
_STEP = re.compile(r'\["([^"]*)"\]|\[(\d+)\]|([^.\[\]]+)')


@dc.dataclass(frozen=True, kw_only=True)
class Released:
    """An object of the state.

    manifest: as it was in the cluster once it had been applied, defaults and managedFields too.
    manager: as whom it was applied. version: of its API. at: when that was, RFC 3339.
    ignored: Pulumi's paths of what the program declares and leaves to others.
    """

    manifest: Object
    manager: str
    version: str
    at: str
    ignored: tuple[str, ...]

    @property
    def identity(self) -> Orphan:
        """The names by which it is found."""
        return identity(self.manifest)


def released(state: Mapping[str, Any]) -> tuple[Released, ...]:
    """The Kubernetes objects of a state (a Pulumi deployment)."""
    return tuple(
        Released(
            manifest=_dashed(outputs),
            manager=outputs["__fieldManager"],
            version=outputs["apiVersion"],
            at=resource.get("modified", ""),
            ignored=tuple(resource.get("ignoreChanges") or ()),
        )
        for resource in state.get("resources") or ()
        if resource.get("custom") and not resource.get("delete") and not resource.get("external")
        if "metadata" in (outputs := resource.get("outputs") or {}) and "__fieldManager" in outputs
    )


def _dashed(value: Any) -> Any:  # noqa: ANN401 - JSON
    """The value with the names `x-kubernetes-*` as they are, for which the provider keeps `x_kubernetes_*` (4.25)."""
    if isinstance(value, dict):
        return {
            key.replace("_", "-") if key.startswith("x_kubernetes_") else key: _dashed(each)
            for key, each in value.items()
        }
    return [_dashed(each) for each in value] if isinstance(value, list) else value


def without(manifest: Object, ignored: Iterable[str]) -> Object:
    """A copy of an object without what Pulumi's paths (`spec.rules[0].weight`) lead to."""
    copy: Object = json.loads(json.dumps(manifest)) if ignored else manifest
    for path in ignored:
        *steps, last = [name or (int(index) if index else plain) for name, index, plain in _STEP.findall(path)]
        inside: Any = copy
        try:
            for step in steps:
                inside = inside[step]
            del inside[last]
        except (KeyError, IndexError, TypeError):
            continue  # not there
    return copy


def live(kubectl: Kubectl, known: Iterable[Released]) -> list[Object]:
    """All objects of the cluster with their managedFields; those of kinds that are released in the released version."""
    versions: dict[tuple[str, str], set[str]] = {}
    for each in known:
        versions.setdefault((each.identity.group, each.identity.kind), set()).add(each.version)
    served = set(kubectl.run("api-versions").split())
    asked = []
    for line in kubectl.run("api-resources", "--verbs=list,delete", "--no-headers").splitlines():
        name, *_, preferred, _, kind = line.split()
        if kind in _SKIPPED:
            continue
        group = preferred.rpartition("/")[0]
        wanted = (versions.get((group, kind), set()) & served) or {preferred}
        asked += [f"{name}.{version.rpartition('/')[2]}.{group}" if group else name for version in wanted]
    answer = kubectl.run("get", ",".join(asked), "--all-namespaces", "--output=json", "--show-managed-fields")
    found: list[Object] = json.loads(answer)["items"]
    return found
