"""The workflow example for GitHub Actions does what it says: its commands run here, in order."""

from typing import Any

import pytest
import yaml

from tests.checkout import ROOT, Checkout

WORKFLOW: dict[Any, Any] = yaml.safe_load((ROOT / "docs/how-to/github-actions.yml").read_text())


def commands(job: str) -> list[str]:
    """Return the commands of a job's steps."""
    return [step["run"] for step in WORKFLOW["jobs"][job]["steps"] if "run" in step]


@pytest.mark.parametrize("job", ["up", "preview"])
def test_every_command_of_the_workflow_runs(checkout: Checkout, job: str) -> None:
    """The commands of both jobs succeed on a clean checkout, with the environment that lives on this machine."""
    assert commands(job)
    checkout.run("cluster", "up", "local", "--env", "local")
    for command in commands(job):
        checkout.shell(command, ENVIRONMENT="local", CI="true")


def test_a_pull_request_previews_and_main_is_brought_up() -> None:
    """The triggers and the jobs' conditions belong together."""
    assert set(WORKFLOW[True]) == {"pull_request", "push"}
    assert WORKFLOW[True]["push"]["branches"] == ["main"]
    assert WORKFLOW["jobs"]["preview"]["if"] == "github.event_name == 'pull_request'"
    assert WORKFLOW["jobs"]["up"]["if"] == "github.event_name == 'push'"
