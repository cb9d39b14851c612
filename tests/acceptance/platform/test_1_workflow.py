"""The workflow example for GitHub Actions does what it says: its commands run here, in order."""

from tests.acceptance.platform.workflow import WORKFLOW, commands
from tests.checkout import Checkout


def test_every_command_of_the_workflow_runs(platform: Checkout) -> None:
    """Those of the job `up` succeed after `kiban up`, and those of `preview` on what that leaves."""
    assert commands("up")
    assert commands("preview")
    for command in commands("preview"):
        platform.shell(command, ENVIRONMENT="local", CI="true")
    (platform.root / "preview.json").unlink()  # what the job keeps is no leaving of Kiban's


def test_a_pull_request_previews_and_main_is_brought_up() -> None:
    """The triggers and the jobs' conditions belong together."""
    assert set(WORKFLOW[True]) == {"pull_request", "push", "schedule"}
    assert WORKFLOW[True]["push"]["branches"] == ["main"]
    assert WORKFLOW["jobs"]["preview"]["if"] == "github.event_name == 'pull_request'"
    assert WORKFLOW["jobs"]["up"]["if"] == "github.event_name == 'push' && vars.FOLLOWS_MAIN"
