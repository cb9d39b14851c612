"""Promtool's unit tests, made from tests/rules/cases and the rules as they are deployed, and what comes of them.

A case file maps a rule's name to its severity and its cases, and to the time between samples (`interval`, a minute) and
between evaluations (`evaluate`, the same) where they are others. A case gives series in promtool's notation; for an
alert the times at which it is silent and those at which it fires, with labels and summary; for a record its values.
A case without `fires` is one in which the alert must not fire at all.
"""

import dataclasses as dc
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import yaml

from components.monitoring_rules import RuleArgs, WatchedModel, rules
from tests.rules import promql

CASES = Path(__file__).with_name("cases")
MODELS = (
    WatchedModel(
        name="iris",
        team="vision",
        version="3",
        availability=0.99,
        latency_ms=400,
        drift_share=0.3,
        prediction_drift=0.1,
        accuracy=0.9,
        fewest_requests=50,
        retrain=True,
    ),
    WatchedModel(
        name="churn", team="sales", version="7", availability=0.95, latency_ms=2000, accuracy=0.8, fewest_requests=50
    ),
)
ARGS = RuleArgs(models=MODELS)
# A rule that cannot be evaluated, one that is not PromQL, and a case that is not as it should be.
_ERRORS = re.compile(r'rule: (\S+), time: .*err: |"(\S+)": could not parse')
_WRONG = re.compile(r'alertname: (\S+), time|expr: "(\S+)", time')

Rule = dict[str, Any]
Case = dict[str, Any]


@dc.dataclass(frozen=True, kw_only=True)
class Cases:
    """What is said of one rule. severity: empty for a record."""

    name: str
    severity: str
    interval: str
    evaluate: str
    cases: tuple[Case, ...]

    @property
    def fires(self) -> bool:
        """Whether there is a case in which it fires, or has a value."""
        return any(case.get("fires") or case.get("values") for case in self.cases)

    @property
    def silent(self) -> bool:
        """Whether there is a case in which it must not fire."""
        return any(case.get("silent") and not case.get("fires") for case in self.cases)


def deployed(args: RuleArgs = ARGS) -> list[Rule]:
    """Every rule, in order."""
    return [rule for group in rules(args) for rule in group["rules"]]


def name_of(rule: Mapping[str, Any]) -> str:
    """The alert's name, or the record's."""
    return str(rule.get("alert") or rule["record"])


def read() -> dict[str, Cases]:
    """Name of a rule to its cases. Raises ValueError for a name that is in two files."""
    found: dict[str, Cases] = {}
    for path in sorted(CASES.glob("*.yaml")):
        for name, said in yaml.safe_load(path.read_text()).items():
            if name in found:
                raise ValueError(f"{path.name}: {name} is in another file too")
            interval = said.get("interval", "1m")
            found[name] = Cases(
                name=name,
                severity=said.get("severity", ""),
                interval=interval,
                evaluate=said.get("evaluate", interval),
                cases=tuple(said["cases"]),
            )
    return found


def with_inputs(name: str, every: Sequence[Rule]) -> list[Rule]:
    """The rules of that name, and before them the records that they are made from."""
    needed: set[str] = set()
    reach = {name}
    while reach:
        needed |= reach
        said = [rule["expr"] for rule in every if name_of(rule) in reach]
        reach = {metric for expression in said for metric in promql.metrics(expression) if ":" in metric} - needed
    return [rule for rule in every if name_of(rule) in needed]


def mutants(rule: Rule) -> Iterator[Rule]:
    """The rule with one thing changed, for each that can be: of its expression, how long it waits, what it says."""
    for changed in promql.mutants(rule["expr"]):
        yield rule | {"expr": changed}
    if "for" in rule:
        for factor in (2, 0.5):
            yield rule | {"for": promql.times(rule["for"], factor)}
    for field in ("labels", "annotations"):
        for key, text in rule.get(field, {}).items():
            yield rule | {field: rule[field] | {key: f"{text} x"}}


def write(folder: Path, every: Sequence[Rule], cases: Cases, changed: Mapping[str, Sequence[Rule]]) -> Path:
    """Write a file of rules and the file of tests of them; return the path of the latter.

    changed: names to what takes the place of the rules that the cases are of, under that name.
    """
    folder.mkdir(parents=True)
    inputs = [rule for rule in with_inputs(cases.name, every) if name_of(rule) != cases.name]
    own = [_renamed(rule, name) for name, given in changed.items() for rule in given]
    folder.joinpath("rules.yaml").write_text(_dump({"groups": [{"name": "rules", "rules": inputs + own}]}))
    annotations: dict[str, str] = next((rule["annotations"] for rule in every if rule.get("alert") == cases.name), {})
    constant = {key: text for key, text in annotations.items() if key != "summary"}
    tests = [_unit_test(cases, case, constant, list(changed)) for case in cases.cases]
    path = folder / "tests.yaml"
    path.write_text(_dump({"rule_files": ["rules.yaml"], "evaluation_interval": cases.evaluate, "tests": tests}))
    return path


