"""The gates: each fails for what it is there for, says what would let it pass, and when; the rest is refused."""

import dataclasses as dc
from collections.abc import Callable, Mapping
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from infra.errors import BadInput
from infra.release.approvals import Approval
from infra.release.entry import Entry, Hold, Lift, Verdict, What
from infra.release.gates import FIRST, Facts, Rehearsed, judge, since
from infra.release.ladder import GATES, Approvals, Gates, Rung, Weekly
from tests.release.place import ONE, START, THREE, TWO, begun, ended, placed

HOUR = timedelta(hours=1)
NOW = START + 100 * HOUR  # Friday 13:00 UTC, 14:00 in Berlin
WEEKEND = Weekly(
    windows=((4, 3),), begins=time(16), ends=time(8), zone=ZoneInfo("Europe/Berlin"), why="nobody is there"
)
GATED = Gates(
    signed=True,
    max_age=timedelta(days=30),
    soak=timedelta(hours=72),
    rehearsed=True,
    undrifted=True,
    approvals=Approvals(count=2),
    freezes=(WEEKEND,),
)
PROD = Rung(environment="prod", after="staging", gates=GATED, not_bypassable=("signed", "below"))
BELOW = placed(begun(TWO, ONE), ended(1, TWO), environment="staging")
HERE = placed(begun(ONE), ended(1, ONE), environment="prod")
REHEARSED = Rehearsed(base=ONE.id, candidate=TWO.id, ok=True, digest="e" * 64, says="24 checks passed")
PASSING = Facts(
    now=NOW,
    release=TWO,
    committed=START - 24 * HOUR,
    here=HERE,
    below=BELOW,
    signer="ada@example.org",
    rehearsal=REHEARSED,
    approvals=(Approval(file="b.json", principal="bob"), Approval(file="c.json", principal="cy")),
    approvers=("bob", "cy", "dan"),
    drift=(),
)


def verdicts(rung: Rung = PROD, **changed: Any) -> Mapping[str, Verdict]:  # noqa: ANN401 - a field's
    """What the gates say where some facts are others."""
    return {each.gate: each for each in judge(rung, dc.replace(PASSING, **changed))}


def outcomes(found: Mapping[str, Verdict], outcome: str) -> list[str]:
    """The gates that ended so."""
    return [gate for gate, each in found.items() if each.outcome == outcome]


def staging(*whats: What) -> tuple[Entry, ...]:
    """A record of the rung below, an hour a step."""
    return placed(*whats, environment="staging")


def prod(*whats: What) -> tuple[Entry, ...]:
    """A record of the rung's environment."""
    return placed(*whats, environment="prod")


def test_a_release_that_has_all_passes_in_order() -> None:
    """Each gate with its evidence, and no other is there."""
    found = judge(PROD, PASSING)
    assert [each.gate for each in found] == list(GATES)
    assert {each.outcome for each in found} == {"passed"}
    says = {each.gate: each.says for each in found}
    assert says == {
        "signed": "signed by ada@example.org",
        "age": "its commit is 5 d 4 h old, of 30 d at most: until 2026-03-31T09:00:00Z (Tue 11:00 Europe/Berlin)",
        "below": "verified in staging since 2026-03-02T10:00:00Z (Mon 11:00 Europe/Berlin), entry 2, and runs there",
        "soak": "it runs in staging for 4 d 3 h of 3 d",
        "rehearsed": f"rehearsed from {ONE.id} to {TWO.id}: 24 checks passed (eeeeeeeeeeee)",
        "drift": f"prod is as released in {ONE.id}",
        "approvals": "2 of 2: by bob, cy",
        "freeze": "none at 2026-03-06T13:00:00Z (Fri 14:00 Europe/Berlin)",
        "hold": "none",
    }


