"""What an alert, a record or a dashboard lacks: a case that fires, one that is silent, a runbook, a proven metric.

`python -m tests.rules.completeness` prints it, and its status is 1 where there is any. With `--write` it first takes
from a new tests/charts/metrics_live.txt which metrics are proven by it.
"""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from components.monitoring_rules import SEVERITIES, queries
from tests.rules import promql
from tests.rules.promtool import Cases, Rule, deployed, name_of, read

ROOT = Path(__file__).resolve().parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"
METRICS = Path(__file__).with_name("metrics.yaml")
LIVE = ROOT / "tests" / "charts" / "metrics_live.txt"
HEADINGS = ("## What it means", "## What to look at", "## What to do")
ALWAYS = {"Watchdog"}
"""Alerts that are never silent, by what they are for."""


def proofs() -> dict[str, dict[str, str]]:
    """Metric to its evidence and source."""
    found: dict[str, dict[str, str]] = yaml.safe_load(METRICS.read_text())
    return found


def live() -> set[str]:
    """The metrics that a Prometheus on the embedded cluster had."""
    return {line.split()[0] for line in LIVE.read_text().splitlines() if line.strip() and not line.startswith("#")}


def lacking(rules: Sequence[Rule], cases: Mapping[str, Cases], runbooks: Path = RUNBOOKS) -> list[str]:
    """What alerts and records lack, a line each, and cases and runbooks of alerts that are not there."""
    said = [line for rule in rules for line in _lacking(rule, cases.get(name_of(rule)), runbooks)]
    names = {name_of(rule) for rule in rules}
    pages = {path.stem for path in runbooks.glob("*.md")} - {"README"}
    said += [f"{name}: has cases, and is no rule" for name in cases if name not in names]
    said += [f"{name}: has a runbook, and is no alert" for name in sorted(pages - names)]
    return list(dict.fromkeys(said))


def unproven(
    expressions: Iterable[str], records: set[str], known: Mapping[str, Mapping[str, str]], seen: set[str]
) -> list[str]:
    """The metrics that are read and not proven to exist, and the records that nothing makes; a line each.

    seen: in a live scrape.
    """
    said = []
    for name in sorted({name for each in expressions for name in promql.metrics(each)}):
        if ":" in name:
            said += [] if name in records else [f"{name}: no rule records it"]
        elif name not in known:
            said.append(f"{name}: not in {METRICS.name}")
        elif known[name]["evidence"] != _evidence(name, seen):
            where = f"{'' if name in seen else 'not '}in {LIVE.name}"
            said.append(
                f"{name}: evidence={known[name]['evidence']!r}, and {where}; `--write` says {_evidence(name, seen)}"
            )
        elif not known[name]["source"]:
            said.append(f"{name}: no source")
    return said


def _evidence(name: str, seen: set[str]) -> str:
    return "live" if name in seen else "facts"


def write_evidence() -> None:
    """Take the newest scrape into the list of metrics."""
    text = METRICS.read_text()
    for name, known in proofs().items():
        before, after = (f"{name}:\n  evidence: {said}\n" for said in (known["evidence"], _evidence(name, live())))
        text = text.replace(before, after)
    METRICS.write_text(text)


def _lacking(rule: Rule, cases: Cases | None, runbooks: Path) -> list[str]:
    name = name_of(rule)
    said = []
    if cases is None or not cases.fires:
        said.append(f"{name}: no case in which it {'fires' if 'alert' in rule else 'has a value'}")
    if "record" in rule:
        return said
    if (cases is None or not cases.silent) and name not in ALWAYS:
        said.append(f"{name}: no case in which it must not fire")
    if rule["labels"].get("severity") not in SEVERITIES:
        said.append(f"{name}: severity={rule['labels'].get('severity')!r}; accepted: {', '.join(SEVERITIES)}")
    return said + _annotations(name, rule["annotations"], runbooks)


def _annotations(name: str, annotations: Mapping[str, Any], runbooks: Path) -> list[str]:
    said = [f"{name}: no {key}" for key in ("summary", "description", "runbook_url") if not annotations.get(key)]
    if re.search(r"\{\{", annotations.get("description", "")):
        said.append(f"{name}: its description has a label in it, which belongs into the summary")
    page = runbooks / annotations.get("runbook_url", "").rpartition("/")[2]
    if page.name != f"{name}.md" or not page.is_file():
        return [*said, f"{name}: no runbook {name}.md"]
    text = page.read_text()
    return said + [f"{name}: its runbook has no {heading!r}" for heading in HEADINGS if heading not in text]


def all_expressions() -> list[str]:
    """Those of rules and dashboards."""
    return [rule["expr"] for rule in deployed()] + list(queries(gateway=True, gpus=True).values())


def main() -> int:
    """Print what is lacking."""
    if "--write" in sys.argv:
        write_evidence()
    rules = deployed()
    records = {rule["record"] for rule in rules if "record" in rule}
    said = lacking(rules, read()) + unproven(all_expressions(), records, proofs(), live())
    sys.stdout.writelines(f"{line}\n" for line in said)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
