"""The loop, closed: shifted traffic, drift, an alert, a retraining, a proposal; then what must not come of it.

Executed: KServe, its logger, Prometheus, Alertmanager and Argo are processes in real pods; the rules are the chart's.
"""

import functools
import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from infra.clusters.waiting import until
from tests.acceptance.platform.team import NAMESPACE, TEAM, registered, shown
from tests.acceptance.platform.traffic import measured, send
from tests.checkout import Checkout
from tests.conftest import Record

LONGEST = 600.0
"""Seconds from the first shifted request to the proposal."""
ALERTS = {"ModelDrift", "ModelPredictionDrift", "ModelAccuracyLow"}
"""Those that ask for a retraining."""
BOTH = re.compile(r"accuracy (?P<candidate>[\d.]+) against (?P<serving>[\d.]+) in service, of \d+ rows; margin 0.01")
"""What is recorded of a candidate that was not better."""


def retrainings(platform: Checkout) -> dict[str, dict[str, Any]]:
    """Return the retrainings that are recorded, by name, the oldest first."""
    items = platform.json("runs", "list", "local", "--team", TEAM)["items"]
    return {each["run"]: each for each in reversed(items) if each["run"].startswith("retrain-") and each["mlflow_run"]}


def proposals(platform: Checkout) -> dict[str, dict[str, Any]]:
    """Return the proposals, by the retraining that made each."""
    return {each["proposal"]: each for each in platform.json("models", "proposals", "local")["items"]}


def firing(platform: Checkout) -> set[str]:
    """Return the alerts of the model that fire in Prometheus."""
    where = ("get", "--raw", "/api/v1/namespaces/kiban-monitoring/services/prometheus:9090/proxy/api/v1/alerts")
    alerts = json.loads(platform.kubectl("local", *where))["data"]["alerts"]
    return {
        each["labels"]["alertname"]
        for each in alerts
        if each["state"] == "firing" and each["labels"].get("model") == "digits"
    }


def retrained(platform: Checkout, alert: str) -> dict[str, Any]:
    """Start the retraining as the event binding does, wait until it has ended, and return what is recorded of it."""
    arguments = [{"name": "model", "value": "digits"}, {"name": "alert", "value": alert}]
    workflow = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": "retrain-", "namespace": f"team-{TEAM}"},
        "spec": {"workflowTemplateRef": {"name": "retrain"}, "arguments": {"parameters": arguments}},
    }
    made = platform.kubectl("local", "create", "-f", "-", "-o", "name", stdin=json.dumps(workflow))
    run = made.strip().rpartition("/")[2]
    phase = (*NAMESPACE, "get", "workflow", run, "-o", "jsonpath={.status.phase}")
    over = {"Succeeded", "Failed", "Error"}
    until(lambda: platform.kubectl("local", *phase) in over, seconds=LONGEST, what=f"{run} to end", every=1)
    return retrainings(platform)[run]


@pytest.fixture
def any_time(served: Checkout) -> Iterator[None]:
    """Take cooldown and budget away, as whoever may change the ConfigMap can."""
    configmap = functools.partial(served.kubectl, "local", *NAMESPACE)

    def configure(settings: str) -> None:
        patch = json.dumps({"data": {"digits": settings}})
        configmap("patch", "configmap", "retraining", "--type=merge", f"--patch={patch}")

    given = configmap("get", "configmap", "retraining", "-o", "jsonpath={.data.digits}")
    configure(json.dumps(json.loads(given) | {"cooldown_minutes": 0, "budget_per_day": 100}))
    yield
    configure(given)


@pytest.mark.full
def test_traffic_as_it_was_starts_nothing(served: Checkout, record: Record) -> None:
    """No drift, no alert, no retraining."""
    before = retrainings(served)
    send(served, "as-it-was", "x")
    until(lambda: measured(served).get("measured") == "true", seconds=LONGEST, what="a monitor to measure", every=2)
    share = float(measured(served)["drift-share"])
    assert share < 0.3
    assert firing(served) == set()
    assert retrainings(served) == before
    record(
        line="2 the same traffic, unshifted",
        evidence="executed",
        figure=f"drift share {share:.2f}, no alert, no retraining",
        goal="nothing happens",
        command="pytest --full tests/acceptance/platform/test_5_loop.py",
    )


