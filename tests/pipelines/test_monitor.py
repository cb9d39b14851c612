"""What the drift monitor makes of logged requests: which it reads, which feed it refuses, and what it measures."""

import datetime as dt
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.monitor.steps import drift, feed, logged, measure, reference, watched
from pipelines.monitor.steps.feed import Feed
from pipelines.monitor.steps.logged import Row
from pipelines.reference.steps.ending import Refused
from tests.checkout import ROOT

NOON = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
Document = dict[str, Any]


def line(name: str, data: Sequence[Sequence[Any]], said: Sequence[Any] = (), **other: Any) -> str:  # noqa: ANN401
    """Return a line of the request log: a request of so many rows of three values, and its answer."""
    flat = [value for row in data for value in row]
    document = {
        "id": name,
        "time": NOON.isoformat(),
        "model": "digits",
        "version": "3",
        "request": {"inputs": [{"name": "input-0", "shape": [len(data), 3], "datatype": "FP64", "data": flat}]},
        "response": {"outputs": [{"name": "output-0", "shape": [len(said)], "datatype": "INT64", "data": list(said)}]},
    }
    return json.dumps(document | other)


def read(*lines: str, labels: dict[str, list[str]] | None = None) -> list[Row]:
    """Return the rows of lines in the hour around noon."""
    return logged.rows(lines, labels or {}, version="3", begin=NOON - HOUR, end=NOON + HOUR)


def test_a_request_of_several_rows_is_several_rows() -> None:
    """Each with its values, its prediction and its label."""
    found = read(line("a", [[1, 2, 3], [4, 5, 6]], [7, 8.0]), labels={"a": ["7", "9"]})
    assert [(list(row.values), row.predicted, row.label) for row in found] == [
        ([1, 2, 3], "7", "7"),
        ([4, 5, 6], "8", "9"),
    ]


def test_a_tensor_a_feature_is_a_table_too() -> None:
    """The protocol has both forms."""
    inputs = [{"name": name, "shape": [2, 1], "data": [[1], [2]]} for name in ("a", "b", "c")]
    assert logged.table({"inputs": inputs}) == [[1, 1, 1], [2, 2, 2]]


@pytest.mark.parametrize(
    "other", [{"version": "2"}, {"time": (NOON + HOUR).isoformat()}, {"time": "1999-01-01T00:00Z"}]
)
def test_another_version_or_time_is_not_looked_at(other: Document) -> None:
    """The window ends before its end; a version is judged by what it answered itself."""
    assert read(line("a", [[1, 2, 3]], [1], **other)) == []


def test_a_request_that_was_logged_twice_counts_once() -> None:
    """A log that is written again after a failure repeats lines."""
    assert len(read(line("a", [[1, 2, 3]]), line("a", [[1, 2, 3]]))) == 1


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"id": 1, "time": 3, "version": "3"}'])
def test_a_line_that_is_no_request_is_a_bad_row(text: str) -> None:
    """It is counted, so that a log that nobody can read is refused."""
    (row,) = read(text)
    assert row.values == ()


def test_the_last_label_of_a_request_counts() -> None:
    """Labels are corrected by writing them again; 3, 3.0 and "3" are one class."""
    lines = ['{"id": "a", "label": 1}', '{"id": "a", "label": 3.0}', "no label", '{"id": "b", "label": ["x", 2]}']
    assert logged.labels(lines) == {"a": ["3"], "b": ["x", "2"]}


def test_the_days_of_a_window_are_read() -> None:
    """Requests lie in a folder a day."""
    begin = dt.datetime(2026, 11, 30, 23, tzinfo=dt.UTC)
    assert logged.prefixes("m", begin, begin + 2 * HOUR) == ["requests/m/2026/11/30/", "requests/m/2026/12/01/"]


TRAINED = reference.read("a,b,c,digit\n" + "".join(f"{i % 7},{i % 5},0,{i % 3}\n" for i in range(90)))


def sent(*rows: Sequence[Any]) -> list[Row]:
    """Return rows of values."""
    return [Row(id=str(number), time=NOON, values=values, predicted="1") for number, values in enumerate(rows)]


GOOD = [[i % 7, i % 5, 0] for i in range(100)]


