"""Alert and recording rules: promtool accepts them, their cases hold, no mutant passes, and none lacks anything."""

import dataclasses as dc
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.monitoring_rules import Burn, RuleArgs, Thresholds, WatchedModel, rules
from infra.cli import main
from tests.conftest import Record
from tests.rules import completeness, promql
from tests.rules import promtool as unit
from tests.rules.completeness import RUNBOOKS, lacking, live, proofs, unproven

EVERY = unit.deployed()
CASES = unit.read()
BARE = RuleArgs(gateway=False, gpus=False)


def check(promtool: Path, groups: list[dict[str, Any]], scratch: Path) -> subprocess.CompletedProcess[str]:
    """What promtool says of groups of rules."""
    file = scratch / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": groups}))
    return subprocess.run(
        [promtool, "check", "rules", "--lint=all", "--lint-fatal", file], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def outcomes(promtool: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Name of each rule to what promtool says of its cases."""
    scratch = tmp_path_factory.mktemp("cases")
    files = {
        unit.write(scratch / str(number), EVERY, cases, {name: [r for r in EVERY if unit.name_of(r) == name]}): name
        for number, (name, cases) in enumerate(CASES.items())
    }
    return {files[path]: said for path, said in unit.run(promtool, files).items()}


@pytest.mark.parametrize("args", [unit.ARGS, BARE], ids=["everything", "nothing"])
def test_promtool_accepts_the_rules(args: RuleArgs, promtool: Path, tmp_path: Path) -> None:
    """All rules are rules of Prometheus, with all parts of the platform and with none that can be left out."""
    ran = check(promtool, rules(args), tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_rule_that_is_none_is_found(promtool: Path, tmp_path: Path) -> None:
    """The check of the rules fails where an expression is not PromQL."""
    assert check(promtool, [{"name": "x", "rules": [{"alert": "X", "expr": "up =="}]}], tmp_path).returncode != 0


@pytest.mark.parametrize("name", CASES)
def test_cases_hold(name: str, outcomes: dict[str, str]) -> None:
    """An alert fires where its cases say so, not before, not otherwise; a record has the value that they say."""
    assert not outcomes[name]


def test_no_mutant_passes(promtool: Path, tmp_path: Path, record: Record) -> None:
    """With any threshold, window, operator, metric, matcher, wait, label or text changed, a case fails."""
    count, alive = unit.survivors(promtool, tmp_path, EVERY, CASES)
    record(
        line="7.3 every threshold and expression mutated",
        evidence="executed",
        figure=f"{count - len(alive)} of {count} mutants found",
        goal="all",
        command="pytest tests/rules -k mutant",
    )
    assert count > 900
    assert not alive


def test_a_case_too_few_lets_a_mutant_pass(promtool: Path, tmp_path: Path) -> None:
    """The search for mutants finds those that pass where an alert has no silent case."""
    cases = dc.replace(CASES["GpuTooHot"], cases=CASES["GpuTooHot"].cases[:1])
    only = [rule for rule in EVERY if unit.name_of(rule) == "GpuTooHot"]
    _, alive = unit.survivors(promtool, tmp_path, only, {"GpuTooHot": cases})
    assert [rule["expr"] for rule in alive] == ["DCGM_FI_DEV_GPU_TEMP > 68"]


def test_nothing_is_lacking() -> None:
    """Every alert has a severity, a summary, a firing case, a silent case and a runbook; every record a case."""
    assert lacking(EVERY, CASES) == []


def test_every_metric_is_proven() -> None:
    """What rules and dashboards read is in a live scrape, or has a source where its exporter does not run here."""
    records = {rule["record"] for rule in EVERY if "record" in rule}
    assert unproven(completeness.all_expressions(), records, proofs(), live()) == []


def test_no_metric_is_proven_for_nothing() -> None:
    """The list of metrics has none that nothing reads."""
    read = {name for each in completeness.all_expressions() for name in promql.metrics(each)}
    assert set(proofs()) <= read


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"labels": {"severity": "page"}}, "GpuTooHot: severity='page'; accepted: critical, warning, info"),
        ({"annotations": {}}, "GpuTooHot: no summary"),
        ({"alert": "GpuWarm"}, "GpuWarm: no case in which it fires"),
        ({"alert": "GpuWarm"}, "GpuWarm: no case in which it must not fire"),
        ({"alert": "GpuWarm"}, "GpuWarm: no runbook GpuWarm.md"),
        ({"alert": "GpuWarm"}, "GpuTooHot: has cases, and is no rule"),
        ({"alert": "GpuWarm"}, "GpuTooHot: has a runbook, and is no alert"),
    ],
)
def test_what_an_alert_lacks_is_found(changed: dict[str, Any], said: str) -> None:
    """An alert without severity, texts, cases or runbook fails the build, and so does what is left of one."""
    assert said in lacking([rule | changed if unit.name_of(rule) == "GpuTooHot" else rule for rule in EVERY], CASES)


def test_a_missing_silent_case_is_found() -> None:
    """An alert of which no case says when it must not fire fails the build."""
    firing = tuple(case for case in CASES["TargetDown"].cases if case.get("fires"))
    without = CASES | {"TargetDown": dc.replace(CASES["TargetDown"], cases=firing)}
    assert lacking(EVERY, without) == ["TargetDown: no case in which it must not fire"]


def test_a_missing_runbook_is_found(tmp_path: Path) -> None:
    """An alert without its page, or with one that lacks a part, fails the build."""
    pages = shutil.copytree(RUNBOOKS, tmp_path / "runbooks")
    (pages / "TargetDown.md").unlink()
    (pages / "BackupOld.md").write_text("# BackupOld\n\n## What it means\n\n## What to look at\n")
    said = ["BackupOld: its runbook has no '## What to do'", "TargetDown: no runbook TargetDown.md"]
    assert sorted(lacking(EVERY, CASES, pages)) == said


def test_an_unproven_metric_is_found() -> None:
    """A metric that no list has, one that is not in the scrape, and a record that nothing makes fail the build."""
    known = {
        "up": {"evidence": "live", "source": "x"},
        "down": {"evidence": "facts", "source": ""},
        "left": {"evidence": "facts", "source": "x"},
    }
    assert unproven(["up + down + left + right + a:b"], set(), known, {"left"}) == [
        "a:b: no rule records it",
        "down: no source",
        "left: evidence='facts', and in metrics_live.txt; `--write` says live",
        "right: not in metrics.yaml",
        "up: evidence='live', and not in metrics_live.txt; `--write` says facts",
    ]


@pytest.mark.parametrize("field", [field.name for field in dc.fields(Thresholds)])
def test_thresholds_are_data(field: str) -> None:
    """Each threshold of an environment is in some rule."""
    value = getattr(Thresholds(), field)
    other: object
    if field in {"fast", "slow"}:
        other = (Burn(long="2h", short="10m", factor=2), value[1])
    elif isinstance(value, tuple):
        other = value[:1]
    else:
        other = value * 0.9 if isinstance(value, float) else value + 1
    changed: dict[str, Any] = {field: other}
    assert unit.deployed(dc.replace(unit.ARGS, thresholds=Thresholds(**changed))) != EVERY


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("*.md")), ids=lambda page: page.stem)
def test_runbooks_name_verbs_that_exist(page: Path) -> None:
    """Each `./kiban` command of a runbook is one of the command line's."""
    for line in re.findall(r"\./kiban ([a-z -]+[a-z])", page.read_text()):
        command: Any = main
        for word in line.split():
            if not hasattr(command, "commands"):
                break
            assert word in command.commands, f"./kiban {line}"
            command = command.commands[word]


def test_without_a_gateway_nothing_asks_envoy() -> None:
    """Where there is no gateway no rule reads what Envoy counts; where there are no GPUs none reads the exporter."""
    read = "".join(rule["expr"] for rule in unit.deployed(BARE))
    assert "envoy_" not in read
    assert "DCGM_" not in read


def test_retraining_is_asked_for_a_model_at_a_time() -> None:
    """Whether an alert starts a retraining is said of each model, and not of those that nobody retrains."""
    limits = [rule["labels"] for rule in EVERY if rule.get("record") == "model:accuracy:limit"]
    assert [label.get("retrain") for label in limits] == ["true", None]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"failed_runs": 0}, "failed_runs=0; accepted: 1 or more"),
        ({"quota_share": 1.5}, "quota_share=1.5; accepted: above 0, below 1"),
    ],
)
def test_thresholds_refuse(given: dict[str, Any], said: str) -> None:
    """A threshold out of bounds is refused with what is accepted."""
    with pytest.raises(ValueError, match=re.escape(said)):
        Thresholds(**given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"availability": 1.0}, "model 'm': availability=1.0; accepted: above 0, below 1, such as 0.999"),
        ({"latency_ms": 0}, "model 'm': latency_ms=0; accepted: 1 or more (milliseconds)"),
        ({"accuracy": 2.0}, "model 'm': accuracy=2.0; accepted: 0 to 1, or None"),
        ({"fewest_requests": 0}, "model 'm': fewest_requests=0; accepted: 1 or more"),
    ],
)
def test_watched_models_refuse(given: dict[str, Any], said: str) -> None:
    """What a model is held against is refused where it is out of bounds."""
    with pytest.raises(ValueError, match=re.escape(said)):
        WatchedModel(name="m", team="t", version="1", **given)


def test_runbooks_are_at_an_address() -> None:
    """Where runbooks are read is an address that a page's name can be added to."""
    with pytest.raises(ValueError, match=re.escape("runbooks='docs/'; accepted: an http(s) address without a slash")):
        RuleArgs(runbooks="docs/")
