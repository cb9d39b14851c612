"""The retraining loop as values and declared objects; no cluster. Its chart is tests/charts/test_retraining.py's."""

import dataclasses as dc
import json
from pathlib import Path
from typing import Any

import pytest

from components._labels import selector
from components.retraining_loop import RetrainingLoopArgs, Watch, alerts_rule, chart_values
from components.tenancy import Team
from pipelines.monitor.steps import watched

VISION, LANGUAGE = Team(name="vision", owner="vision-oncall"), Team(name="language", owner="language-oncall")


@dc.dataclass(frozen=True, kw_only=True)
class Model:
    """A model in service."""

    name: str
    team: str = "vision"
    version: str = "3"
    uri: str = "s3://vision/m/model.pkl"
    digest: str = "sha256:a"
    watch: Watch | None = None


def values(*models: Model) -> dict[str, dict[str, Any]]:
    """Return the chart's values of each team, for some models."""
    args = RetrainingLoopArgs(environment="staging", target="dev", teams=(VISION, LANGUAGE), models=models)
    made = chart_values(args, tags={"a": "b"}, argo_server=selector("argo-server", "pipelines"))
    return {team["name"]: team for team in made["teams"]}


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("schedule", "hourly", "accepted: five cron fields"),
        ("window_minutes", 0, "window_minutes=0; accepted: 1 to 44640"),
        ("fewest_requests", 0, "fewest_requests=0; accepted: 1 to 20000"),
        ("cooldown_minutes", -1, "cooldown_minutes=-1; accepted: 0 to 44640"),
        ("budget_per_day", 101, "budget_per_day=101; accepted: 0 to 100"),
        ("fewest_labelled", 99, "fewest_labelled=99; accepted: 100 to 20000"),
        ("drift_share", 1.5, "drift_share=1.5; accepted: 0 to 1"),
        ("prediction_drift", -0.1, "prediction_drift=-0.1; accepted: 0 to 1"),
        ("accuracy", 95, "accuracy=95; accepted: 0 to 1"),
        ("margin", 2, "margin=2; accepted: 0 to 1"),
        ("feed_range", (16, 0), r"feed_range=\(16, 0\); accepted: the smallest value"),
    ],
)
def test_a_watch_out_of_bounds_is_refused(field: str, value: Any, said: str) -> None:  # noqa: ANN401
    """The error names the field, the value and what is accepted."""
    with pytest.raises(ValueError, match=said):
        Watch(**{field: value})


def test_a_model_of_no_team_is_refused() -> None:
    """It would be watched nowhere."""
    with pytest.raises(ValueError, match=r"model 'm': team='sales'; accepted: language, vision"):
        values(Model(name="m", team="sales"))


def test_a_model_is_watched_in_its_teams_namespace() -> None:
    """One without a watch is not, and another team's is not there."""
    made = values(Model(name="digits", watch=Watch(schedule="*/5 * * * *")), Model(name="letters"))
    assert made["vision"]["monitors"] == [{"model": "digits", "schedule": "*/5 * * * *"}]
    assert made["vision"]["models"].keys() == made["vision"]["retraining"].keys() == {"digits"}
    assert made["language"]["monitors"] == []


def test_the_steps_read_what_the_component_writes(tmp_path: Path) -> None:
    """What is deployed, where a proposal goes, and the watch, field by field."""
    team = values(Model(name="digits", watch=Watch(hold="recall", feed_range=(0, 16))))["vision"]
    for folder in ("models", "retraining"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "digits").write_text(team[folder]["digits"])
    model = watched.read("digits", tmp_path)
    assert (model.registered, model.version, model.environment, model.target) == (
        "vision-digits",
        "3",
        "staging",
        "dev",
    )
    assert (model.hold, model.span) == ("recall", (0, 16))
    assert model.settings == json.loads(json.dumps(dc.asdict(Watch(hold="recall", feed_range=(0, 16)))))


def test_alertmanager_makes_nothing_but_the_retraining() -> None:
    """The rule is for its account alone; every other field of a Workflow, template and argument is refused."""
    rule = alerts_rule()
    (condition,) = rule["matchConditions"]
    assert condition["expression"].endswith("== 'system:serviceaccount:kiban-monitoring:alertmanager'")
    (validation,) = rule["validations"]
    for part in ("['arguments', 'workflowTemplateRef']", "== 'retrain'", "['model', 'alert']", "artifacts"):
        assert part in validation["expression"]