FAILING: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        "signed",
        {"signer": None, "unsigned": "no signature"},
        ["no signature; sign it: kiban release cut REF --key FILE"],
    ),
    ("age", {"committed": NOW - timedelta(days=31)}, ["31 d old, of 30 d at most; cut a release of a newer commit"]),
    ("age", {"committed": NOW + HOUR}, ["2026-03-06T14:00:00Z (Fri 15:00 Europe/Berlin)", "it passes from then on"]),
    (
        "soak",
        {"now": START + 2 * HOUR},
        ["for 1 h of 3 d; it passes on 2026-03-05T10:00:00Z (Thu 11:00 Europe/Berlin)"],
    ),
    ("rehearsed", {"rehearsal": None}, [f"kiban rehearse prod --from {ONE.id} --to {TWO.id}"]),
    (
        "rehearsed",
        {"rehearsal": dc.replace(REHEARSED, ok=False, says="3 findings")},
        ["3 findings; mend what it found"],
    ),
    ("rehearsed", {"rehearsal": dc.replace(REHEARSED, base=FIRST)}, [f"from first to {TWO.id}, not from {ONE.id} to"]),
    ("rehearsed", {"rehearsal": dc.replace(REHEARSED, candidate=THREE.id)}, [f"to {THREE.id}, not from {ONE.id} to"]),
    (
        "rehearsed",
        {"here": ()},
        [f"not from first to {TWO.id}; rehearse it: kiban rehearse prod --first --to {TWO.id}"],
    ),
    ("rehearsed", {"here": prod(begun(THREE), ended(1, THREE))}, [f"not from {THREE.id} to {TWO.id}"]),
    ("drift", {"drift": None}, ["nobody has looked; look: kiban drift prod"]),
    ("drift", {"drift": ("Deployment a/b: scaled by kubectl", "c")}, ["scaled by kubectl and 1 more; see kiban drift"]),
    (
        "approvals",
        {"approvals": PASSING.approvals[:1]},
        [f"1 of 2: by bob; kiban approve {TWO.id} prod --key FILE, by 1 of cy, dan"],
    ),
    (
        "approvals",
        {"approvals": (PASSING.approvals[0], Approval(file="c.json", principal="cy", why="forged"))},
        ["1 of 2: by bob; not counted: c.json: forged; kiban approve"],
    ),
    ("approvals", {"approvals": (PASSING.approvals[0],) * 2}, ["1 of 2: by bob"]),
    (
        "approvals",
        {"approvals": (), "approvers": ("bob",)},
        ["0 of 2: by nobody; stacks/signers has 1 who could; add a line for each: ADDRESS ssh-ed25519 KEY"],
    ),
    (
        "freeze",
        {"now": datetime.fromisoformat("2026-03-07T12:00Z")},
        [
            "nobody is there: from 2026-03-06T15:00:00Z (Fri 16:00 Europe/Berlin) until ",
            "it passes on 2026-03-09T07:00:00Z (Mon 08:00 Europe/Berlin)",
        ],
    ),
    (
        "hold",
        {"here": (*HERE, *prod(begun(ONE), ended(1, ONE), Hold(reason="exhibition"))[2:])},
        [
            "held by Ada since 2026-03-02T11:00:00Z (Mon 12:00 Europe/Berlin) (entry 3): exhibition; it passes when",
            "kiban lift prod",
        ],
    ),
]


@pytest.mark.parametrize(("gate", "changed", "said"), FAILING)
def test_a_gate_fails_alone_and_says_what_would_let_it_pass(
    gate: str, changed: dict[str, Any], said: list[str]
) -> None:
    """And, where time would, when: by UTC and by the clocks of the rung."""
    found = verdicts(**changed)
    assert outcomes(found, "failed") == [gate]
    for words in said:
        assert words in found[gate].says


def test_each_gate_has_a_case_that_fails_it() -> None:
    """But the rung below, which takes the soak with it."""
    assert {gate for gate, _, _ in FAILING} == set(GATES) - {"below"}


@pytest.mark.parametrize(
    ("below", "said"),
    [
        ((), f"staging runs no release; promote it there first: kiban promote {TWO.id} staging"),
        (staging(begun(ONE), ended(1, ONE)), f"staging runs {ONE.id}; promote"),
        (staging(begun(TWO)), "staging: what began on 2026-03-02T09:00:00Z"),
        (staging(begun(TWO), ended(1, TWO), begun(THREE, TWO)), "(entry 3) has not ended; let it end, or run it again"),
        (staging(begun(TWO), ended(1, TWO), begun(TWO, TWO)), "(entry 3) has not ended"),
        (staging(begun(TWO), ended(1, TWO, "failed")), "staging runs it, but its last look there did not end as"),
        (staging(begun(TWO), ended(1, None, "failed")), "staging runs no release"),
        (
            staging(begun(TWO), ended(1, TWO), begun(THREE, TWO), ended(3, TWO, "interrupted")),
            "did not end as verified",
        ),
        (
            staging(begun(TWO), ended(1, TWO), begun(THREE, TWO), ended(3, None, "failed")),
            "staging runs no release",
        ),
    ],
)
def test_it_must_run_below_and_be_verified_there(below: tuple[Entry, ...], said: str) -> None:
    """Nothing else, nothing half."""
    found = verdicts(below=below)
    assert outcomes(found, "failed") == ["below", "soak"]
    assert said in found["below"].says


def test_a_release_of_the_same_name_is_not_the_same() -> None:
    """The digest counts."""
    other = dc.replace(TWO, digest=TWO.digest[:-1] + "0")
    assert "below" in outcomes(verdicts(below=staging(begun(other), ended(1, other))), "failed")


@pytest.mark.parametrize(
    ("whats", "entry"),
    [
        ([begun(TWO), ended(1, TWO)], 2),
        ([begun(TWO), ended(1, TWO), begun(TWO, TWO), ended(3, TWO)], 2),
        ([begun(TWO), ended(1, TWO), Hold(reason="a"), Lift(reason="b")], 2),
        ([begun(TWO), ended(1, TWO), begun(THREE, TWO), ended(3, THREE), begun(TWO, THREE), ended(5, TWO)], 6),
        (
            [
                begun(TWO),
                ended(1, TWO),
                begun(THREE, TWO),
                ended(3, None, "failed"),
                begun(TWO, None, verb="rollback", because=3),
                ended(5, TWO),
            ],
            6,
        ),
        ([begun(TWO), ended(1, TWO), begun(TWO, TWO), ended(3, TWO, "failed"), begun(TWO, TWO), ended(5, TWO)], 6),
        ([begun(TWO), ended(1, TWO), begun(THREE, TWO)], None),
        ([begun(TWO)], None),
    ],
    ids=("once", "once more", "a hold", "another meanwhile", "taken back", "failed meanwhile", "open", "never"),
)
def test_the_clock_of_the_soak_starts_again_when_another_comes_in(whats: list[What], entry: int | None) -> None:
    """It counts from the entry since which the release has run without interruption."""
    found = since(staging(*whats), TWO)
    assert (found.number if found else None) == entry


