"""What an `up` would do, kept in a file so that it can be reviewed and then be done, and nothing else."""

import dataclasses as dc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.errors import BadInput, RunFailed
from infra.release import canonical

_STATEFUL = ("PersistentVolumeClaim", "StatefulSet", "PersistentVolume", "CustomResourceDefinition", "Namespace")
_LOST = {"replaced", "deleted"}


@dc.dataclass(frozen=True, kw_only=True)
class Plan:
    """What an `up` of a release would do. changes: as `preview` tells them; counts: by what is done."""

    file: Path
    digest: str
    changes: tuple[Mapping[str, Any], ...]
    counts: Mapping[str, int]

    @property
    def permanent(self) -> tuple[str, ...]:
        """What of it does not come back with a rollback, by name."""
        return tuple(
            f"{each['resource']} is {each['change']}: what it holds does not come back with a rollback"
            for each in self.changes
            if each["change"] in _LOST and str(each["resource"]).startswith(_STATEFUL)
        )

    def lacks(self, done: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """What an `up` has changed, by the items of its document, beyond the plan."""
        planned = {(each["change"], each["resource"]) for each in self.changes}
        return [each for each in done if "change" in each and (each["change"], each["resource"]) not in planned]


def kept(file: Path, items: Sequence[Mapping[str, Any]]) -> Plan:
    """The plan that `preview` has just kept in a file, of which it told these items; they are kept beside it."""
    canonical.write(_told(file), {"items": items})
    return _made(file, items)


def reviewed(file: Path, digest: str) -> Plan:
    """A plan that a dry run has kept. Raises RunFailed where it is another than was reviewed."""
    if not canonical.SHA256.fullmatch(digest):
        raise BadInput(f"--reviewed {digest}; accepted: the 64 digits that `promote --dry-run` has said of the plan")
    try:
        found = canonical.file_digest(file)
        items = canonical.decode(_told(file).read_bytes())["items"]
    except (OSError, ValueError) as error:
        raise BadInput(
            f"--plan {file}: {error}; accepted: what `promote --dry-run --save-plan FILE` has kept"
        ) from None
    if found != digest:
        raise RunFailed(
            f"{file} is not the plan that was reviewed ({digest[:12]}…): it is {found[:12]}…; nothing was changed"
        )
    return _made(file, items)


def _made(file: Path, items: Sequence[Mapping[str, Any]]) -> Plan:
    return Plan(
        file=file,
        digest=canonical.file_digest(file),
        changes=tuple(each for each in items if "change" in each),
        counts=next((each["changes"] for each in items if "done" in each), {}),
    )


def _told(plan: Path) -> Path:
    """What `preview` told, beside the plan."""
    return plan.with_name(f"{plan.name}.changes")
