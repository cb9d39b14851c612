"""The jobs of the workflow example that rehearse a pull request, with a `kiban` and a `gh` that are played.

That GitHub does with the document and the matrix what is meant here is not tested: no runner of it is at hand.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.platform.workflow import WORKFLOW, commands

TOUCHED: dict[str, Any] = WORKFLOW["jobs"]["touched"]
REHEARSE: dict[str, Any] = WORKFLOW["jobs"]["rehearse"]
DOCUMENT = {"schema": "kiban/environments/v1", "ok": True, "items": [{"environment": "dev", "first": False}]}


def played(folder: Path, program: str, status: int = 0) -> None:
    """A program that writes its words down, prints the document, and ends with the status."""
    (folder / "document").write_text(f"{json.dumps(DOCUMENT, indent=2)}\n")
    script = f'#!/bin/sh\necho {program} "$@" >> {folder}/called\ncat {folder}/document\nexit {status}\n'
    (folder / program).write_text(script)
    (folder / program).chmod(0o755)


def run(folder: Path, command: str, **environ: str) -> int:
    """Run a step as GitHub does (`bash -e`); its exit status."""
    variables = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "GITHUB_OUTPUT": str(folder / "output")}
    variables |= {"GITHUB_STEP_SUMMARY": str(folder / "summary"), **environ}
    return subprocess.run(["bash", "-e", "-c", command], cwd=folder, env=variables, check=False).returncode


def test_the_document_of_touched_environments_is_the_jobs_output(tmp_path: Path) -> None:
    """Between the lines that GitHub's format of an output with several lines asks for."""
    played(tmp_path, "kiban")
    (command,) = commands("touched")
    assert run(tmp_path, command) == 0
    first, *document, last = (tmp_path / "output").read_text().splitlines()
    assert (first, json.loads("\n".join(document)), last) == ("document<<END", DOCUMENT, "END")
    assert (tmp_path / "called").read_text() == "kiban environments --touched HEAD^ --json\n"


def test_a_ref_that_cannot_be_compared_fails_the_job(tmp_path: Path) -> None:
    """Else nothing would be rehearsed, and the pull request be green."""
    played(tmp_path, "kiban", status=2)
    (command,) = commands("touched")
    assert run(tmp_path, command) == 2


@pytest.mark.parametrize("base", ["--first", "--from=HEAD^"])
def test_findings_fail_the_job_and_are_commented(tmp_path: Path, base: str) -> None:
    """The step ends with the rehearsal's status; the next ones run also then, where there is a report."""
    played(tmp_path, "kiban", status=1)
    played(tmp_path, "gh")
    rehearse, show, comment = commands("rehearse")
    assert run(tmp_path, rehearse, ENVIRONMENT="dev", BASE=base) == 1
    (tmp_path / "rehearsal.md").write_text("**dev: 1 finding**\n")
    assert run(tmp_path, show) == 0
    assert run(tmp_path, comment, PULL_REQUEST="https://github.com/a/b/pull/1") == 0
    assert (tmp_path / "summary").read_text() == "**dev: 1 finding**\n"
    assert (tmp_path / "called").read_text().splitlines() == [
        f"kiban rehearse dev {base} --markdown rehearsal.md --junit rehearsal.xml",
        "gh pr comment https://github.com/a/b/pull/1 --body-file rehearsal.md",
    ]
    shown, commented = (step["if"] for step in REHEARSE["steps"][-2:])
    assert shown == "${{ !cancelled() && hashFiles('rehearsal.md') != '' }}"
    assert commented.startswith("${{ !cancelled() && steps.report.outcome == 'success' &&")


def test_a_rehearsal_may_comment_and_nothing_else() -> None:
    """It signs in to no cloud: its cluster is its own."""
    assert REHEARSE["permissions"] == {"contents": "read", "pull-requests": "write"}


def test_each_touched_environment_is_rehearsed_against_what_main_has() -> None:
    """The first parent of the pull request's merge commit, which both jobs have to fetch."""
    assert TOUCHED["if"] == "github.event_name == 'pull_request'"
    assert (REHEARSE["needs"], REHEARSE["strategy"]["fail-fast"]) == ("touched", False)
    assert [job["steps"][0]["with"]["fetch-depth"] for job in (TOUCHED, REHEARSE)] == [2, 2]


def test_a_release_is_rehearsed_from_what_the_environment_runs(tmp_path: Path) -> None:
    """Which is for its record to say; what was found is committed also where it was something."""
    played(tmp_path, "kiban", status=1)
    played(tmp_path, "git")
    rehearse, commit = commands("rehearse-release")
    names = {"ENVIRONMENT": "prod", "RELEASE": "r20260302-7322b2a2d764"}
    assert run(tmp_path, rehearse, **names) == 1
    assert run(tmp_path, commit, **names) == 0
    said = (tmp_path / "called").read_text().splitlines()
    assert said[0] == "kiban rehearse prod --to r20260302-7322b2a2d764"
    assert said[-2:] == ["git pull --rebase", "git push"]
    (step,) = (step for step in WORKFLOW["jobs"]["rehearse-release"]["steps"] if step.get("run") == commit)
    assert step["if"] == "${{ !cancelled() }}"