@pytest.mark.parametrize(("seconds", "outcome"), [(-1, "failed"), (0, "passed")])
def test_the_soak_ends_to_the_second(seconds: int, outcome: str) -> None:
    """From the end of the verification."""
    found = verdicts(now=START + 73 * HOUR + timedelta(seconds=seconds))
    assert found["soak"].outcome == outcome


@pytest.mark.parametrize(("seconds", "outcome"), [(0, "passed"), (1, "failed")])
def test_the_age_ends_to_the_second(seconds: int, outcome: str) -> None:
    """From the date of the commit."""
    found = verdicts(committed=NOW - timedelta(days=30, seconds=seconds))
    assert found["age"].outcome == outcome


def test_an_environment_that_runs_nothing_is_rehearsed_from_first() -> None:
    """And has nothing that it could differ from, unless somebody has looked."""
    first = dc.replace(REHEARSED, base=FIRST)
    found = verdicts(here=(), rehearsal=first, drift=None)
    assert outcomes(found, "failed") == []
    assert found["drift"].says == "prod runs no release that it could differ from"
    assert outcomes(verdicts(here=(), rehearsal=first, drift=("a",)), "failed") == ["drift"]


def test_a_rung_without_gates_asks_for_the_rung_below_and_no_hold() -> None:
    """These are always asked; on the lowest rung the hold alone."""
    bare = dc.replace(PASSING, signer=None, rehearsal=None, approvals=(), drift=None, committed=START - 9999 * HOUR)
    found = {each.gate: each for each in judge(dc.replace(PROD, gates=Gates()), bare)}
    assert outcomes(found, "passed") == ["below", "hold"]
    lowest = Rung(environment="prod", after=None, gates=Gates(soak=HOUR))
    found = {each.gate: each for each in judge(lowest, dc.replace(bare, below=()))}
    assert outcomes(found, "passed") == ["hold"]
    assert set(outcomes(found, "off")) == set(GATES) - {"hold"}


@pytest.mark.parametrize(("gate", "changed", "_"), FAILING)
def test_a_bypass_is_in_the_verdict(gate: str, changed: dict[str, Any], _: object) -> None:
    """With its reason and the evidence that it goes against; other gates are judged as before."""
    allowed = dc.replace(PROD, not_bypassable=())
    found = verdicts(allowed, **changed, bypasses={gate: "it burns"})
    assert outcomes(found, "bypassed") == [gate]
    assert outcomes(found, "failed") == []
    assert found[gate].reason == "it burns"
    assert found[gate].says == verdicts(**changed)[gate].says


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"bypasses": {"sign": "it burns"}}, "--bypass sign; accepted: signed, age, below"),
        ({"drift": None, "bypasses": {"drift": " "}}, "--bypass drift: it has no reason"),
        ({"below": (), "bypasses": {"below": "a"}}, "--bypass below: not allowed in prod (stacks/ladder.yaml)"),
        ({"bypasses": {"drift": "a"}}, f"--bypass drift: it is passed (prod is as released in {ONE.id})"),
    ],
)
def test_a_bypass_that_is_none_is_refused(changed: dict[str, Any], said: str) -> None:
    """As bad input, before anything is done."""
    with pytest.raises(BadInput) as refused:
        verdicts(**changed)
    assert said in str(refused.value)


def test_a_bypass_of_a_gate_that_is_off_is_refused() -> None:
    """The caller thinks of another rung."""
    with pytest.raises(BadInput, match=r"--bypass drift: it is off \(not asked for\)"):
        verdicts(dc.replace(PROD, gates=Gates()), bypasses={"drift": "a"})


@pytest.mark.parametrize("facts", [dc.replace(PASSING, here=()), dc.replace(PASSING, below=())], ids=("below", "here"))
def test_clocks_that_disagree_are_bad_input(facts: Facts) -> None:
    """Of either environment's record."""
    with pytest.raises(BadInput, match="clocks that disagree"):
        judge(PROD, dc.replace(facts, now=START - HOUR))


def test_what_is_judged_can_be_recorded() -> None:
    """Each verdict, passed, failed or bypassed, is one that an entry can have."""
    makes: list[Callable[[], list[Verdict]]] = [lambda: judge(PROD, PASSING)]
    makes += [lambda changed=changed: judge(PROD, dc.replace(PASSING, **changed)) for _, changed, _ in FAILING]  # type: ignore[misc]
    for make in makes:
        (entry,) = placed(begun(TWO, gates=tuple(make())))
        assert len(entry.hash) == 64
