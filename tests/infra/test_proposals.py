"""Proposals of the retraining as the command reads them and takes one into stacks/models.yaml."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.errors import BadInput, RunFailed
from infra.proposals import Proposal, accept, find, parsed

OLD = {"version": "3", "uri": "s3://vision/mlflow/1/models/m-1/artifacts/model.pkl", "digest": "a" * 64}
NEW = {"version": "4", "uri": "s3://vision/mlflow/1/models/m-2/artifacts/model.pkl", "digest": "b" * 64}
DOCUMENT = {
    "schema": "kiban.dev/proposal/v1",
    "id": "retrain-x7",
    "made": "2026-11-24T12:00:00+00:00",
    "target": "dev",
    "team": "vision",
    "model": "digits",
    "alert": "ModelDrift",
    "base": OLD,
    "to": NEW,
    "judgement": {"candidate": {"accuracy": 0.97}, "serving": {"accuracy": 0.31}},
}
MODELS = f"""\
# who is in service
dev:
  - name: digits  # the scanner's
    team: language
    version: 3
    uri: {OLD["uri"]}
    digest: {OLD["digest"]}
  - name: digits
    team: vision
    version: "3"  # since Monday
    uri: {OLD["uri"]}
    digest: '{OLD["digest"]}'
    watch: {{margin: 0.02}}

prod:
  - {{name: digits, team: vision, version: 3, uri: {OLD["uri"]}, digest: "{OLD["digest"]}"}}
"""


def proposal(**other: Any) -> Proposal:  # noqa: ANN401
    """Return the proposal, some fields of its document changed."""
    return parsed(json.dumps(DOCUMENT | other).encode(), "s3://vision/proposals/digits/retrain-x7.json")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the models' file."""
    models = tmp_path / "models.yaml"
    models.write_text(MODELS)
    return models


def test_three_values_change_and_nothing_else(file: Path) -> None:
    """Comments, quotes and order stay; the entry of another team and of another environment too."""
    diff = accept(proposal(), file)
    changed = [line for line in diff.splitlines() if line[0] in "+-" and line[:3] not in {"+++", "---"}]
    assert changed == [
        '-    version: "3"  # since Monday',
        f"-    uri: {OLD['uri']}",
        f"-    digest: '{OLD['digest']}'",
        '+    version: "4"  # since Monday',
        f"+    uri: {NEW['uri']}",
        f"+    digest: '{NEW['digest']}'",
    ]
    read = yaml.safe_load(file.read_text())
    assert read["dev"][1] == {"name": "digits", "team": "vision", "watch": {"margin": 0.02}} | NEW
    assert read["dev"][0] == yaml.safe_load(MODELS)["dev"][0]
    assert read["prod"] == yaml.safe_load(MODELS)["prod"]


def test_an_entry_on_one_line_is_changed_too(file: Path) -> None:
    """How the file is laid out is its reader's matter."""
    accept(proposal(target="prod"), file)
    assert yaml.safe_load(file.read_text())["prod"] == [{"name": "digits", "team": "vision", **NEW, "version": 4}]


def test_a_file_that_no_longer_matches_is_refused(file: Path) -> None:
    """What stands there and what the proposal was made against are named; the file is as it was."""
    accept(proposal(), file)
    after = file.read_text()
    with pytest.raises(BadInput, match=r"dev, digits: version is 4; proposal retrain-x7 was made against 3"):
        accept(proposal(), file)
    assert file.read_text() == after


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"target": "staging"}, "staging has no model 'digits' of team 'vision'; accepted: none"),
        ({"model": "letters"}, "dev has no model 'letters' of team 'vision'; accepted: digits, digits"),
    ],
)
def test_a_model_that_is_not_there_is_refused(file: Path, other: dict[str, str], said: str) -> None:
    """Those that are, are named."""
    with pytest.raises(BadInput, match=said):
        accept(proposal(**other), file)


def test_a_file_that_is_no_yaml_is_refused(file: Path) -> None:
    """As it is, and left so."""
    file.write_text("dev: [")
    with pytest.raises(BadInput, match="nothing was changed"):
        accept(proposal(), file)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"schema": "v9"}, "schema 'v9'; accepted: kiban.dev/proposal/v1"),
        ({"base": {}}, "no proposal"),
        ({"to": NEW | {"version": "4\n    hold: x"}}, "version '4"),
        ({"to": NEW | {"uri": "s3://vision/x # }"}}, "uri "),
        ({"to": NEW | {"digest": "latest"}}, "digest 'latest'"),
    ],
)
def test_a_document_that_would_write_anything_else_is_refused(other: dict[str, Any], said: str) -> None:
    """A team can write to its bucket whatever it likes."""
    with pytest.raises(RunFailed, match=said):
        proposal(**other)


def test_a_proposal_that_is_not_there_is_refused() -> None:
    """Those that are, are named."""
    assert find([proposal()], "retrain-x7").item["accuracy"] == 0.97
    with pytest.raises(BadInput, match=r"proposal 'x'; accepted: retrain-x7"):
        find([proposal()], "x")
