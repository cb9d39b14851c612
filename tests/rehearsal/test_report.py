"""A rehearsal in its four formats."""

import dataclasses as dc
import json
import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from infra.rehearsal import checks, flight
from infra.rehearsal.junit import junit
from infra.rehearsal.markdown import LIMIT, markdown
from infra.rehearsal.report import items, verdict
from infra.rehearsal.result import STEPS, CheckResult, Found, Rehearsal, StepResult
from infra.report import Report, emit
from tests.checkout import ROOT
from tests.rehearsal.schema import SCHEMA, problems

FOUND = Found(
    check="images-pinned",
    step="upgrade",
    object="Deployment kiban-metadata/mlflow",
    message="image mlflow:latest floats; accepted: a digest",
    remedy="pin it in components/metadata_store.py",
    before=False,
)
PASSED = CheckResult(
    check="admission", title="Admitted", evidence="executed", outcome="passed", findings=(), looked_at=512
)
FAILED = CheckResult(
    check="images-pinned",
    title="No image floats",
    evidence="simulated",
    outcome="failed",
    findings=(FOUND,),
    looked_at=40,
)
SIMULATED = CheckResult(
    check="ready", title="All is ready", evidence="simulated", outcome="not-tested", findings=(), looked_at=9
)
UNSEEN = CheckResult(
    check="drain", title="No blocked drain", evidence="not-tested", outcome="not-tested", findings=(), looked_at=0
)
CLEAN = Rehearsal(
    environment="prod",
    base="v1 (2ce80c5)",
    candidate="worktree",
    evidence="executed",
    started="2026-01-05T10:00:00+00:00",
    seconds=98.04,
    steps=tuple(StepResult(name=name, ok=True, seconds=16.34, counts={"updated": 3, "deleted": 0}) for name in STEPS),
    checks=(PASSED, SIMULATED, UNSEEN),
    objects=512,
)
BROKEN = dc.replace(
    CLEAN,
    base=None,
    steps=(*CLEAN.steps[:-1], dc.replace(CLEAN.steps[-1], ok=False)),
    checks=(*CLEAN.checks, FAILED),
    faults=("webhook-down", "api-restart"),
    mended=(dc.replace(FOUND, step="install", object="Job a/b", before=True),),
    peak_memory_mib=900,
)
TABLES = (
    "ok step seconds changes |",
    "check title outcome evidence looked_at findings |",
    "mended object message |",
    "finding step object message remedy before",
)


def document(rehearsal: Rehearsal) -> dict[str, Any]:
    """What `kiban rehearse --json` prints of it."""
    found: dict[str, Any] = json.loads(json.dumps(report(rehearsal).document("rehearse")))
    return found


def report(rehearsal: Rehearsal) -> Report:
    """What the verb returns."""
    return Report(items=items(rehearsal), exit_status=rehearsal.exit_status)


@pytest.mark.parametrize("rehearsal", [CLEAN, BROKEN])
def test_documents_are_as_the_schema_says(rehearsal: Rehearsal) -> None:
    """Those of a clean rehearsal and of one with everything in it, and one that an error ended before it began."""
    assert list(problems(document(rehearsal))) == []
    assert list(problems(Report(items=(), error="no ref v9", exit_status=2).document("rehearse"))) == []


@pytest.mark.parametrize(
    "change",
    [
        {"finding": "Images Pinned"},
        {"step": "verify"},
        {"before": "no"},
        {"remedy": None},
        {"severity": "high"},
    ],
)
def test_the_schema_refuses_other_findings(change: Mapping[str, object]) -> None:
    """An id that is none, a step that is none, a wrong type, a field too many."""
    changed = document(BROKEN)
    changed["items"][-1] |= change
    assert len(list(problems(changed))) == 1


def test_the_schema_knows_the_steps() -> None:
    """In their order."""
    assert tuple(SCHEMA["$defs"]["stepName"]["enum"]) == STEPS


def test_the_documents_example_is_as_the_schema_says() -> None:
    """It has an item of each kind."""
    text = (ROOT / "docs/reference/rehearsal.md").read_text()
    example = json.loads(text.split("```json")[1].split("```")[0])
    assert list(problems(example)) == []
    assert [next(iter(item)) for item in example["items"]] == ["rehearsal", "step", "check", "mended", "finding"]


def test_every_check_is_documented() -> None:
    """With the mark of those that need execution."""
    text = (ROOT / "docs/reference/rehearsal.md").read_text()
    rows = {(id_, bool(mark)) for id_, mark in re.findall(r"^\| `([a-z-]+)`( ●)? \|", text, re.MULTILINE)}
    assert {(check.id, check.executes) for check in (*checks.ALL, flight.check(None))} == rows


def test_each_table_has_its_own_items(capsys: pytest.CaptureFixture[str]) -> None:
    """A step's row, which findings would be among if its table began with `step`, and every other item once."""
    emit(report(BROKEN), "rehearse", as_json=False, columns=TABLES)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if " 16.3 " in line] == ["True"] * 5 + ["False"]
    assert sum("not-tested" in line for line in lines) == 2
    assert sum("Deployment kiban-metadata/mlflow" in line for line in lines) == 1
    assert sum("Job a/b" in line for line in lines) == 1


def test_the_verdict_counts_what_was_shown_and_how() -> None:
    """Simulation is never counted as execution, and a failed step is named even where no check says why."""
    assert verdict(CLEAN) == "prod: clean; 3 checks: 1 passed by execution, 2 not tested"
    assert verdict(BROKEN) == (
        "prod: 1 finding, failed: destroy; 4 checks: 1 passed by execution, 1 failed, 2 not tested"
    )
    simulated = dc.replace(CLEAN, checks=(dc.replace(PASSED, evidence="simulated"),))
    assert verdict(simulated) == "prod: clean; 1 check: 1 passed by simulation"
    assert verdict(dc.replace(CLEAN, checks=(UNSEEN,))) == "prod: no check passed; 1 check: 1 not tested"


