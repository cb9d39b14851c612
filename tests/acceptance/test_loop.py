"""The loop, closed: shifted traffic, drift, an alert, a retraining, a proposal; then what must not come of it.

Executed: KServe, its logger, Prometheus, Alertmanager and Argo are processes in real pods; the rules are the chart's.
"""

import functools
import json
import textwrap
import time
from typing import Any

import pytest

from infra.clusters.waiting import until
from tests.acceptance.test_pipelines import TEAM, said, start
from tests.checkout import Checkout
from tests.conftest import Record

pytestmark = pytest.mark.full
LONGEST = 600.0
"""Seconds from the first shifted request to the proposal."""
NAMESPACE = ("-n", f"team-{TEAM}")
WATCH = {
    "schedule": "* * * * *",
    "window_minutes": 3,
    "fewest_requests": 200,
    "fewest_labelled": 500,
    "feed_range": [0, 16],
    "cooldown_minutes": 60,
}

FIND = """
    import json
    from mlflow import MlflowClient
    client = MlflowClient()
    version = client.get_model_version("vision-digits", "1")
    where = client.get_logged_model(version.source.removeprefix("models:/")).artifact_location
    print(json.dumps({"version": "1", "uri": where + "/model.pkl", "digest": version.tags["kiban.model_digest"]}))
"""

SEND = """
    import json, os, urllib.request, uuid
    import boto3
    import numpy as np
    from sklearn.datasets import load_digits
    digits = load_digits()
    some = np.random.default_rng({seed}).permutation(len(digits.data))[:1200]
    x, y = digits.data[some], digits.target[some]
    x = {change}
    labels = []
    for begin in range(0, len(x), 10):
        part = x[begin : begin + 10]
        name = str(uuid.uuid4())
        tensor = {{"name": "input-0", "shape": list(part.shape), "datatype": "FP64", "data": part.ravel().tolist()}}
        body = json.dumps({{"id": name, "inputs": [tensor]}}).encode()
        where, kind = "http://digits-predictor.team-vision.svc", {{"Content-Type": "application/json"}}
        request = urllib.request.Request(where + "/v2/models/digits/infer", body, kind)
        urllib.request.urlopen(request, timeout=30).read()
        labels.append(json.dumps({{"id": name, "label": y[begin : begin + 10].tolist()}}))
    store = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    store.put_object(
        Bucket=os.environ["BUCKET"], Key=f"labels/digits/{{uuid.uuid4()}}.jsonl", Body="\\n".join(labels).encode()
    )
    print(len(x))
"""


@pytest.fixture(scope="module")
def served(checkout: Checkout) -> Checkout:
    """Return a checkout whose environment `local` serves and watches the digits that the reference pipeline trained."""
    checkout.run("up", "local")
    start(checkout)
    model = json.loads(said(checkout, "find", FIND)[-1])
    entry = {"name": "digits", "team": TEAM, "runtime": "kserve-sklearnserver", "format": "sklearn", **model}
    file = checkout.root / "stacks" / "models.yaml"
    file.write_text(json.dumps({"local": [entry | {"watch": WATCH}]}))  # JSON is YAML
    checkout.run("up", "local")
    return checkout


def send(platform: Checkout, name: str, change: str) -> None:
    """Send 1,200 digits that were changed by an expression of `x`, and bring their labels."""
    assert said(platform, name, SEND.format(seed=len(name), change=change))[-1] == "1200"


def recorded(platform: Checkout) -> list[dict[str, Any]]:
    """Return the retrainings that are recorded, the oldest first."""
    items = platform.json("runs", "list", "local", "--team", TEAM)["items"]
    return [each for each in reversed(items) if each["run"].startswith("retrain-") and each["mlflow_run"]]


def outcomes(platform: Checkout) -> list[str]:
    """Return how the retrainings ended."""
    return [each["outcome"] for each in recorded(platform)]


def measured(platform: Checkout) -> dict[str, str]:
    """Return the figures of the last monitor that has ended, by output."""
    listed = json.loads(
        platform.kubectl(
            "local",
            *NAMESPACE,
            "get",
            "workflows",
            "-l",
            "workflows.argoproj.io/cron-workflow=drift-digits",
            "-o",
            "json",
        )
    )["items"]
    ended = [each for each in listed if each.get("status", {}).get("phase") == "Succeeded"]
    if not ended:
        return {}
    last = max(ended, key=lambda each: each["status"]["finishedAt"])
    nodes = [node for node in last["status"]["nodes"].values() if node.get("outputs", {}).get("parameters")]
    return {each["name"]: each["value"] for each in nodes[0]["outputs"]["parameters"]}


