"""A rehearsal as a comment on a pull request: what was found first, everything else folded."""

import html
import re
from collections.abc import Iterable, Iterator, Sequence

from infra.rehearsal.report import counts, unseen, verdict
from infra.rehearsal.result import CheckResult, Rehearsal

LIMIT = 60_000
"""Characters. GitHub refuses a comment of more than 65,536; a workflow may put something around this."""
_FOLDED = 20_000
_CELL = 500
_NOTE = 100
_MARKUP = re.compile(r"[\\`*\[\]|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_PODS = {"executed": "pods ran where their images were available", "simulated": "no pod ran for real"}


def markdown(rehearsal: Rehearsal) -> str:
    """The comment, below LIMIT. What does not fit is counted where it would be; a longer text than 500 ends in …."""
    head = f"**{_plain(verdict(rehearsal))}**\n\n{_what(rehearsal)}\n\n"
    folded = _folded(rehearsal)
    failed = [check for check in rehearsal.checks if check.findings]
    room = LIMIT - len(head) - len(folded)
    groups: list[str] = []
    for left, check in zip(range(len(failed), 0, -1), failed, strict=True):
        groups.append(_group(check, room // left))
        room -= len(groups[-1])
    return f"{head}{''.join(groups)}{folded}"


def _what(rehearsal: Rehearsal) -> str:
    way = (
        f"From {rehearsal.base} to {rehearsal.candidate}"
        if rehearsal.base
        else f"First install of {rehearsal.candidate}"
    )
    faults = f", with {', '.join(rehearsal.faults)}" if rehearsal.faults else ""
    memory = f", {rehearsal.peak_memory_mib} MiB at most" if rehearsal.peak_memory_mib else ""
    return _plain(
        f"{way}{faults}, on a throwaway cluster where {_PODS[rehearsal.evidence]}: "
        f"{rehearsal.objects} objects, {rehearsal.seconds:.0f} s{memory}."
    )


def _group(check: CheckResult, room: int) -> str:
    """A failed check's findings: those that are new come first."""
    heading = f"#### {check.check}: {_plain(check.title)}\n\n"
    rows = [
        (
            found.object,
            found.message,
            found.remedy,
            f"{found.step}; the base has it too" if found.before else found.step,
        )
        for found in sorted(check.findings, key=lambda found: found.before)
    ]
    return heading + _table(("object", "what is wrong", "what to do", "step"), rows, room - len(heading))


def _folded(rehearsal: Rehearsal) -> str:
    return "".join(
        (
            f"<details><summary>{counts(rehearsal)}</summary>\n\n",
            _table(("check", "outcome", "evidence", "looked at"), list(_checks(rehearsal)), _FOLDED // 2),
            _table(("step", "ok", "seconds", "changes"), list(_steps(rehearsal)), _FOLDED // 4),
            _mended(rehearsal),
            "</details>\n",
        )
    )


def _checks(rehearsal: Rehearsal) -> Iterator[tuple[str, ...]]:
    for check in rehearsal.checks:
        why = f": {unseen(check)}" if check.outcome == "not-tested" else ""
        yield f"{check.check}: {check.title}", f"{check.outcome}{why}", check.evidence, str(check.looked_at)


def _steps(rehearsal: Rehearsal) -> Iterator[tuple[str, ...]]:
    for step in rehearsal.steps:
        changes = ", ".join(f"{count} {done}" for done, count in step.counts.items() if count)
        yield step.name, "yes" if step.ok else "no", f"{step.seconds:.1f}", changes or "-"


def _mended(rehearsal: Rehearsal) -> str:
    if not rehearsal.mended:
        return ""
    rows = [(found.check, found.object, found.message) for found in rehearsal.mended]
    return _table(("mended", "object", "what was wrong"), rows, _FOLDED // 4)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> str:
    """A table of as many rows as there is room for, in characters, and how many are left out."""
    text = f"{_row(columns)}{_row(['---'] * len(columns))}"
    for count, row in enumerate(rows):
        line = _row(map(_plain, row))
        if len(text) + len(line) + _NOTE > room:
            return f"{text}\n{len(rows) - count} more left out here; the JSON document has all.\n\n"
        text += line
    return f"{text}\n"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _plain(text: str) -> str:
    """Text that a reader sees as it is, in one line: no markup, no HTML."""
    line = " ".join(text.split())
    short = line if len(line) <= _CELL else f"{line[:_CELL]}…"
    return _MARKUP.sub(r"\\\g<0>", html.escape(short, quote=False))
