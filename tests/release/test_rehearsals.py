"""What is kept of a rehearsal of a release: a file that the gate `rehearsed` reads, and believes of two releases."""

import dataclasses as dc
from pathlib import Path
from typing import Any

import pytest

from infra.errors import BadInput, RunFailed
from infra.rehearsal.result import CheckResult, Found, Rehearsal, StepResult
from infra.release import canonical, rehearsals
from infra.release.releases import Release
from tests.release.history import released
from tests.release.place import START, add, begun, ended, repository

FOUND = Found(check="quota", step="upgrade", object="Job a/b", message="it does not fit", remedy="", before=False)
PASSED = CheckResult(
    check="admission", title="Admitted", evidence="executed", outcome="passed", findings=(), looked_at=512
)
FAILED = CheckResult(check="quota", title="Fits", evidence="executed", outcome="failed", findings=(FOUND,), looked_at=5)
CLEAN = Rehearsal(
    environment="prod",
    base="v1",
    candidate="v2",
    evidence="executed",
    started="2026-01-05T10:00:00+00:00",
    seconds=98.04,
    steps=(StepResult(name="install", ok=True, seconds=16.34, counts={"created": 3}),),
    checks=(PASSED,),
    objects=512,
)
FALLEN = dc.replace(CLEAN, steps=(dc.replace(CLEAN.steps[0], ok=False),))
OLD = dc.replace(FAILED, findings=(dc.replace(FOUND, before=True),))
SAID = "executed on 2026-01-05T10:00:00+00:00, "


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository."""
    return repository(tmp_path / "work")


@pytest.fixture
def two(root: Path) -> tuple[Release, Release]:
    """Two releases in it."""
    return released(root, START), released(root, START)


@pytest.mark.parametrize(
    ("found", "ok", "says"),
    [
        (CLEAN, True, "clean"),
        (dc.replace(CLEAN, checks=(PASSED, FAILED)), False, "quota failed"),
        (dc.replace(CLEAN, checks=(PASSED, OLD)), False, "quota failed"),
        (FALLEN, False, "install did not end well"),
        (dc.replace(CLEAN, checks=()), False, "nothing was tested"),
    ],
)
def test_what_was_found_is_kept_and_read(
    root: Path,
    two: tuple[Release, Release],
    found: Rehearsal,
    ok: bool,  # noqa: FBT001
    says: str,
) -> None:
    """Under the names of both releases, with what failed; also what the base had too keeps it from being clean."""
    was, to = two
    kept = rehearsals.keep(root, found, was, to)
    assert kept == root / f"releases/rehearsals/prod/{was.id}..{to.id}.json"
    read = rehearsals.kept(root, "prod", was.ref, to.ref)
    assert read is not None
    assert (read.base, read.candidate, read.ok, read.says) == (was.id, to.id, ok, SAID + says)
    assert read.digest == canonical.file_digest(kept)


def test_the_last_one_counts(root: Path, two: tuple[Release, Release]) -> None:
    """Whichever way it ended."""
    was, to = two
    for found in (CLEAN, FALLEN):
        rehearsals.keep(root, found, was, to)
        read = rehearsals.kept(root, "prod", was.ref, to.ref)
        assert read is not None
        assert read.ok == found.ok


def test_a_first_install_has_no_base(root: Path, two: tuple[Release, Release]) -> None:
    """It is none of an upgrade."""
    was, to = two
    assert rehearsals.kept(root, "prod", None, to.ref) is None
    rehearsals.keep(root, CLEAN, None, to)
    read = rehearsals.kept(root, "prod", None, to.ref)
    assert read is not None
    assert (read.base, read.ok) == ("first", True)
    assert rehearsals.kept(root, "prod", was.ref, to.ref) is None
    assert rehearsals.kept(root, "dev", None, to.ref) is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"environment": "dev"}, "it is of another rehearsal"),
        ({"schema": "kiban/rehearsal-of-release/v2"}, "it is of another rehearsal"),
        ({"from": None}, "it is of another rehearsal"),
        ({"to": {"id": "r20260302-111111111111", "digest": "1" * 64}}, "it is of another rehearsal"),
        ({"checks": None}, "not iterable"),
        ({"checks": [{}]}, "'outcome' is missing"),
    ],
)
def test_a_file_that_says_something_else_is_refused(
    root: Path, two: tuple[Release, Release], changed: dict[str, Any], said: str
) -> None:
    """In one line that names it."""
    was, to = two
    file = rehearsals.keep(root, CLEAN, was, to)
    canonical.write(file, canonical.decode(file.read_bytes()) | changed)
    with pytest.raises(RunFailed, match=said) as raised:
        rehearsals.kept(root, "prod", was.ref, to.ref)
    assert str(raised.value).startswith(f"releases/rehearsals/prod/{file.name}: ")
    assert str(raised.value).endswith("; rehearse it again")


def test_a_file_that_was_edited_or_cut_is_refused(root: Path, two: tuple[Release, Release]) -> None:
    """As is one that lacks a field."""
    was, to = two
    file = rehearsals.keep(root, FALLEN, was, to)
    whole = file.read_bytes()
    without = {key: value for key, value in canonical.decode(whole).items() if key != "failed"}
    for data in (whole.replace(b'"ok": false', b'"ok":  true'), whole[:-20], canonical.encode(without)):
        file.write_bytes(data)
        with pytest.raises(RunFailed, match="rehearse it again"):
            rehearsals.kept(root, "prod", was.ref, to.ref)
    file.write_bytes(whole.replace(b'"ok": false', b'"ok": true'))
    read = rehearsals.kept(root, "prod", was.ref, to.ref)
    assert read is not None
    assert not read.ok


def test_the_releases_that_a_rehearsal_is_of(root: Path, two: tuple[Release, Release]) -> None:
    """From what was said, else from what the environment runs by its record; none where the candidate is none."""
    was, to = two
    assert rehearsals.released(root, "prod", None, "HEAD", first=False) is None
    assert rehearsals.released(root, "prod", None, to.id, first=False) == (None, to)
    add(root, begun(was.ref), ended(1, was.ref), environment="prod")
    assert rehearsals.released(root, "prod", None, to.id, first=False) == (was, to)
    assert rehearsals.released(root, "prod", None, to.id, first=True) == (None, to)
    assert rehearsals.released(root, "prod", to.id, to.id, first=False) == (to, to)
    assert rehearsals.released(root, "dev", None, to.id, first=False) == (None, to)
    with pytest.raises(BadInput, match="'v1'; accepted: a release"):
        rehearsals.released(root, "prod", "v1", to.id, first=False)