def firing(platform: Checkout, name: str) -> set[str]:
    """Return the model alerts that fire in Prometheus."""
    where = ("get", "--raw", "/api/v1/namespaces/kiban-monitoring/services/prometheus:9090/proxy/api/v1/alerts")
    alerts = json.loads(platform.kubectl("local", *where))["data"]["alerts"]
    return {
        each["labels"]["alertname"]
        for each in alerts
        if each["state"] == "firing" and each["labels"].get("model") == name
    }


def test_traffic_as_it_was_starts_nothing(served: Checkout) -> None:
    """No drift, no alert, no retraining."""
    send(served, "as-it-was", "x")
    until(lambda: measured(served).get("measured") == "true", seconds=LONGEST, what="a monitor to measure", every=2)
    assert float(measured(served)["drift-share"]) < 0.3
    assert firing(served, "digits") == set()
    assert recorded(served) == []


def test_shifted_traffic_ends_with_a_proposal(served: Checkout, record: Record) -> None:
    """Each hop: drift, the alert, the retraining, a better version, a proposal that the file takes."""
    began = time.monotonic()
    wait = functools.partial(until, seconds=LONGEST, every=2)
    send(served, "shifted", "8 + x / 2")  # as a scanner whose lamp has aged
    wait(lambda: float(measured(served).get("drift-share", 0)) > 0.5, what="the drift to rise")
    drifted = time.monotonic() - began
    wait(lambda: "ModelDrift" in firing(served, "digits"), what="the alert to fire")
    alerted = time.monotonic() - began
    wait(lambda: "Proposed" in outcomes(served), what="a proposal")
    seconds = time.monotonic() - began
    (proposal,) = served.json("models", "proposals", "local")["items"]
    assert proposal["accuracy"] > 0.9 > proposal["in_service"]
    assert (proposal["from"], proposal["to"]) == ("1", "2")
    served.run("models", "accept", "local", proposal["proposal"])
    assert '"2"' in (served.root / "stacks" / "models.yaml").read_text()
    assert seconds < LONGEST
    record(
        line="2 the closed loop",
        evidence="executed",
        figure=f"drift after {drifted:.0f} s, alert {alerted:.0f} s, proposal {seconds:.0f} s; accuracy "
        f"{proposal['in_service']:.2f} to {proposal['accuracy']:.2f}",
        goal="10 minutes",
        command="pytest tests/acceptance/test_loop.py",
    )


def test_an_alert_within_the_cooldown_trains_nothing(served: Checkout) -> None:
    """It is recorded with the time from which on it may."""
    submit(served, "again")
    until(lambda: "Not retrained" in outcomes(served), seconds=LONGEST, what="the record", every=2)
    assert recorded(served)[-1]["reason"].startswith("cooldown: retrained at ")
    assert len(served.json("models", "proposals", "local")["items"]) == 1


def submit(platform: Checkout, alert: str) -> None:
    """Start the retraining as the event binding does."""
    arguments = [{"name": "model", "value": "digits"}, {"name": "alert", "value": alert}]
    workflow = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": "retrain-", "namespace": f"team-{TEAM}"},
        "spec": {"workflowTemplateRef": {"name": "retrain"}, "arguments": {"parameters": arguments}},
    }
    platform.kubectl("local", "create", "-f", "-", stdin=textwrap.dedent(json.dumps(workflow)))


def test_a_broken_feed_is_refused_and_alerts(served: Checkout) -> None:
    """Values that a scanner cannot send are no drift: the feed's own alert fires, and a retraining refuses them."""
    settings = json.loads(
        served.kubectl("local", *NAMESPACE, "get", "configmap", "retraining", "-o", "jsonpath={.data.digits}")
    )
    patch = json.dumps({"data": {"digits": json.dumps(settings | {"cooldown_minutes": 0, "budget_per_day": 100})}})
    served.kubectl("local", *NAMESPACE, "patch", "configmap", "retraining", "--type=merge", f"--patch={patch}")
    send(served, "broken", "x * 255 / 16")
    until(lambda: "ModelFeedInvalid" in firing(served, "digits"), seconds=LONGEST, what="the feed's alert", every=2)
    submit(served, "broken")
    until(lambda: "Refused" in outcomes(served), seconds=LONGEST, what="the refusal", every=2)
    assert "a value is out of range; accepted: 0 to 16" in recorded(served)[-1]["reason"]
