"""What a rehearsal may claim: each rule with what breaks it."""

import dataclasses as dc

import pytest

from infra.rehearsal.look import Check, Evidence, Finding, Look, Outcome
from infra.rehearsal.result import CheckResult, Found, Outcomes, Rehearsal, StepResult, mended, summarise

DRAIN = Finding(object="PodDisruptionBudget team-a/digits", message="0 of 1 may be disrupted", remedy="two replicas")
FLOATS = Finding(object="Deployment kiban-metadata/mlflow", message="image mlflow:latest", remedy="a digest")


def never(_: Look) -> Outcome:
    """A check of a test has its outcome already."""
    raise AssertionError


def said(*findings: Finding, looked_at: int = 5, evidence: Evidence = "executed") -> Outcome:
    """An outcome of a check."""
    return Outcome(evidence=evidence, looked_at=looked_at, findings=findings)


def judged(first: bool = False, executes: bool = True, **outcomes: Outcome) -> CheckResult:  # noqa: FBT001, FBT002
    """What the one check says, given its outcomes by step."""
    (result,) = summarise([check(executes=executes)], steps(outcomes), first=first)
    return result


def check(*, executes: bool = True) -> Check:
    """A check."""
    return Check(id="drain", title="No budget blocks a drain", look=never, executes=executes)


def steps(outcomes: dict[str, Outcome]) -> Outcomes:
    """The check's outcomes as an orchestrator gives them: by step, then by check."""
    return {step.replace("_", " "): {"drain": outcome} for step, outcome in outcomes.items()}


def test_a_check_that_found_nothing_passes_with_what_it_looked_at() -> None:
    """The most things that it looked at in one step are said, not their sum."""
    assert judged(install=said(), upgrade=said(looked_at=7), upgrade_again=said(looked_at=6)) == CheckResult(
        check="drain",
        title="No budget blocks a drain",
        evidence="executed",
        outcome="passed",
        findings=(),
        looked_at=7,
    )


def test_a_check_that_looked_at_nothing_is_not_tested() -> None:
    """Neither where it saw nothing in any step nor where it was never asked."""
    for result in (judged(upgrade=said(looked_at=0)), judged()):
        assert (result.outcome, result.evidence, result.looked_at) == ("not-tested", "not-tested", 0)


def test_what_the_base_showed_says_nothing_of_the_candidate() -> None:
    """A check that looked at things in the base alone is not tested, also where a rollback brought them back."""
    assert judged(install=said()).outcome == "not-tested"
    assert judged(install=said(), upgrade=said(looked_at=0), rollback=said()).outcome == "not-tested"


def test_the_first_install_is_the_candidates() -> None:
    """Where there is no base, what `install` shows counts."""
    assert judged(first=True, install=said()).outcome == "passed"
    result = judged(first=True, install=said(DRAIN))
    assert (result.outcome, [found.before for found in result.findings]) == ("failed", [False])


def test_a_check_of_the_rollback_alone_is_judged_by_it() -> None:
    """It has no other step to look in."""
    assert judged(rollback=said()).outcome == "passed"


def test_simulation_alone_shows_nothing_that_needs_execution() -> None:
    """The check is not tested, and the evidence stays said; for one that needs none it is enough."""
    simulated = said(evidence="simulated")
    result = judged(upgrade=simulated)
    assert (result.outcome, result.evidence, result.looked_at) == ("not-tested", "simulated", 5)
    assert judged(executes=False, upgrade=simulated).outcome == "passed"


def test_the_weakest_evidence_decides() -> None:
    """One step that was simulated takes the claim back that another had executed."""
    result = judged(upgrade=said(), upgrade_again=said(evidence="simulated"))
    assert (result.outcome, result.evidence) == ("not-tested", "simulated")
    assert judged(upgrade=said(), second_up=said(looked_at=0, evidence="simulated")).outcome == "passed"
    assert judged(executes=False, upgrade=said(evidence="not-tested")).outcome == "not-tested"


def test_what_simulation_finds_counts() -> None:
    """A finding fails a check that needs execution, with the evidence of the step that it was found in."""
    result = judged(upgrade=said(DRAIN, evidence="simulated"), upgrade_again=said())
    assert (result.outcome, result.evidence) == ("failed", "simulated")


