"""charts/retraining, rendered once for all tests: two teams, one with two models that are watched."""

import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components._labels import selector
from components.retraining_loop import ALERTMANAGER
from tests.charts.policies import reaches
from tests.charts.rendering import NAMESPACE, ROOT, Object, Refused, kind, render

CHART = ROOT / "charts" / "retraining"
TAGS = selector("retraining-loop", "retraining")
ARGO_SERVER = selector("argo-server", "pipelines")


def team(name: str, **models: str) -> dict[str, Any]:
    """Return a team's values: model to schedule."""
    return {
        "name": name,
        "namespace": f"team-{name}",
        "monitors": [{"model": model, "schedule": schedule} for model, schedule in models.items()],
        "models": dict.fromkeys(models, '{"version": "3"}'),
        "retraining": dict.fromkeys(models, '{"margin": 0.01}'),
    }


VALUES = {
    "labels": TAGS,
    "argoServer": ARGO_SERVER,
    "teams": [team("vision", digits="7 * * * *", letters="*/15 * * * *"), team("language")],
}


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the chart with Argo's kinds, which the pipelines' component installs."""
    copy = tmp_path_factory.mktemp("chart") / "retraining"
    shutil.copytree(CHART, copy)
    (copy / "crds").mkdir()
    kinds = [
        kind("argoproj.io", "v1alpha1", "CronWorkflow", "cronworkflows"),
        kind("argoproj.io", "v1alpha1", "WorkflowEventBinding", "workfloweventbindings"),
    ]
    (copy / "crds" / "argo.yaml").write_text(yaml.safe_dump_all(kinds))
    return copy


@pytest.fixture(scope="module")
def objects(chart: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """Return the chart's objects."""
    return render(chart, {"two": VALUES}, tmp_path_factory.mktemp("render"))["two"]


def of(objects: list[Object], kind: str, namespace: str = "team-vision") -> dict[str, Object]:
    """Return a namespace's objects of a kind by name."""
    found = (each for each in objects if each["kind"] == kind and each["metadata"].get("namespace") == namespace)
    return {each["metadata"]["name"]: each for each in found}


def test_a_model_that_is_watched_has_a_monitor(objects: list[Object]) -> None:
    """Under its name, on its schedule, of the team's template; never two at once."""
    monitors = of(objects, "CronWorkflow")
    assert {name: each["spec"]["schedules"] for name, each in monitors.items()} == {
        "drift-digits": ["7 * * * *"],
        "drift-letters": ["*/15 * * * *"],
    }
    spec = monitors["drift-digits"]["spec"]
    assert (spec["timezone"], spec["concurrencyPolicy"]) == ("Etc/UTC", "Forbid")
    assert spec["workflowSpec"] == {
        "workflowTemplateRef": {"name": "drift"},
        "arguments": {"parameters": [{"name": "model", "value": "digits"}, {"name": "team", "value": "vision"}]},
    }
    assert of(objects, "CronWorkflow", "team-language") == {}


def test_what_the_steps_read_is_a_file_a_model(objects: list[Object]) -> None:
    """Both ConfigMaps are there for a team without models too: a workflow's pod that mounts them starts."""
    maps = of(objects, "ConfigMap")
    assert maps["models"]["data"] == dict.fromkeys(("digits", "letters"), '{"version": "3"}')
    assert maps["retraining"]["data"]["digits"] == '{"margin": 0.01}'
    assert of(objects, "ConfigMap", "team-language").keys() == {"models", "retraining"}


def test_an_alert_that_fires_starts_the_retraining_of_its_model(objects: list[Object]) -> None:
    """One that is resolved does not, nor another team's."""
    spec = of(objects, "WorkflowEventBinding")["retrain"]["spec"]
    for condition in (
        'discriminator == "retrain"',
        'payload.status == "firing"',
        'payload.groupLabels.team == "vision"',
    ):
        assert condition in spec["event"]["selector"].split(" && ")
    assert spec["submit"]["workflowTemplateRef"] == {"name": "retrain"}
    assert {each["name"]: each["valueFrom"]["event"] for each in spec["submit"]["arguments"]["parameters"]} == {
        "model": "payload.groupLabels.model",
        "alert": "payload.alerts[0].labels.alertname",
    }


def test_alertmanager_may_do_what_an_event_takes(objects: list[Object]) -> None:
    """List the bindings, read the one template, make a Workflow; in every team's namespace, by its own account."""
    for namespace in ("team-vision", "team-language"):
        rules = of(objects, "Role", namespace)["retraining-events"]["rules"]
        granted = {(each["resources"][0], *each.get("resourceNames", ["*"]), *each["verbs"]) for each in rules}
        assert granted == {
            ("workfloweventbindings", "*", "list"),
            ("workflowtemplates", "retrain", "get"),
            ("workflows", "*", "create"),
        }
        (subject,) = of(objects, "RoleBinding", namespace)["retraining-events"]["subjects"]
        assert (subject["namespace"], subject["name"]) == ALERTMANAGER


def test_alertmanagers_pods_reach_argo_server_and_others_of_its_namespace_do_not(objects: list[Object]) -> None:
    """By their name; on the one port."""
    reach = functools.partial(reaches, objects, target=(NAMESPACE, ARGO_SERVER), port=2746)
    assert reach(source=(ALERTMANAGER[0], {"app.kubernetes.io/name": "alertmanager"}))
    assert not reach(source=(ALERTMANAGER[0], {"app.kubernetes.io/name": "prometheus"}))
    assert not reach(source=("team-vision", {"app.kubernetes.io/name": "alertmanager"}))


def test_a_value_that_is_not_described_is_refused(chart: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A misspelt name would else be what nobody asked for."""
    with pytest.raises(Refused, match="schedules"):
        render(chart, {"wrong": VALUES | {"schedules": []}}, tmp_path_factory.mktemp("wrong"))


def test_the_schema_describes_every_value_and_lets_no_other_in() -> None:
    """So it is the documentation too."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    for path, each in described(schema, "values"):
        assert each.get("additionalProperties", False) is not True, path
        if "properties" in each:
            assert each["additionalProperties"] is False, path
        assert "description" in each, path


def described(schema: Object, path: str) -> Iterator[tuple[str, Object]]:
    """Return every property below a schema with its path."""
    for name, each in schema.get("properties", {}).items():
        yield f"{path}.{name}", each
        yield from described(each, f"{path}.{name}")
        yield from described(each.get("items", {}), f"{path}.{name}")
