"""The jobs of the workflow example that cut releases and promote them: their commands, against a repository and `dev`.

Executed: git with a remote repository, ssh-keygen, Pulumi's engine, an API server. Simulated: the nodes. That GitHub
does with conditions, matrices and environments what is meant is not tested: no runner of it is at hand.
"""

import dataclasses as dc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.platform.workflow import WORKFLOW
from tests.checkout import Checkout
from tests.conftest import Record
from tests.release.bundle import WHO, allow, bundle, git, key

JOBS: dict[str, Any] = WORKFLOW["jobs"]
ON = "dev-stand-in"


@dc.dataclass(frozen=True)
class Runner:
    """Runs jobs as GitHub does: each in a clone of its own, each step with `bash -e`."""

    folder: Path
    origin: Path
    key: Path

    def run(self, job: str, *, at: str = "main", failing: str = "", **environ: str) -> tuple[Checkout, dict[str, Any]]:
        """Run a job's commands and return its clone and outputs. failing: the id of the step that has to fail."""
        clone = Checkout(self.folder / f"{job}-{len(list(self.folder.iterdir()))}")
        git(self.folder, "clone", "--quiet", str(self.origin), clone.root.name)
        git(clone.root, "reset", "--quiet", "--hard", at)
        output = clone.root.with_suffix(".output")
        output.touch()
        given = {
            **{name: value for name, value in WHO.items() if name in WORKFLOW["env"]},
            "GITHUB_OUTPUT": str(output),
            "GITHUB_RUN_ID": "7",
            "RUNNER_TEMP": str(self.folder),
            "RELEASE_KEY": self.key.read_text(),
            # where the runner's cluster and its state are, and what has the place of the environment's own
            "KIBAN_HOME": str(self.folder / "home"),
            "KIBAN_NETNS": "0",
            "KIBAN_CLUSTER": ON,
        }
        for step in JOBS[job]["steps"]:
            failed = failing and step.get("if") == f"${{{{ failure() && steps.{failing}.outcome == 'failure' }}}}"
            if "run" in step and (failed or "failure()" not in step.get("if", "")):
                fails = bool(failing) and step.get("id") == failing
                words = ("bash", "-e", "-c", step["run"])
                done = clone.shell_words(*words, expect=None if fails else 0, **(given | environ))
                assert bool(done.returncode) == fails, step["run"]
        outputs = dict(line.split("=", 1) for line in output.read_text().splitlines())
        return clone, {name: json.loads(value) for name, value in outputs.items()}


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    """Yield a runner, the remote repository with the bundle, and a cluster that stands in for `dev`."""
    sources = bundle(tmp_path / "sources")
    signer = key(tmp_path / "keys", "release")
    allow(sources / "stacks" / "signers", "ann@example.org", signer)
    ladder = sources / "stacks" / "ladder.yaml"
    ladder.write_text(ladder.read_text().replace("watch: 5m", "watch: 1m"))
    git(sources, "commit", "--quiet", "--all", "--message", "who may sign")
    git(sources, "branch", "--move", "main")
    git(tmp_path, "clone", "--quiet", "--bare", "sources", "origin")
    folder = tmp_path / "runner"
    folder.mkdir()
    home = Checkout(sources, {"KIBAN_HOME": str(folder / "home"), "KIBAN_NETNS": "0"})
    home.run("cluster", "up", ON, "--env", "dev")
    yield Runner(folder, tmp_path / "origin", signer)
    home.run("cluster", "down", ON)


@pytest.mark.full
def test_a_release_is_cut_and_comes_in_where_its_gates_let_it(runner: Runner, record: Record) -> None:
    """Each job leaves in the repository what the next one goes by; what fails is held and not tried again."""
    commit = git(runner.origin, "rev-parse", "main")
    runner.run("cut")
    clone, _ = runner.run("cut", at=commit)  # once more, as somebody runs a job again
    (cut,) = clone.json("release", "list")["items"]
    assert cut["signed_by"] == "ann@example.org"
    _, due = runner.run("due")
    assert due == {"promote": [{"environment": "dev", "release": cut["release"]}], "rehearse": []}
    (dev,) = due["promote"]
    clone, _ = runner.run("promote", ENVIRONMENT=dev["environment"], RELEASE=dev["release"])
    assert clone.json("status")["items"][0]["runs"] == cut["release"]
    _, due = runner.run("due")
    assert due == {"promote": [], "rehearse": [{"environment": "staging", "release": cut["release"]}]}
    # refused: the cluster is another environment's
    clone, _ = runner.run("promote", failing="promote", ENVIRONMENT="staging", RELEASE=cut["release"])
    assert clone.json("audit", "show", "staging")["items"][-1]["reason"] == f"{cut['release']} did not come in, run 7"
    assert git(clone.root, "status", "--porcelain", "--branch") == "## main...origin/main"
    record(
        line="9 workflow",
        evidence="executed",
        figure="cut, due and promote, each in a clone of its own",
        goal="each step's command line runs",
        command="docs/how-to/github-actions.yml",
    )


def test_no_two_promotions_of_an_environment_meet() -> None:
    """One at a time an environment; each begins with the newest record, and leaves its own whatever happens."""
    promote = JOBS["promote"]
    assert promote["concurrency"] == "kiban-promote-${{ matrix.due.environment }}"
    assert promote["environment"] == "${{ matrix.due.environment }}"
    for job in ("due", "rehearse-release", "promote"):
        assert JOBS[job]["steps"][0]["with"] == {"ref": "main", "fetch-depth": 0}
    (recorded,) = (step for step in promote["steps"] if step.get("name") == "Commit the record")
    assert recorded["if"] == "always()"


def test_what_is_pushed_to_the_records_is_no_new_release() -> None:
    """An approval that is merged leaves `dev` as it is, and so its soak."""
    assert "releases/**" in WORKFLOW[True]["push"]["paths-ignore"]
    assert "github.event_name == 'push'" in JOBS["cut"]["if"]
