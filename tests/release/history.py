"""Releases and records as months of use leave them in a repository."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from infra.release import canonical, record, releases
from infra.release.entry import Begun, Check, Ended, Entry, Ref, Verdict, What
from infra.release.ladder import GATES
from infra.release.releases import Release
from tests.release.place import HASH, ME, git

CONTENTS: Mapping[str, Any] = {"program": {"kiban": HASH}, "charts": {}, "upstream": {}, "environments": {}}
GATED = tuple(Verdict(gate=gate, outcome="passed", says=f"{gate} is as it has to be") for gate in GATES)
LOOKED = tuple(
    Check(check=check, outcome="passed", evidence="executed", says=f"{check} are as they have to be")
    for check in ("up", "components", "models", "queues", "smoke", "objectives")
)


def released(root: Path, at: datetime, contents: Mapping[str, Any] = CONTENTS, *, message: str = "a change") -> Release:
    """Commit at that time, and write the release of the commit, which says that it has these contents."""
    when = at.isoformat()
    git(root, "commit", "--quiet", "--allow-empty", "--message", message, "--date", when, GIT_COMMITTER_DATE=when)
    commit = git(root, "rev-parse", "HEAD").strip()
    digest = canonical.digest({"schema": releases.SCHEMA, "commit": commit, "contents": contents})
    release = Release(id=f"r{at:%Y%m%d}-{digest[:12]}", commit=commit, contents=contents, digest=digest)
    canonical.write(releases.file(root, release.id), release.document)
    return release


def promotions(refs: Sequence[Ref]) -> list[What]:
    """Each of these releases comes in after the one before it, through every gate, and is verified."""
    whats: list[What] = []
    for base, release in zip([None, *refs], refs, strict=False):
        whats.append(Begun(verb="promote", release=release, base=base, gates=GATED, plan=HASH, ladder=HASH))
        whats.append(Ended(begun=len(whats), outcome="verified", checks=LOOKED, runs=release))
    return whats


def write(root: Path, environment: str, whats: Sequence[What], began: datetime, apart: timedelta) -> None:
    """Write a whole record at once: to append reads what is there each time."""
    previous = record.origin(environment)
    for number, what in enumerate(whats, 1):
        at = began + apart * (number - 1)
        entry = Entry(environment=environment, at=at, by=ME, what=what, number=number, previous=previous)
        canonical.write(record.file(root, environment, number), entry.document())
        previous = entry.hash
