"""Which release comes next into the lowest environment."""

import datetime as dt
from pathlib import Path

import pytest
from click.testing import CliRunner

import stacks
from infra import paths
from infra.cli import main
from infra.release import canonical, ladder, releases, view
from tests.release.bundle import commit
from tests.release.place import ONE, TWO, add, begun, ended, repository

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
LADDER = "rungs: [{environment: dev, gates: {}}]\n"


def released(root: Path, at: dt.datetime, number: int) -> str:
    """Write a release of a commit of that time, and return its id."""
    made = commit(root, GIT_COMMITTER_DATE=at.isoformat())
    document = {"schema": releases.SCHEMA, "commit": made, "contents": {"charts": {"models": str(number)}}}
    name = f"r{at:%Y%m%d}-{canonical.digest(document)[:12]}"
    canonical.write(releases.file(root, name), document | {"id": name})
    return name


def test_of_two_releases_of_a_day_the_one_of_the_newer_commit_is_next(tmp_path: Path) -> None:
    """Whichever of the two ids, which end with a digest, is the greater."""
    root = repository(tmp_path / "house")
    file = root / "stacks" / "ladder.yaml"
    file.write_text(LADDER)
    rungs = ladder.load(file, ("dev",))
    made: list[str] = []
    while len(made) < 2 or sorted(made) == made:  # until a newer one is named before an older one
        made.append(released(root, NOON + dt.timedelta(minutes=len(made)), len(made)))
        (standing,) = view.standings(root, rungs, NOON)
        assert standing.next
        assert standing.next.id == made[-1]


def test_the_table_says_that_something_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside what runs, or ran."""
    root = repository(tmp_path / "house")
    (root / "stacks" / "ladder.yaml").write_text(LADDER)
    add(root, begun(ONE), ended(1, ONE), begun(TWO, ONE))
    monkeypatch.setattr(paths, "ROOT", root)
    monkeypatch.setattr(stacks, "names", lambda: ("dev",))
    printed = CliRunner().invoke(main, ["status"]).stdout
    assert f"promote of {TWO.id} under way, or cut off" in " ".join(printed.split())
