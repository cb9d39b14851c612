"""Dashboards: what Grafana gets is what the tables say, and every query is PromQL."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from components.monitoring_rules import dashboards, queries


@pytest.mark.parametrize("gateway", [True, False])
@pytest.mark.parametrize("gpus", [True, False])
def test_dashboards_have_their_queries(*, gateway: bool, gpus: bool) -> None:
    """Each panel is in the JSON with its query, and a dashboard has an id of its own."""
    made = {name: json.loads(text) for name, text in dashboards(gateway=gateway, gpus=gpus).items()}
    found = {
        (name.removesuffix(".json"), panel["title"]): panel["targets"][0]["expr"]
        for name, board in made.items()
        for panel in board["panels"]
    }
    assert found == queries(gateway=gateway, gpus=gpus)
    assert {board["uid"] for board in made.values()} == {f"kiban-{name.removesuffix('.json')}" for name in made}


def test_dashboards_are_left_out_with_their_parts() -> None:
    """Without GPUs there is no dashboard of them, and without a gateway no panel reads Envoy's."""
    assert "gpus.json" not in dashboards(gateway=True, gpus=False)
    read = queries(gateway=False, gpus=False).values()
    assert not [query for query in read if "model:requests" in query or "model:errors" in query]


def test_promtool_accepts_the_queries(promtool: Path, tmp_path: Path) -> None:
    """Every query of a panel is PromQL."""
    every = queries(gateway=True, gpus=True).values()
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(every)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    ran = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
