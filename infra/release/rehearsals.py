"""What is kept of a rehearsal of a release: releases/rehearsals/ENV/FROM..TO.json, which a gate asks for.

FROM is the release that the environment ran, or `first`.
"""

import dataclasses as dc
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.errors import RunFailed
from infra.release import canonical, record, releases
from infra.release.entry import Ref
from infra.release.gates import FIRST, Rehearsed
from infra.release.releases import Release

if TYPE_CHECKING:  # what is kept is read by verbs that rehearse nothing, and that brings clusters with it
    from infra.rehearsal.result import Rehearsal

SCHEMA = "kiban/rehearsal-of-release/v1"
_FOLDER = "releases/rehearsals"


def released(
    root: Path, environment: str, base: str | None, candidate: str, *, first: bool
) -> tuple[Release | None, Release] | None:
    """The releases that a rehearsal is of; None where its candidate is none.

    base: where nothing is said, and it is not the first, what the environment runs by its record; None: nothing.
    """
    if candidate not in releases.ids(root):
        return None
    ran = record.runs(record.read(root, environment))
    named = base or (ran.id if ran and not first else None)
    return releases.read(root, named) if named else None, releases.read(root, candidate)


def file(root: Path, environment: str, base: Ref | None, candidate: Ref) -> Path:
    """Where it is kept."""
    return root / _FOLDER / environment / f"{base.id if base else FIRST}..{candidate.id}.json"


def keep(root: Path, found: "Rehearsal", base: Release | None, candidate: Release) -> Path:
    """Write what a rehearsal of two releases found; the last one counts."""
    was, to = base.ref if base else None, candidate.ref
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "environment": found.environment,
        "from": was and dc.asdict(was),
        "to": dc.asdict(to),
        "ok": found.ok,
        "evidence": found.evidence,
        "started": found.started,
        "seconds": round(found.seconds),
        "faults": list(found.faults),
        "failed": list(found.failed),
        "checks": [
            {"check": each.check, "outcome": each.outcome, "evidence": each.evidence, "findings": len(each.findings)}
            for each in found.checks
        ],
        "findings": [
            {key: getattr(each, key) for key in ("check", "step", "object", "message", "before")}
            for each in found.findings
        ],
    }
    where = file(root, found.environment, was, to)
    canonical.write(where, document)
    return where


def kept(root: Path, environment: str, base: Ref | None, candidate: Ref) -> Rehearsed | None:
    """What is kept of the two; None where nothing is. Raises RunFailed for a file that says something else."""
    where = file(root, environment, base, candidate)
    if not where.exists():
        return None
    try:
        document = canonical.decode(where.read_bytes())
        said = [document[key] for key in ("schema", "environment", "from", "to")]
        if said != [SCHEMA, environment, base and dc.asdict(base), dc.asdict(candidate)]:
            raise ValueError("it is of another rehearsal")  # noqa: TRY301 - as what decode says
        return _found(document)
    except (KeyError, TypeError, ValueError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else error
        raise RunFailed(f"{where.relative_to(root)}: {why}; rehearse it again") from None


def _found(document: Mapping[str, Any]) -> Rehearsed:
    failed = [f"{each} did not end well" for each in document["failed"]]
    failed += [f"{each['check']} failed" for each in document["checks"] if each["outcome"] == "failed"]
    ok = document["ok"] is True and not failed
    told = ", ".join(failed) or ("clean" if ok else "nothing was tested")
    return Rehearsed(
        base=document["from"]["id"] if document["from"] else FIRST,
        candidate=document["to"]["id"],
        ok=ok,
        digest=canonical.digest(document),
        says=f"{document['evidence']} on {document['started']}, {told}",
    )