def test_markdown_says_first_what_is_wrong() -> None:
    """The verdict, then findings by check, then the rest, folded."""
    lines = markdown(BROKEN).splitlines()
    assert lines[0] == f"**{verdict(BROKEN)}**"
    assert lines[2] == (
        "First install of worktree, with webhook-down, api-restart, on a throwaway cluster where pods ran where their "
        "images were available: 512 objects, 98 s, 900 MiB at most."
    )
    assert lines[4] == "#### images-pinned: No image floats"
    assert lines[8] == (
        "| Deployment kiban-metadata/mlflow | image mlflow:latest floats; accepted: a digest "
        "| pin it in components/metadata_store.py | upgrade |"
    )
    folded = lines[10:]
    assert folded[0] == "<details><summary>4 checks: 1 passed by execution, 1 failed, 2 not tested</summary>"
    assert folded[-1] == "</details>"
    assert "| ready: All is ready | not-tested: it needs execution, and was simulated | simulated | 9 |" in folded
    assert "| drain: No blocked drain | not-tested: nothing was there to look at | not-tested | 0 |" in folded
    assert "| destroy | no | 16.3 | 3 updated |" in folded
    assert "| images-pinned | Job a/b | image mlflow:latest floats; accepted: a digest |" in folded


def test_markdown_of_a_clean_rehearsal_has_no_findings() -> None:
    """One line, what was done, and the folded rest."""
    lines = markdown(CLEAN).splitlines()
    assert lines[2].startswith("From v1 (2ce80c5) to worktree, on a throwaway cluster")
    assert lines[4].startswith("<details>")
    assert "mended" not in markdown(CLEAN)


def test_markdown_shows_a_text_as_it_is() -> None:
    """A message can open no column, code, HTML or line of its own."""
    message = "a|b `c` <details> & [x](y) *z* __w__ kiban_pods\n\n# no heading"
    text = markdown(with_findings(dc.replace(FOUND, message=message)))
    assert r"| a\|b \`c\` &lt;details&gt; &amp; \[x\](y) \*z\* \_\_w\_\_ kiban_pods # no heading |" in text


def test_markdown_marks_what_the_base_has_too() -> None:
    """What is new stands before it."""
    old = dc.replace(FOUND, object="Deployment a/old", before=True)
    rows = [line for line in markdown(with_findings(old, FOUND)).splitlines() if line.startswith("| Deployment")]
    assert [row.endswith("| upgrade; the base has it too |") for row in rows] == [False, True]


@pytest.mark.parametrize("text", ["x" * 100, "&" * 10_000])
def test_markdown_stays_below_what_a_comment_holds(text: str) -> None:
    """What is left out is counted, and every check has its share of the room."""
    findings = tuple(dc.replace(FOUND, object=f"Pod a/{number}", message=text) for number in range(2000))
    many = dc.replace(BROKEN, checks=(PASSED, *[dc.replace(FAILED, findings=findings)] * 5), mended=findings)
    comment = markdown(many)
    assert len(comment) < LIMIT
    assert comment.endswith("</details>\n")
    shown = comment.count("| upgrade |\n")
    left_out = [int(line.split()[0]) for line in comment.splitlines() if "left out here" in line]
    assert shown + sum(left_out[:5]) == 10_000
    assert max(left_out[:5]) < 2000


def with_findings(*findings: Found) -> Rehearsal:
    """A rehearsal whose one check found these."""
    return dc.replace(CLEAN, checks=(dc.replace(FAILED, findings=findings),))


def test_junit_has_a_case_a_check_and_a_case_a_step() -> None:
    """A check that was not tested is skipped, never passed."""
    checks, steps = ET.fromstring(junit(BROKEN))  # noqa: S314 - made here
    assert {key: checks.get(key) for key in ("tests", "failures", "skipped")} == {
        "tests": "4",
        "failures": "1",
        "skipped": "2",
    }
    assert [(case.get("name"), case[0].tag) for case in checks] == [
        ("admission", "system-out"),
        ("ready", "skipped"),
        ("drain", "skipped"),
        ("images-pinned", "failure"),
    ]
    failure = checks[3][0]
    assert failure.get("message") == "No image floats: 1 finding"
    assert failure.text == (
        "Deployment kiban-metadata/mlflow (upgrade): image mlflow:latest floats; accepted: a digest\n"
        "  pin it in components/metadata_store.py"
    )
    assert [(case.get("name"), case.get("time"), len(case)) for case in steps] == [
        *((name, "16.3", 0) for name in STEPS[:-1]),
        ("destroy", "16.3", 1),
    ]


def test_junit_fails_no_step_that_went_through_at_last() -> None:
    """An upgrade that a fault has stopped is said, and is no failure."""
    upgrade = CLEAN.steps[1]
    again = dc.replace(CLEAN, steps=(dc.replace(upgrade, ok=False), upgrade))
    _, steps = ET.fromstring(junit(again))  # noqa: S314 - made here
    assert (steps.get("failures"), [[each.tag for each in case] for case in steps]) == ("0", [["system-out"], []])


def test_junit_can_be_read_whatever_a_message_quotes() -> None:
    """Control characters, which no XML can hold, are replaced."""
    found = dc.replace(FOUND, message="\x1b[31mred\x00 <&>\uffff")
    failure = ET.fromstring(junit(with_findings(found)))[0][0][0]  # noqa: S314 - made here
    assert "\ufffd[31mred\ufffd <&>\ufffd" in str(failure.text)
