"""Runs: what is submitted, what is told while one goes on, what is remembered, and when two are the same."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from components.tenancy import Team
from infra import paths, runs
from infra.errors import BadInput
from stacks._schema import THROWAWAY, EmbeddedCluster, Environment

VISION, LANGUAGE = (Team(name=name, owner="oncall") for name in ("vision", "language"))
ENVIRONMENT = Environment(name="small", cluster=EmbeddedCluster(name="box"), state=THROWAWAY, teams=(VISION, LANGUAGE))


def node(name: str, phase: str, *, kind: str = "Pod", message: str = "", began: str = "1", ended: str = "") -> Any:  # noqa: ANN401
    """Return a node of a Workflow's status."""
    return {
        "id": name,
        "displayName": name,
        "type": kind,
        "phase": phase,
        "message": message,
        "startedAt": began,
        "finishedAt": ended or None,
    }


def workflow(phase: str, *nodes: dict[str, Any], message: str = "") -> dict[str, Any]:
    """Return a Workflow."""
    status = {"phase": phase, "message": message, "nodes": {each["id"]: each for each in nodes}}
    return {
        "metadata": {"name": "reference-x", "namespace": "team-vision", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "status": status,
    }


def run(name: str = "reference-x", **tags: str) -> dict[str, Any]:
    """Return a run as MLflow has it."""
    told = {"kiban.workflow": name, "kiban.outcome": "Succeeded", "kiban.model_digest": "aa", "kiban.data_digest": "dd"}
    return {
        "team": "vision",
        "info": {
            "run_id": f"{name}-id",
            "status": "FINISHED",
            "start_time": 1767225600000,
            "end_time": 1767225661500,
            "artifact_uri": "s3://vision/mlflow/1/artifacts",
        },
        "data": {
            "metrics": [{"key": "accuracy", "value": 0.1 + 0.2}],
            "params": [{"key": "seed", "value": "0"}],
            "tags": [{"key": key, "value": value} for key, value in (told | tags).items()],
        },
    }


def test_what_is_submitted_refers_to_the_template() -> None:
    """The Workflow has a generated name and the arguments that differ; all else is the namespace's."""
    assert runs.workflow("team-vision", {"seed": "1"}) == {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": "reference-", "namespace": "team-vision"},
        "spec": {
            "workflowTemplateRef": {"name": "reference"},
            "arguments": {"parameters": [{"name": "seed", "value": "1"}]},
        },
    }


def test_a_run_knows_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkout's commit, marked where files differ from it; nothing where there is no git."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert runs.commit() == ""
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    head = runs.commit()
    assert len(head) == 40
    (tmp_path / "new").touch()
    assert runs.commit() == f"{head}-dirty"


def test_parameters_are_the_templates_own() -> None:
    """A value may have any characters; a name that the pipeline lacks is refused with those that it has."""
    assert runs.parameters(["source=s3://b/k=1"], ["source"]) == {"source": "s3://b/k=1"}
    assert runs.parameters(["git-commit=abc"], ["git-commit"]) == {"git-commit": "abc"}
    for word in ("speed=1", "seed"):
        with pytest.raises(BadInput, match=f"--param '{word}'; accepted: NAME=VALUE with NAME one of seed, source"):
            runs.parameters([word], ["seed", "source"])


def test_an_unknown_team_is_refused() -> None:
    """The message names the teams that there are."""
    assert runs.namespaces(ENVIRONMENT, "vision") == {"vision": "team-vision"}
    with pytest.raises(BadInput, match="team 'sales'; accepted: vision, language"):
        runs.namespaces(ENVIRONMENT, "sales")


def test_each_change_of_a_step_is_told_once() -> None:
    """Steps are told in the order in which they began; what groups them is not."""
    told: dict[str, str] = {}
    now = workflow(
        "Running", node("train", "Pending", began="2"), node("data", "Running"), node("dag", "x", kind="DAG")
    )
    assert runs.news(now, told) == ["data: Running", "train: Pending"]
    assert runs.news(now, told) == []
    assert runs.news(workflow("Running", node("data", "Succeeded")), told) == ["data: Succeeded"]


@pytest.mark.parametrize(
    ("failed", "why"),
    [
        (
            workflow(
                "Failed",
                node("record", "Failed", message="late", ended="3"),
                node("validate", "Failed", message="row 7: 65 columns", ended="2"),
            ),
            "validate: row 7: 65 columns",
        ),
        (workflow("Error", message="invalid spec"), "invalid spec"),
        (workflow("Failed", node("train", "Error")), "train: Error"),
    ],
    ids=["first", "no-step", "silent"],
)
def test_a_failed_run_says_which_step(failed: dict[str, Any], why: str) -> None:
    """The step that failed first, in its own words."""
    assert runs.why(failed) == why


def test_all_that_is_recorded_is_shown() -> None:
    """Parameters, metrics, tags; a tag that maps steps to something is an item a step."""
    shown = {item["field"]: item["value"] for item in runs.fields(run(**{"kiban.nodes": '{"train": "node-1"}'}))}
    assert shown["parameter seed"] == "0"
    assert shown["metric accuracy"] == 0.1 + 0.2
    assert shown["nodes train"] == "node-1"
    assert shown["model_digest"] == "aa"
    assert (shown["started"], shown["seconds"]) == ("2026-01-01T00:00:00Z", 61)
    assert shown["artifacts"] == "s3://vision/mlflow/1/artifacts"


def test_the_same_results_are_the_same() -> None:
    """Every metric and both digests are equal to the last bit."""
    found = runs.compared(run("first"), run("second"))
    assert [(item["field"], item["same"]) for item in found] == [
        ("metric accuracy", True),
        ("data_digest", True),
        ("model_digest", True),
    ]


def test_what_differs_or_is_missing_is_not_the_same() -> None:
    """A last bit of a metric, another model, and what only one of the runs has."""
    second = run("second", **{"kiban.model_digest": "bb"})
    second["data"]["metrics"] = [{"key": "accuracy", "value": 0.3}, {"key": "loss", "value": 1.0}]
    found = {item["field"]: item["same"] for item in runs.compared(run("first"), second)}
    assert found == {"metric accuracy": False, "metric loss": False, "data_digest": True, "model_digest": False}


def test_a_record_runs_in_its_teams_namespace_only() -> None:
    """The team can write to its bucket, so nothing but the spec and labels is taken from a record."""
    recorded = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": "kube-system", "name": "x", "generateName": "mine-", "labels": {"a": "b"}},
        "spec": {"entrypoint": "pipeline"},
    }
    assert runs.again(recorded, "team-vision") == {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": "mine-", "namespace": "team-vision", "labels": {"a": "b"}},
        "spec": {"entrypoint": "pipeline"},
    }