def test_a_feed_as_it_was_is_valid() -> None:
    """All rows can be used."""
    found = feed.judged(sent(*GOOD), TRAINED, None)
    assert (found.reason, len(found.good)) == (None, 100)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ([1, 2], "2 of 102 rows: 2 values; accepted: 3"),
        ([1, None, 0], "2 of 102 rows: a value is missing"),
        ([1, "2", 0], "2 of 102 rows: a value is no number"),
        ([1, True, 0], "2 of 102 rows: a value is no number"),
        ([1, 7, 0], "2 of 102 rows: a value is out of range; accepted: 0 to 6"),
        ([1, float("nan"), 0], "2 of 102 rows: a value is out of range"),
    ],
)
def test_a_broken_feed_is_refused(bad: list[Any], said: str) -> None:
    """Above one row in a hundred; the reason names how many, what is wrong and what is accepted."""
    assert str(feed.judged(sent(*GOOD, bad, bad), TRAINED, None).reason).startswith(said)


def test_a_bad_row_in_a_hundred_is_left_out() -> None:
    """One client's mistake is no broken feed."""
    found = feed.judged(sent(*GOOD[:99], [1, 2]), TRAINED, None)
    assert (found.reason, found.rows, len(found.good)) == (None, 100, 99)


def test_features_that_stand_still_are_a_broken_feed() -> None:
    """More than half of those that vary in the training data; the third never did."""
    assert feed.judged(sent(*[[i % 7, 3, 0] for i in range(50)]), TRAINED, None).reason is None
    reason = feed.judged(sent(*[[2, 3, 0] for _ in range(50)]), TRAINED, None).reason
    assert reason == (
        "2 features are the same in all 50 rows; accepted: up to 50% of the 2 that vary in the training data"
    )


def test_the_range_can_be_given() -> None:
    """Where the training data does not show all that a sensor may say."""
    assert feed.judged(sent(*GOOD, [16, 2, 0], [16, 2, 0]), TRAINED, (0, 16)).reason is None


@pytest.mark.parametrize("text", ["", "a,b\n", "a,b\n1\n", "a,b\nx,1\n", "a,b\n1,2,3\n"])
def test_a_reference_that_is_no_table_is_refused(text: str) -> None:
    """The reason is said before anything is measured."""
    with pytest.raises(Refused, match="training reference"):
        reference.read(text)


SETTINGS = {
    "window_minutes": 60,
    "fewest_requests": 10,
    "drift_share": 0.5,
    "prediction_drift": 0.3,
    "accuracy": 0.9,
    "feed_range": None,
    "hold": "",
}


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """Return a folder as a workflow's pods have it, with one model."""
    for name, content in (
        ("models", {"team": "vision", "name": "digits", "version": "3", "uri": "s3://vision/m", "digest": "d"}),
        ("retraining", SETTINGS),
    ):
        (tmp_path / name).mkdir()
        more = {"environment": "local", "target": "dev"} if name == "models" else {}
        (tmp_path / name / "digits").write_text(json.dumps(content | more))
    return tmp_path


def test_a_model_that_is_not_watched_is_refused(mounted: Path) -> None:
    """Those that are, are named."""
    with pytest.raises(Refused, match=r"model 'others' is not watched here; accepted: digits"):
        watched.read("others", mounted)


def test_a_hold_is_in_the_data_or_made_by_hand(mounted: Path) -> None:
    """A ConfigMap that somebody makes holds at once, with or without a reason."""
    assert watched.read("digits", mounted).hold == ""
    (mounted / "holds").mkdir()
    (mounted / "holds" / "digits").write_text("\n")
    assert watched.read("digits", mounted).hold == "no reason given"
    (mounted / "retraining" / "digits").write_text(json.dumps(SETTINGS | {"hold": "recall"}))
    assert watched.read("digits", mounted).hold == "recall"


MEASURED = drift.Drift(share=0.75, prediction=0.2, features={"a": 0.01}, accuracy=None, labelled=0, html="")


def test_gauges_of_what_was_not_measured_are_not_set(mounted: Path) -> None:
    """A broken feed sets that it is broken; without labels there is no accuracy."""
    model = watched.read("digits", mounted)
    broken = measure.figures(model, Feed(rows=9, good=(), reason="why"), None)
    assert (broken["feed-valid"], broken["measured"], broken["labelled"], broken["requests"]) == (
        "0",
        "false",
        "false",
        "9",
    )
    found = measure.figures(model, Feed(rows=9, good=(), reason=None), MEASURED)
    assert (found["feed-valid"], found["measured"], found["labelled"], found["drift-share"]) == (
        *("1", "true", "false"),
        "0.750000",
    )
    assert measure.figures(model, Feed(rows=0, good=(), reason=None), None)["checked"] == "false"