def test_shifted_traffic_ends_with_a_proposal(served: Checkout, entry: dict[str, Any], record: Record) -> None:
    """Each hop: drift, the alert, the retraining, a better version, a proposal that the file takes."""
    before, earlier = proposals(served), retrainings(served)
    began = time.monotonic()
    after = []

    def reached(condition: Callable[[], bool], what: str) -> None:
        until(condition, seconds=LONGEST, what=what, every=2)
        after.append(f"{what} {time.monotonic() - began:.0f} s")

    send(served, "shifted", "8 + x / 2")  # as a scanner whose lamp has aged
    reached(lambda: float(measured(served).get("drift-share", 0)) > 0.5, "drift")
    reached(lambda: "ModelDrift" in firing(served), "alert")
    reached(lambda: bool(retrainings(served).keys() - earlier.keys()), "retraining")
    reached(lambda: bool(proposals(served).keys() - before.keys()), "proposal")
    seconds = time.monotonic() - began
    (run,) = proposals(served).keys() - before.keys()
    proposal = proposals(served)[run]
    until(lambda: retrainings(served)[run]["outcome"] == "Proposed", seconds=60, what="the record", every=1)
    assert shown(served, run)["alert"] in ALERTS
    assert proposal["accuracy"] > 0.9 > proposal["in_service"]
    (successor,) = registered(served, run)
    assert (proposal["from"], proposal["to"]) == (entry["version"], successor["version"])
    assert int(successor["version"]) > int(entry["version"])
    served.run("models", "accept", "local", proposal["proposal"])
    (changed,) = yaml.safe_load((served.root / "stacks" / "models.yaml").read_text())["local"]
    assert {field: changed[field] for field in successor} == successor
    assert seconds < LONGEST
    record(
        line="2 the closed loop",
        evidence="executed",
        figure=f"{', '.join(after)}; accuracy {proposal['in_service']:.2f} to {proposal['accuracy']:.2f}",
        goal="10 minutes",
        command="pytest tests/acceptance/platform/test_5_loop.py",
    )


@pytest.mark.full
def test_an_alert_within_the_cooldown_trains_nothing(served: Checkout, record: Record) -> None:
    """It is recorded with the time from which on it may."""
    before = proposals(served)
    found = retrained(served, "again")
    assert found["outcome"] == "Not retrained"
    assert found["reason"].startswith("cooldown: retrained at ")
    assert proposals(served) == before
    record(
        line="2 repeated alerts within the cooldown",
        evidence="executed",
        figure=found["reason"],
        goal="one run",
        command="pytest --full tests/acceptance/platform/test_5_loop.py",
    )


@pytest.mark.full
@pytest.mark.usefixtures("any_time")
def test_a_worse_candidate_is_not_proposed(served: Checkout, record: Record) -> None:
    """Half of the labels are noise: what learned from them is worse, on the same rows, and the record says so."""
    until(lambda: measured(served).get("requests") == "0", seconds=LONGEST, what="an empty window", every=2)
    before = proposals(served)
    half = "np.where(random.random(len(y)) < 0.5, random.integers(0, 10, len(y)), y)"
    send(served, "mislabelled", "x", half)
    found = retrained(served, "mislabelled")
    assert found["outcome"] == "Not better", found
    figures = BOTH.fullmatch(found["reason"])
    assert figures, found
    assert float(figures["candidate"]) < float(figures["serving"])
    assert proposals(served) == before
    assert registered(served, found["run"]) == []
    record(
        line="2 a worse candidate",
        evidence="executed",
        figure=found["reason"],
        goal="no proposal",
        command="pytest --full tests/acceptance/platform/test_5_loop.py",
    )


@pytest.mark.full
@pytest.mark.usefixtures("any_time")
def test_a_broken_feed_is_refused_and_alerts(served: Checkout, record: Record) -> None:
    """Values that a scanner cannot send are no drift: the feed's own alert fires, and a retraining refuses them."""
    before = proposals(served)
    send(served, "broken", "x * 255 / 16")
    until(lambda: "ModelFeedInvalid" in firing(served), seconds=LONGEST, what="the feed's alert", every=2)
    found = retrained(served, "broken")
    assert found["outcome"] == "Refused"
    assert "a value is out of range; accepted: 0 to 16" in found["reason"]
    assert proposals(served) == before
    record(
        line="2 a corrupted feed",
        evidence="executed",
        figure=f"ModelFeedInvalid fires; {found['reason']}",
        goal="refused, alert says why",
        command="pytest --full tests/acceptance/platform/test_5_loop.py",
    )
