"""How each environment stands, by the records alone: what runs, what is next, what blocks it and until when."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from infra.errors import BadInput
from infra.release import record, view
from infra.release.entry import Check, Ended, Hold, Lift, Ref, Verdict
from infra.release.ladder import GATES
from infra.release.record import Tampered
from infra.release.view import Standing
from tests.release.history import released
from tests.release.place import ONE, START, TWO, add, begun, ended, entry, repository

HOUR = timedelta(hours=1)
NOW = START + timedelta(days=4)  # a Friday, 9:00 UTC
ENVIRONMENTS = ("dev", "staging", "prod")
SMOKE = Check(check="smoke", outcome="failed", evidence="executed", says="the Job of a failed")
FREE = """
rungs:
  - {environment: dev, gates: {}}
  - {environment: staging, after: dev, gates: {}}
  - {environment: prod, after: staging, gates: {}}
"""
Stand = Callable[..., Standing]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with three rungs, and no gate but those that are always there."""
    root = repository(tmp_path / "work")
    (root / "stacks" / "ladder.yaml").write_text(FREE)
    return root


@pytest.fixture
def stand(root: Path) -> Stand:
    """Return how an environment stands so long after START, where some texts of the ladder are others."""

    def of(environment: str, after: timedelta = NOW - START, ladder: str = FREE) -> Standing:
        (root / "stacks" / "ladder.yaml").write_text(ladder)
        found = {each.rung.environment: each for each in view.standings(root, ENVIRONMENTS, START + after)}
        assert tuple(found) == ENVIRONMENTS
        return found[environment]

    return of


@pytest.fixture
def two(root: Path) -> tuple[Ref, Ref]:
    """Two releases of the days before."""
    return released(root, START - 48 * HOUR).ref, released(root, START - 24 * HOUR).ref


def of_staging(gates: str) -> str:
    """Return a ladder with other gates in staging."""
    return FREE.replace("after: dev, gates: {}", f"after: dev, gates: {gates}")


def gates(standing: Standing) -> list[str]:
    """The gates that block what is next."""
    return [each.gate for each in standing.blocked_by]


def test_nothing_was_promoted_yet(stand: Stand) -> None:
    """Nor is there a release; a hold alone changes nothing about that."""
    standing = stand("dev")
    assert (standing.runs, standing.since, standing.next, standing.blocked_by) == (None, None, None, ())
    assert standing.says == "nothing was promoted yet"


def test_a_hold_before_anything_was_promoted_is_no_failure(root: Path, stand: Stand) -> None:
    """It is said beside how the environment stands, until it is lifted."""
    add(root, Hold(reason="not yet"))
    assert stand("dev").says == "nothing was promoted yet; hold: not yet"
    add(root, Lift(reason="now"))
    assert stand("dev").says == "nothing was promoted yet"
    assert stand("dev").held is None


def test_what_runs_since_when_and_by_whom(root: Path, stand: Stand, two: tuple[Ref, Ref]) -> None:
    """As of the entry that verified it."""
    add(root, begun(two[1]), ended(1, two[1]))
    standing = stand("dev")
    assert (standing.runs, standing.next) == (two[1], None)
    assert standing.since is not None
    assert standing.since.number == 2
    assert standing.as_item() == {
        "environment": "dev",
        "runs": two[1].id,
        "since": "2026-03-02T10:00:00Z",
        "by": "Ada",
        "says": "since 2026-03-02T10:00:00Z, by Ada",
        "next": None,
        "blocked_by": [],
        "passes": None,
    }


def test_what_is_under_way_or_ended_badly_is_said(root: Path, stand: Stand, two: tuple[Ref, Ref]) -> None:
    """With the entry to look at."""
    one, other = two
    add(root, begun(one), ended(1, one), begun(other, one))
    standing = stand("dev")
    assert standing.says == f"promote of {other.id} under way, or cut off, since 2026-03-02T11:00:00Z"
    assert (standing.runs, standing.since, gates(stand("staging"))) == (one, None, ["below"])
    add(root, ended(3, None, "failed"))
    assert stand("dev").says == "runs nothing whole since 2026-03-02T12:00:00Z (entry 4)"
    add(root, begun(one, verb="rollback", because=3), Ended(begun=5, outcome="failed", checks=(), runs=one))
    assert stand("dev").says == "not verified since 2026-03-02T14:00:00Z (entry 6)"


def test_next_is_what_the_rung_below_runs(root: Path, stand: Stand, two: tuple[Ref, Ref]) -> None:
    """For the lowest one the newest release; nothing where it runs already."""
    add(root, begun(two[0]), ended(1, two[0]))
    assert (stand("dev").next, stand("staging").next, stand("prod").next) == (two[1], two[0], None)
    assert (stand("dev").blocked_by, stand("dev").passes) == ((), None)
    add(root, begun(two[0]), ended(1, two[0]), environment="staging")
    assert (stand("staging").next, stand("prod").next) == (None, two[0])


