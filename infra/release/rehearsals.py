"""What is kept of a rehearsal of a release: releases/rehearsals/ENV/FROM..TO.json, which a gate asks for.

FROM is the release that the environment ran, or `first`.
"""

import dataclasses as dc
from pathlib import Path
from typing import Any

from infra.errors import RunFailed
from infra.rehearsal.result import Rehearsal
from infra.release import canonical, record, releases
from infra.release.entry import Ref
from infra.release.gates import FIRST, Rehearsed
from infra.release.releases import Release

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


def keep(root: Path, found: Rehearsal, base: Release | None, candidate: Release) -> Path:
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
        "checks": [
            {"check": each.check, "outcome": each.outcome, "evidence": each.evidence, "findings": len(each.findings)}
            for each in found.checks
        ],
        "findings": [
            {"check": each.check, "step": each.step, "object": each.object, "message": each.message}
            for each in found.findings
            if not each.before
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
    name = where.relative_to(root)
    try:
        document = canonical.decode(where.read_bytes())
    except ValueError as error:
        raise RunFailed(f"{name}: {error}; rehearse it again") from None
    said = [document.get(key) for key in ("schema", "environment", "from", "to")]
    if said != [SCHEMA, environment, base and dc.asdict(base), dc.asdict(candidate)]:
        raise RunFailed(f"{name}: it is of another rehearsal; rehearse it again")
    found = len(document["findings"])
    says = f"{document['evidence']} on {document['started']}, {f'{found} findings' if found else 'clean'}"
    return Rehearsed(
        base=base.id if base else FIRST,
        candidate=candidate.id,
        ok=bool(document["ok"]),
        digest=canonical.digest(document),
        says=says,
    )