def test_a_finding_is_never_lost() -> None:
    """Not where the check says that it looked at nothing, and not of a check that nobody has declared."""
    assert judged(upgrade=said(DRAIN, looked_at=0)).outcome == "failed"
    with pytest.raises(ValueError, match="outcomes of quota; accepted: drain"):
        summarise([check()], {"upgrade": {"quota": said(DRAIN)}}, first=False)


def test_a_finding_of_several_steps_is_one() -> None:
    """It is listed with the first step; the same object with another message is another."""
    other = dc.replace(DRAIN, message="0 of 3 may be disrupted")
    result = judged(upgrade=said(DRAIN), second_up=said(DRAIN), upgrade_again=said(DRAIN, other))
    assert [(found.step, found.message) for found in result.findings] == [
        ("upgrade", DRAIN.message),
        ("upgrade again", other.message),
    ]


def test_a_finding_that_the_base_has_too_counts_and_says_so() -> None:
    """It would still hit the environment."""
    result = judged(install=said(DRAIN), upgrade=said(DRAIN, FLOATS))
    assert result.outcome == "failed"
    assert [(found.message, found.before) for found in result.findings] == [
        (DRAIN.message, True),
        (FLOATS.message, False),
    ]


def test_a_rollback_fails_by_what_the_base_did_not_have() -> None:
    """What it brings back was there before the upgrade."""
    assert judged(install=said(DRAIN), upgrade=said(), rollback=said(DRAIN)).outcome == "passed"
    result = judged(install=said(DRAIN), upgrade=said(), rollback=said(DRAIN, FLOATS))
    assert (result.outcome, result.findings) == (
        "failed",
        (Found(check="drain", step="rollback", before=False, **dc.asdict(FLOATS)),),
    )


def test_what_the_candidate_no_longer_has_is_mended() -> None:
    """Neither what a later step has again, nor what nobody looked for in the candidate."""
    base = said(DRAIN, FLOATS)
    gone = Found(check="drain", step="install", before=True, **dc.asdict(FLOATS))
    assert mended([check()], steps({"install": base, "upgrade": said(DRAIN)})) == (gone,)
    assert mended([check()], steps({"install": base, "upgrade": said(), "upgrade again": base})) == ()
    assert mended([check()], steps({"install": base, "upgrade": said(looked_at=0)})) == ()
    assert mended([check()], steps({"install": base, "rollback": said()})) == ()


def rehearsal(*steps: StepResult, checks: tuple[CheckResult, ...]) -> Rehearsal:
    """A rehearsal of an upgrade."""
    return Rehearsal(
        environment="prod",
        base="v1 (2ce80c5)",
        candidate="worktree",
        evidence="executed",
        started="2026-01-05T10:00:00+00:00",
        seconds=98.0,
        steps=steps,
        checks=checks,
        objects=512,
    )


def test_a_step_that_a_fault_has_stopped_counts_by_its_next_attempt() -> None:
    """An upgrade that fails under a fault and then goes through has converged; the other way round it has not."""
    done = StepResult(name="upgrade", ok=True, seconds=1.0, counts={})
    stopped = dc.replace(done, ok=False)
    assert rehearsal(stopped, done, checks=(judged(upgrade=said()),)).ok
    assert rehearsal(done, stopped, checks=(judged(upgrade=said()),)).failed == ("upgrade",)


def test_clean_is_every_step_done_nothing_found_and_something_shown() -> None:
    """A failed step, a finding and a rehearsal in which no check passed each end with status 1."""
    done = StepResult(name="upgrade", ok=True, seconds=1.0, counts={})
    passed, failed, untested = judged(upgrade=said()), judged(upgrade=said(DRAIN)), judged()
    assert rehearsal(done, checks=(passed, untested)).exit_status == 0
    assert rehearsal(dc.replace(done, ok=False), checks=(passed,)).exit_status == 1
    assert rehearsal(done, checks=(passed, failed)).exit_status == 1
    assert rehearsal(done, checks=(untested,)).exit_status == 1
    assert rehearsal(checks=()).exit_status == 1
