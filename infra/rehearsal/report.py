"""A rehearsal as items of a report (infra/report.py), and in one line.

For a pull request: infra/rehearsal/markdown.py. For what reads results of tests: infra/rehearsal/junit.py.
"""

from collections import Counter
from typing import Any

from infra.rehearsal.result import CheckResult, Rehearsal

_PASSED = {"executed": "passed by execution", "simulated": "passed by simulation"}


def items(rehearsal: Rehearsal) -> list[dict[str, Any]]:
    """The rehearsal, its steps, its checks, what it mends and what it found, as docs/reference/rehearsal.schema.json.

    A table shows the items that have its first column, so that of the steps begins with `ok`: findings have a step too.
    """
    return [
        {
            "rehearsal": rehearsal.environment,
            "base": rehearsal.base,
            "candidate": rehearsal.candidate,
            "evidence": rehearsal.evidence,
            "faults": list(rehearsal.faults),
            "started": rehearsal.started,
            "seconds": round(rehearsal.seconds, 1),
            "objects": rehearsal.objects,
            "peak_memory_mib": rehearsal.peak_memory_mib,
        },
        *(
            {"step": step.name, "ok": step.ok, "seconds": round(step.seconds, 1), "changes": dict(step.counts)}
            for step in rehearsal.steps
        ),
        *(
            {
                "check": check.check,
                "title": check.title,
                "outcome": check.outcome,
                "evidence": check.evidence,
                "looked_at": check.looked_at,
                "findings": len(check.findings),
            }
            for check in rehearsal.checks
        ),
        *({"mended": found.check, "object": found.object, "message": found.message} for found in rehearsal.mended),
        *(
            {
                "finding": found.check,
                "step": found.step,
                "object": found.object,
                "message": found.message,
                "remedy": found.remedy,
                "before": found.before,
            }
            for found in rehearsal.findings
        ),
    ]


def verdict(rehearsal: Rehearsal) -> str:
    """The result in one line: `prod: clean; 24 checks: 15 passed by execution, 7 by simulation, 2 not tested`."""
    found = len(rehearsal.findings)
    said = [counted(found, "finding")] if found else []
    said += [f"failed: {', '.join(rehearsal.failed)}"] if rehearsal.failed else []
    said += [] if said or rehearsal.ok else ["no check passed"]
    return f"{rehearsal.environment}: {', '.join(said) or 'clean'}; {counts(rehearsal)}"


def counts(rehearsal: Rehearsal) -> str:
    """How many checks ended how: passed by execution and by simulation, failed, not tested."""
    how = Counter(_how(check) for check in rehearsal.checks)
    said = ", ".join(f"{how[each]} {each}" for each in (*_PASSED.values(), "failed", "not tested") if how[each])
    return f"{counted(len(rehearsal.checks), 'check')}: {said or 'none'}"


def unseen(check: CheckResult) -> str:
    """Why a check is not tested."""
    return "it needs execution, and was simulated" if check.evidence == "simulated" else "nothing was there to look at"


def counted(count: int, word: str) -> str:
    """`1 finding`, `2 findings`."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def _how(check: CheckResult) -> str:
    return _PASSED[check.evidence] if check.outcome == "passed" else check.outcome.replace("-", " ")