def test_the_workflow_takes_up_every_figure(mounted: Path) -> None:
    """Each is an output of the template, and each output that is a number is a gauge with the three labels."""
    template = yaml.safe_load((ROOT / "pipelines" / "monitor" / "workflow.yaml").read_text())
    (step,) = template["spec"]["templates"]
    outputs = {each["name"] for each in step["outputs"]["parameters"]}
    figures = measure.figures(watched.read("digits", mounted), Feed(rows=0, good=(), reason=None), None)
    assert outputs == figures.keys()
    gauges = {each["name"]: each for each in step["metrics"]["prometheus"]}
    assert gauges.keys() == {
        f"kiban_model_{what}" for what in ("requests", "feed_valid", "drift_share", "prediction_drift", "accuracy")
    }
    for name, gauge in gauges.items():
        output = name.removeprefix("kiban_model_").replace("_", "-")
        assert gauge["gauge"]["value"] == f"{{{{outputs.parameters.{output}}}}}"
        assert [label["key"] for label in gauge["labels"]] == ["team", "model", "version"]


class Evidently:
    """The libraries of the monitor's image, installed from its pins, and the program that runs with them."""

    def __init__(self, folder: Path) -> None:
        uv = Path(sys.executable).parent / "uv"
        self._python, self._folder = folder / "venv" / "bin" / "python", folder
        pins = ROOT / "infra" / "images" / "requirements" / "evidently.txt"
        for command in (
            ("venv", "--quiet", f"--python={sys.executable}", str(folder / "venv")),
            ("pip", "install", "--quiet", f"--python={self._python}", "--require-hashes", f"--requirements={pins}"),
        ):
            subprocess.run([uv, *command], check=True)

    def measured(self, change: str) -> Document:
        """What the monitor finds in 600 digits that were changed by an expression of `x`, the pixels."""
        program = f"""
            import datetime as dt, json, pathlib, warnings
            warnings.simplefilter("ignore")
            import numpy as np
            from sklearn.datasets import load_digits
            from sklearn.linear_model import LogisticRegression
            from pipelines.monitor.steps import drift, feed, logged, reference
            from pipelines.reference.steps import digits
            digits.write(pathlib.Path("digits.csv"))
            known = reference.read(pathlib.Path("digits.csv").read_text())
            data = load_digits()
            model = LogisticRegression(C=0.1, max_iter=1000).fit(data.data, data.target)
            some = np.random.default_rng(0).permutation(len(data.data))[:600]
            x, noon = data.data[some], dt.datetime.now(dt.UTC)
            x = {change}
            said = model.predict(x)
            rows = [
                logged.Row(id=str(i), time=noon, values=values, predicted=str(class_), label=str(data.target[k]))
                for i, (k, values, class_) in enumerate(zip(some, x.tolist(), said, strict=True))
            ]
            judged = feed.judged(rows, known, None)
            found = drift.measured(judged.good, known)
            print(json.dumps(dict(reason=judged.reason, share=found.share, prediction=found.prediction,
                accuracy=found.accuracy, labelled=found.labelled, features=len(found.features),
                html="<html" in found.html.lower())))
        """
        environ = os.environ | {"PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "1", "HOME": str(self._folder)}
        command = [str(self._python), "-c", textwrap.dedent(program)]
        done = subprocess.run(command, cwd=self._folder, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="session")
def evidently(tmp_path_factory: pytest.TempPathFactory) -> Evidently:
    """Return the monitor's libraries."""
    return Evidently(tmp_path_factory.mktemp("evidently"))


def test_traffic_as_it_was_trained_on_is_no_drift(evidently: Evidently) -> None:
    """Far below the bounds that a model is watched by unless its data says otherwise."""
    found = evidently.measured("x")
    assert found["reason"] is None
    assert found["share"] < 0.2
    assert found["prediction"] < 0.15
    assert found["accuracy"] > 0.95
    assert (found["labelled"], found["features"], found["html"]) == (600, 64, True)


def test_inverted_images_are_drift_and_no_broken_feed(evidently: Evidently) -> None:
    """Features and predictions drift, and the accuracy falls; the values are such as they may be."""
    found = evidently.measured("16 - x")
    assert found["reason"] is None
    assert found["share"] > 0.9
    assert found["prediction"] > 0.4
    assert found["accuracy"] < 0.3
