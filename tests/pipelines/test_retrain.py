"""What the retraining decides: whether it may, what it learns from, which model is better, and what it proposes."""

import datetime as dt
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import toolchain
from infra.proposals import parsed
from pipelines.monitor.steps import reference
from pipelines.monitor.steps.logged import Row
from pipelines.monitor.steps.watched import Watched
from pipelines.retrain.steps import admit, compare, data, propose, record
from tests.checkout import ROOT

NOON = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
WORKFLOW = ROOT / "pipelines" / "retrain" / "workflow.yaml"


def model(hold: str = "", **settings: Any) -> Watched:  # noqa: ANN401
    """Return a model in service that may be retrained every hour, twice a day."""
    return Watched(
        team="vision",
        name="digits",
        version="3",
        uri="s3://vision/mlflow/1/models/m-1/artifacts/model.pkl",
        digest="a" * 64,
        environment="staging",
        target="dev",
        settings={"cooldown_minutes": 60, "budget_per_day": 2} | settings,
        hold=hold,
    )


def ago(*hours: float) -> list[dt.datetime]:
    """Return moments so long before noon."""
    return [NOON - dt.timedelta(hours=each) for each in hours]


def test_nothing_stands_against_a_first_retraining() -> None:
    """Nor against one after the cooldown and within the budget."""
    assert admit.objection(model(), [], NOON) is None
    assert admit.objection(model(), ago(1, 25), NOON) is None


def test_a_hold_is_before_all_else() -> None:
    """Its reason is the outcome's."""
    assert admit.objection(model(hold="recall of lot 7"), [], NOON) == "hold: recall of lot 7"


def test_within_the_cooldown_there_is_one_retraining() -> None:
    """When the next one may be is said."""
    assert admit.objection(model(), ago(0.5), NOON) == (
        "cooldown: retrained at 2026-11-24T11:30:00Z, again from 2026-11-24T12:30:00Z on"
    )


def test_a_day_has_a_budget() -> None:
    """Of any 24 hours; none at all is a budget too."""
    assert admit.objection(model(), ago(2, 23), NOON) == "budget: 2 retrainings in 24 hours; accepted: 2"
    assert admit.objection(model(), ago(2, 24), NOON) is None
    assert admit.objection(model(budget_per_day=0), [], NOON) == "budget: 0 retrainings in 24 hours; accepted: 0"


KNOWN = reference.read("a,digit\n0,0\n1,1\n2,2\n")


def rows(count: int, classes: int = 3) -> list[Row]:
    """Return labelled rows, the classes in turn."""
    return [Row(id=f"{i:04}", time=NOON, values=[i / 4], predicted="0", label=str(i % classes)) for i in range(count)]


def test_enough_labels_of_every_class_are_learned_from() -> None:
    """The fewest of all, and ten of each."""
    assert data.wanting(rows(120), KNOWN, 120) is None


@pytest.mark.parametrize(
    ("count", "classes", "said"),
    [
        (119, 3, "labels: 119 rows have one; accepted: 120 or more"),
        (120, 4, "labels: '3'; accepted: 0, 1, 2"),
        (120, 2, "labels: 0 of class 2; accepted: 10 or more of each class"),
    ],
)
def test_labels_that_are_nothing_to_learn_from_are_refused(count: int, classes: int, said: str) -> None:
    """Too few, of a class that there is not, or none of one that there is."""
    assert data.wanting(rows(count, classes), KNOWN, 120) == said


def test_the_data_set_has_the_form_of_the_training_reference(tmp_path: Path) -> None:
    """So that it is the next one; the same rows give the same bytes in whatever order they were logged."""
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    data.write(one, rows(3), KNOWN)
    data.write(other, rows(3)[::-1], KNOWN)
    assert one.read_text() == other.read_text() == "a,digit\n0,0\n0.25,1\n0.5,2\n"


def test_a_candidate_is_better_by_the_margin_only() -> None:
    """Equal to the margin is enough, less is not."""
    verdicts = [compare.verdict({"accuracy": it}, {"accuracy": 0.5}, 0.25)["better"] for it in (0.74, 0.75)]
    assert verdicts == [False, True]


def test_a_folders_digest_is_that_of_its_listing(tmp_path: Path) -> None:
    """As sha256sum prints it."""
    for name, content in (("model.pkl", b"x"), ("MLmodel", b"y")):
        (tmp_path / name).write_bytes(content)
    script = "sha256sum MLmodel model.pkl | sha256sum"
    printed = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert compare.folders_digest({"model.pkl": b"x", "MLmodel": b"y"}) == printed.split()[0]


TO = {"version": "4", "uri": "s3://vision/mlflow/1/models/m-2/artifacts/model.pkl", "digest": "b" * 64}
JUDGEMENT = {"candidate": {"accuracy": 0.97}, "serving": {"accuracy": 0.31}, "margin": 0.01, "rows": 450}


def test_a_proposal_is_what_the_command_reads() -> None:
    """The document that the step writes is one that `kiban models accept` takes; it names its target and its base."""
    run = {"workflow": "retrain-x7", "mlflow_run": "0" * 32}
    document = propose.proposal(model(), TO, JUDGEMENT, run=run, alert="ModelDrift")
    read = parsed(json.dumps(document).encode(), "here")
    assert (read.id, read.target, read.team, read.model) == ("retrain-x7", "dev", "vision", "digits")
    assert (read.base["version"], read.to) == ("3", TO)
    assert document["diff"].splitlines()[3:5] == ["-version: 3", f"-uri: {model().uri}"]


def test_both_accuracies_are_in_the_reason() -> None:
    """Whoever reads the record need not look further."""
    assert propose.compared(JUDGEMENT) == "accuracy 0.9700 against 0.3100 in service, of 450 rows; margin 0.01"


@pytest.mark.parametrize(
    ("status", "decided", "failed"),
    [
        ("Succeeded", "Proposed", False),
        ("Succeeded", "Not retrained", False),
        ("Failed", "Refused", False),
        ("Failed", "Proposed", True),
        ("Failed", None, True),
        ("Error", None, True),
    ],
)
def test_an_outcome_that_was_decided_stays(status: str, decided: str | None, failed: bool) -> None:  # noqa: FBT001
    """A refusal fails the workflow on purpose; anything else that fails it is a failure."""
    assert record.failed(status, decided) is failed


def test_after_a_model_that_was_not_admitted_nothing_runs() -> None:
    """Every later step waits for the success of the one before: a step that was skipped would let it through."""
    spec = yaml.safe_load(WORKFLOW.read_text())["spec"]
    (dag,) = (each["dag"]["tasks"] for each in spec["templates"] if "dag" in each)
    assert [(each["name"], each.get("depends")) for each in dag] == [
        ("admit", None),
        ("data", "admit.Succeeded"),
        ("train", "data.Succeeded"),
        ("compare", "train.Succeeded"),
        ("propose", "compare.Succeeded"),
    ]
    assert [each["name"] for each in dag if "when" in each] == ["data"]
    assert spec["synchronization"] == {"mutexes": [{"name": "retrain-{{workflow.parameters.model}}"}]}


@pytest.mark.parametrize("folder", ["monitor", "retrain"])
def test_argo_accepts_the_templates(folder: str) -> None:
    """As Argo's own linter reads them."""
    argo = str(toolchain.resolve("argo")["argo"])
    command = [argo, "lint", "--offline", "--no-color", str(ROOT / "pipelines" / folder / "workflow.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