def run(promtool: Path, files: Iterable[Path]) -> dict[Path, str]:
    """What promtool says of each test file: empty where it passes. All are run in one process."""
    wanted = list(files)
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "junit.xml")
        ran = subprocess.run(
            [promtool, "test", "rules", f"--junit={report}", *wanted], capture_output=True, text=True, check=False
        )
        if not report.exists():
            raise ValueError(f"promtool: {ran.stderr[-2000:]}")
        suites = ET.parse(report).getroot().iter("testsuite")  # noqa: S314 - promtool wrote it
        said = {Path(suite.get("name", "")): _said(suite) for suite in suites}
    if set(said) != set(wanted):
        raise ValueError(f"promtool: {ran.stderr[-2000:]}")
    return said


def _said(suite: ET.Element) -> str:
    text = "\n".join(suite.itertext()).strip()
    return text if suite.get("failures") != "0" or suite.get("errors") != "0" else ""


def survivors(
    promtool: Path, scratch: Path, every: Sequence[Rule], cases: Mapping[str, Cases]
) -> tuple[int, list[Rule]]:
    """How many mutants there are of all rules, and those that no case finds wrong.

    All mutants of a rule are in one file, each under a name of its own. Where some cannot be evaluated, which is wrong
    enough, promtool says nothing of the rest, which is tried again without them.
    """
    numbered = [(at, mutant) for at, rule in enumerate(every) for mutant in mutants(rule)]
    left = {f"{name_of(mutant)}__{number}": (at, mutant) for number, (at, mutant) in enumerate(numbered)}
    alive: list[Rule] = []
    for turn in range(len(left)):
        files: dict[Path, list[str]] = {}
        for name in dict.fromkeys(name_of(mutant) for _, mutant in left.values()):
            changed = {
                called: [mutant if index == at else rule for index, rule in enumerate(every) if name_of(rule) == name]
                for called, (at, mutant) in left.items()
                if name_of(mutant) == name
            }
            folder = scratch / str(turn) / str(len(files))
            files[write(folder, every, cases[name], changed)] = list(changed)
        if not files:
            break
        for path, said in run(promtool, files).items():
            errors = {a or b for a, b in _ERRORS.findall(said)}
            wrong = {a or b for a, b in _WRONG.findall(said)}
            if said and not errors and not wrong:
                raise ValueError(f"promtool: {said[:2000]}")
            for called in files[path]:
                if called in errors or not errors:
                    _, mutant = left.pop(called)
                    alive += [] if called in errors | wrong else [mutant]
    return len(numbered), alive


def _renamed(rule: Rule, name: str) -> Rule:
    return rule | {"alert" if "alert" in rule else "record": name}


def _unit_test(cases: Cases, case: Case, constant: Mapping[str, str], names: Sequence[str]) -> dict[str, Any]:
    """One of promtool's tests. constant: the alert's annotations that no label goes into."""
    alerts = [
        {
            "eval_time": at,
            "exp_alerts": [
                {
                    "exp_labels": {"severity": cases.severity} | {k: str(v) for k, v in row.items() if k != "summary"},
                    "exp_annotations": {**constant, "summary": row["summary"]},
                }
                for row in rows
            ],
        }
        for at, rows in [*((at, []) for at in case.get("silent", ())), *case.get("fires", {}).items()]
    ]
    values = case.get("values", {}).items()
    return {
        "interval": cases.interval,
        "input_series": [{"series": series, "values": str(has)} for series, has in case.get("series", {}).items()],
        "alert_rule_test": [{"alertname": name, **alert} for name in names for alert in alerts],
        "promql_expr_test": [
            {"expr": name, "eval_time": at, "exp_samples": [_sample(name, row) for row in rows]}
            for name in names
            for at, rows in values
        ],
    }


def _sample(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    labels = ", ".join(f'{key}="{value}"' for key, value in row.items() if key != "value")
    return {"labels": f"{name}{{{labels}}}", "value": row["value"]}


def _dump(what: object) -> str:
    return yaml.safe_dump(what, sort_keys=False, allow_unicode=True)
