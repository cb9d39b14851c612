"""What is measured on the platform: every target answers, every rule is evaluated, and an alert reaches whom it should.

Executed: Prometheus Operator, Prometheus, Alertmanager and the exporters are processes in real pods.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.clusters.waiting import until
from tests.acceptance.platform.monitoring import NAMESPACE, asked, reached
from tests.charts import metrics_live
from tests.checkout import Checkout
from tests.conftest import Record

PROVEN = Path(__file__).parents[2] / "charts" / "metrics_live.txt"


def down(prometheus: str) -> list[tuple[str, str]]:
    """Return the targets that do not answer, or have not been asked yet, and why."""
    targets = asked(prometheus, "/api/v1/targets", state="active")["data"]["activeTargets"]
    return [(each["scrapeUrl"], each["lastError"]) for each in targets if each["health"] != "up"]


@pytest.mark.usefixtures("served")
def test_every_target_answers(prometheus: str, record: Record) -> None:
    """Through the NetworkPolicies of both sides, with a token where one is asked for."""
    until(lambda: not down(prometheus), seconds=120, what="every target to answer", every=2)
    targets = asked(prometheus, "/api/v1/targets", state="active")["data"]["activeTargets"]
    pools = {each["scrapePool"].split("/")[-2 if "/" in each["scrapePool"] else 0] for each in targets}
    assert pools >= {
        "api-server",
        "argo-server",
        "cadvisor",
        "cert-manager",
        "kube-state-metrics",
        "kubelet",
        "kserve",
        "kueue",
        "models",
        "monitoring",
        "node-exporter",
        "prometheus-operator",
        "workflow-controller",
    }
    record(
        line="2 targets that Prometheus scrapes",
        evidence="executed",
        figure=f"{len(targets)} targets of {len(pools)} kinds, none down",
        goal="none down",
        command="./kiban up local",
    )


def test_every_rule_is_evaluated(prometheus: str) -> None:
    """By the very Prometheus that the chart deploys: no rule is in error."""

    def unhealthy() -> list[str]:
        groups = asked(prometheus, "/api/v1/rules")["data"]["groups"]
        assert groups
        return [rule["name"] for group in groups for rule in group["rules"] if rule["health"] != "ok"]

    until(lambda: not unhealthy(), seconds=120, what="every rule to be evaluated", every=2)


def test_the_list_of_proven_metrics_is_what_a_live_platform_has(prometheus: str) -> None:
    """Rules are held against that list, so it must not name what no exporter has any more.

    Asked of those that are there at rest; others come with an event, such as a run or an eviction.
    """
    proven = {name for name in PROVEN.read_text().split() if name.startswith(("node_", "prometheus_", "alertmanager_"))}
    assert proven
    until(lambda: proven <= set(metrics_live.names(prometheus)), seconds=120, what="the proven metrics", every=2)


def test_an_alert_reaches_alertmanager(platform: Checkout, record: Record) -> None:
    """A rule of the operator's kind, evaluated by Prometheus, is in Alertmanager with its labels and its route."""
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "test-alert", "namespace": NAMESPACE},
        "spec": {
            "groups": [
                {
                    "name": "test-alert",
                    "interval": "1s",
                    "rules": [{"alert": "TestAlert", "expr": "vector(1)", "labels": {"severity": "info"}}],
                }
            ]
        },
    }
    platform.kubectl("local", "apply", "-f", "-", stdin=yaml.safe_dump(rule))
    try:
        with reached(platform, "alertmanager", 9093) as alertmanager:

            def told() -> list[dict[str, Any]]:
                found: list[dict[str, Any]] = asked(alertmanager, "/api/v2/alerts", filter='alertname="TestAlert"')
                return found

            until(lambda: bool(told()), seconds=180, what="the alert to reach Alertmanager", every=1)
            (alert,) = told()
    finally:
        platform.kubectl("local", "-n", NAMESPACE, "delete", "prometheusrule", "test-alert")
    assert alert["labels"]["severity"] == "info"
    assert [each["name"] for each in alert["receivers"]] == ["none"]
    record(
        line="2 an alert from Prometheus to Alertmanager",
        evidence="executed",
        figure="arrived with its labels and its route",
        goal="arrives",
        command="./kiban up local",
    )