def test_of_two_releases_of_one_day_the_later_commit_is_the_newest(root: Path, stand: Stand) -> None:
    """Their names do not tell: what follows the day is a digest's."""
    made = [released(root, START)]
    while made[-1] == max(made, key=lambda each: each.id):
        made.append(released(root, START + len(made) * timedelta(minutes=1)))
    assert stand("dev").next == made[-1].ref


def test_a_hold_blocks_and_drift_is_left_to_the_cluster(root: Path, stand: Stand, two: tuple[Ref, Ref]) -> None:
    """Nobody has looked for drift, and that is no reason here."""
    add(root, begun(two[0]), ended(1, two[0]))
    for what in (begun(two[1]), ended(1, two[1]), Hold(reason="auditors")):
        add(root, what, environment="staging")
    standing = stand("staging", ladder=of_staging("{drift: none}"))
    assert gates(standing) == ["hold"]
    assert standing.passes is None
    assert standing.says.endswith("; hold: auditors")


def test_when_waiting_alone_lets_it_in(root: Path, stand: Stand, two: tuple[Ref, Ref]) -> None:
    """Also where one gate opens while another is shut: the soak ends in the weekend's freeze."""
    add(root, begun(two[0]), ended(1, two[0]))  # at START + 1 h
    soak = of_staging("{soak: 4d}")
    assert stand("staging", 2 * HOUR, soak).passes == START + timedelta(days=4, hours=1)
    assert stand("staging", timedelta(days=5), soak).blocked_by == ()
    weekend = '{days: [fri, sat, sun], from: "00:00", until: "00:00", zone: UTC, why: nobody}'
    frozen = of_staging(f"{{soak: 4d, freeze: [{weekend}]}}")
    standing = stand("staging", 2 * HOUR, frozen)
    assert gates(standing) == ["soak"]
    assert standing.passes == START + timedelta(days=6, hours=15)  # Monday, 0:00
    assert standing.as_item()["passes"] == "2026-03-09T00:00:00Z"
    assert stand("staging", 2 * HOUR, of_staging("{soak: 4d, max_age: 3d}")).passes is None  # too old by then
    assert stand("staging", 2 * HOUR, of_staging("{soak: 4d, signed: true}")).passes is None


def test_a_release_that_failed_there_before_is_said(root: Path, stand: Stand, two: tuple[Ref, Ref]) -> None:
    """And only of that release, and only there."""
    one, other = two
    add(root, begun(one), ended(1, one), begun(other, one), ended(3, None, "failed"))
    add(root, begun(one, verb="rollback", because=3), ended(5, one))
    standing = stand("dev")
    assert standing.next == other
    assert standing.failed is not None
    assert standing.failed.number == 4
    assert stand("staging").failed is None
    add(root, begun(other, one), ended(7, other))
    newer = released(root, START)
    assert stand("dev").next == newer.ref
    assert stand("dev").failed is None


def test_what_cannot_be_told_is_refused(root: Path, stand: Stand, two: tuple[Ref, Ref]) -> None:
    """A record that was altered, a clock that is behind it, a release that this checkout lacks."""
    add(root, begun(two[0]), ended(1, two[0]))
    with pytest.raises(BadInput, match="clocks that disagree"):
        stand("staging", timedelta())
    (root / "releases" / f"{two[0].id}.json").unlink()
    with pytest.raises(BadInput, match=f"release '{two[0].id}'; accepted: a release"):
        stand("staging")
    record.file(root, "dev", 1).unlink()
    with pytest.raises(Tampered, match=r"000001\.json: missing"):
        stand("prod")


def test_an_entry_is_told_in_one_line() -> None:
    """With what was bypassed and why, and with what failed."""
    past = Verdict(gate="soak", outcome="bypassed", says="1 h of 3 d", reason="it burns")
    passed = tuple(Verdict(gate=each, outcome="passed", says="well") for each in GATES if each != "soak")
    told = [
        view.line(entry(what))
        for what in (
            begun(TWO, ONE, gates=(*passed, past)),
            Ended(begun=5, outcome="failed", checks=(SMOKE,), runs=None),
            begun(ONE, None, verb="rollback", because=5),
            ended(7, ONE),
            Hold(reason="auditors"),
            Lift(reason="they left"),
        )
    ]
    assert told == [
        f"promote {TWO.id} over {ONE.id} begins; soak bypassed (it burns)",
        "entry 5 ends: failed; smoke: the Job of a failed; runs nothing whole",
        f"rollback {ONE.id} over nothing, because of entry 5 begins",
        f"entry 7 ends: verified; runs {ONE.id}",
        "hold: auditors",
        "lift: they left",
    ]
