"""Dashboards show what there is: every query returns data from the live Prometheus, or is listed with the reason.

Executed: the queries, as the deployed ConfigMaps have them. They come last, when runs, models and alerts have been.
"""

import contextlib
import json
import math
from pathlib import Path

import pytest
import yaml

from components.monitoring_rules import queries
from infra.clusters.waiting import until
from infra.errors import RunFailed
from tests.acceptance.platform.monitoring import NAMESPACE, asked
from tests.acceptance.platform.traffic import send
from tests.checkout import Checkout
from tests.conftest import Record

LISTED: dict[str, dict[str, str]] = yaml.safe_load(Path(__file__).with_name("not_tested.yaml").read_text())
NOT_TESTED = {(board, title): why for board, titles in LISTED.items() for title, why in titles.items()}


@pytest.fixture(scope="module")
def panels(platform: Checkout) -> dict[tuple[str, str], str]:
    """Return dashboard and title of each deployed panel, and its query."""
    words = ("-n", NAMESPACE, "get", "configmaps", "-l", "grafana_dashboard=1", "-o", "json")
    found = {}
    for configmap in json.loads(platform.kubectl("local", *words))["items"]:
        for file, text in configmap["data"].items():
            for panel in json.loads(text)["panels"]:
                (query,) = panel["targets"]
                found[file.removesuffix(".json"), panel["title"]] = query["expr"]
    return found


def has_data(prometheus: str, query: str) -> bool:
    """Whether a query returns a number."""
    series = asked(prometheus, "/api/v1/query", query=query)["data"]["result"]
    return any(not math.isnan(float(each["value"][1])) for each in series)


def test_deployed_dashboards_are_those_that_are_generated(panels: dict[tuple[str, str], str]) -> None:
    """Without a gateway, and with GPUs, which is what `local` is; what is listed exists."""
    assert panels == queries(gateway=False, gpus=True)
    assert NOT_TESTED.keys() <= queries(gateway=True, gpus=True).keys()


def test_every_query_returns_data_or_is_listed(
    served: Checkout, prometheus: str, panels: dict[tuple[str, str], str], record: Record
) -> None:
    """What is listed as not tested returns none, so that the list cannot rot."""
    every = queries(gateway=True, gpus=True)
    send(served, "for-dashboards", "x")  # latency is of the last minutes
    expected = every.keys() - NOT_TESTED.keys()

    def lacking() -> set[tuple[str, str]]:
        return {panel for panel in expected if not has_data(prometheus, every[panel])}

    with contextlib.suppress(RunFailed):
        until(lambda: not lacking(), seconds=300, what="data of every query", every=5)
    assert not lacking()
    assert not {panel for panel in NOT_TESTED if has_data(prometheus, every[panel])}
    assert panels.keys() >= expected
    record(
        line="4 queries of dashboards",
        evidence="executed",
        figure=f"{len(expected)} of {len(every)} return data",
        goal="every one, or listed with the reason",
        command="pytest tests/acceptance/platform/test_6_dashboards.py",
    )
    for why in sorted(set(NOT_TESTED.values())):
        record(
            line="4 queries of dashboards",
            evidence="not-tested",
            figure=f"{sum(each == why for each in NOT_TESTED.values())}: {why}",
            goal="every one, or listed with the reason",
            command="tests/acceptance/platform/not_tested.yaml",
        )
