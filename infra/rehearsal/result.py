"""What a rehearsal found: its steps, what each check says of the candidate, and whether that is clean.

Nothing is run and nothing is printed here; the formats are in infra/rehearsal/report.py.
"""

import dataclasses as dc
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from infra.rehearsal.look import Check, Evidence, Finding, Outcome

Outcomes = Mapping[str, Mapping[str, Outcome]]
"""By step, in the order in which they were taken, and by the check's id."""

STEPS = ("install", "upgrade", "second up", "rollback", "upgrade again", "destroy")
_BASE = "install"
_BACK = "rollback"
_WEAKEST: tuple[Evidence, ...] = ("not-tested", "simulated", "executed")


@dc.dataclass(frozen=True, kw_only=True)
class StepResult:
    """A step of STEPS that was taken; it may have been taken more than once, under a fault and then without.

    counts: resources by what was done to them (infra/engine, Result.counts).
    """

    name: str
    ok: bool
    seconds: float
    counts: Mapping[str, int]


@dc.dataclass(frozen=True, kw_only=True)
class Found:
    """A finding, and in which step it was seen first. before: the base has it too."""

    check: str
    step: str
    object: str
    message: str
    remedy: str
    before: bool


@dc.dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What a check says of the candidate.

    evidence: the weakest of the steps that it was judged by, which are those with findings where it failed.
    looked_at: how many things it looked at in the one of these where they were most.
    """

    check: str
    title: str
    evidence: Evidence
    outcome: Literal["passed", "failed", "not-tested"]
    findings: tuple[Found, ...]
    looked_at: int


@dc.dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """A rehearsal that came to an end.

    base, candidate: a git ref and its commit, or `worktree`. base is None for a first install.
    evidence: `executed` where the cluster had a real node, `simulated` where all its nodes were.
    started: ISO 8601, UTC.
    faults: those that were asked for (`--fault`).
    mended: what is wrong in the base and no longer in the candidate.
    peak_memory_mib: of all processes of the cluster together; None where it was not measured.
    objects: how many the program declared at the install.
    """

    environment: str
    base: str | None
    candidate: str
    evidence: Literal["executed", "simulated"]
    started: str
    seconds: float
    steps: tuple[StepResult, ...]
    checks: tuple[CheckResult, ...]
    faults: tuple[str, ...] = ()
    mended: tuple[Found, ...] = ()
    peak_memory_mib: int | None = None
    objects: int

    @property
    def findings(self) -> tuple[Found, ...]:
        """The findings of all checks."""
        return tuple(found for check in self.checks for found in check.findings)

    @property
    def failed(self) -> tuple[str, ...]:
        """The steps that failed, also when they were taken for the last time."""
        last = {step.name: step.ok for step in self.steps}
        return tuple(name for name, ok in last.items() if not ok)

    @property
    def ok(self) -> bool:
        """Whether no step failed, nothing was found and a check passed: one that tested nothing is not clean."""
        passed = any(check.outcome == "passed" for check in self.checks)
        return passed and not self.findings and not self.failed

    @property
    def exit_status(self) -> int:
        """0 clean, 1 findings."""
        return 0 if self.ok else 1


def summarise(checks: Sequence[Check], outcomes: Outcomes, *, first: bool) -> tuple[CheckResult, ...]:
    """What each check says of the candidate, in the checks' order.

    first: there is no base, and `install` installs the candidate.

    - A finding counts in every step with the candidate, also one that the base has. In `rollback` only one that the
      base has not counts, and in the base's `install` none. The same object and message is the same finding, once.
    - Without findings a check is judged by the steps with the candidate that it looked at something in; one that was
      asked in `rollback` alone is judged by that. Where there is none it is not tested.
    - A check that needs execution is not tested where one of these steps was only simulated.

    Raises ValueError for an outcome of a check that is not among the checks: its findings would be lost.
    """
    known = {check.id for check in checks}
    unknown = {name for of_step in outcomes.values() for name in of_step} - known
    if unknown:
        raise ValueError(f"outcomes of {', '.join(sorted(unknown))}; accepted: {', '.join(sorted(known))}")
    base = () if first else (_BASE,)
    return tuple(_result(check, _said(check, outcomes), base) for check in checks)


def mended(checks: Sequence[Check], outcomes: Outcomes) -> tuple[Found, ...]:
    """The findings of the base that the candidate no longer has, of checks that looked at something of it."""
    found = []
    for check in checks:
        said = _said(check, outcomes)
        candidate = [each for step, each in said.items() if step not in {_BASE, _BACK}]
        if any(each.looked_at for each in candidate):
            still = _identities(candidate)
            base = said[_BASE].findings if _BASE in said else ()
            found += [_found(check, _BASE, each, before=True) for each in base if _identity(each) not in still]
    return tuple(found)


def _said(check: Check, outcomes: Outcomes) -> dict[str, Outcome]:
    return {step: of_step[check.id] for step, of_step in outcomes.items() if check.id in of_step}


def _result(check: Check, said: Mapping[str, Outcome], base: tuple[str, ...]) -> CheckResult:
    before = _identities(said[step] for step in base if step in said)
    counted = {
        step: [each for each in outcome.findings if step != _BACK or _identity(each) not in before]
        for step, outcome in said.items()
        if step not in base
    }
    once: dict[tuple[str, str], Found] = {}
    for step, findings in counted.items():
        for each in findings:
            once.setdefault(_identity(each), _found(check, step, each, before=_identity(each) in before))
    failed = [said[step] for step, findings in counted.items() if findings]
    judges = failed or [said[step] for step in _with_candidate(counted) if said[step].looked_at]
    evidence: Evidence = min((each.evidence for each in judges), key=_WEAKEST.index, default="not-tested")
    shown = evidence == "executed" or (evidence == "simulated" and not check.executes)
    return CheckResult(
        check=check.id,
        title=check.title,
        evidence=evidence,
        outcome="failed" if failed else "passed" if shown else "not-tested",
        findings=tuple(once.values()),
        looked_at=max((each.looked_at for each in judges), default=0),
    )


def _with_candidate(steps: Iterable[str]) -> list[str]:
    """The steps without `rollback`, unless that is all."""
    every = list(steps)
    return [step for step in every if step != _BACK] or every


def _identities(outcomes: Iterable[Outcome]) -> set[tuple[str, str]]:
    return {_identity(finding) for each in outcomes for finding in each.findings}


def _identity(finding: Finding) -> tuple[str, str]:
    return finding.object, finding.message


def _found(check: Check, step: str, finding: Finding, *, before: bool) -> Found:
    return Found(check=check.id, step=step, before=before, **dc.asdict(finding))
