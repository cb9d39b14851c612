"""Requests from outside, in the environment that has a gateway: by TLS through Envoy, and to canaries.

Executed: Envoy Gateway, Envoy, Prometheus, KServe, the canary controller and the models are processes in real pods.
Every request of the module is counted: one that is not answered, or answered with an error by another than a bad
canary, fails the test that caused it.
"""

import base64
import collections
import contextlib
import json
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from infra.clusters.waiting import until
from tests.acceptance.platform.team import IMAGE, TEAM, said
from tests.checkout import Checkout
from tests.conftest import Record

pytestmark = pytest.mark.full

CLUSTER, DOMAIN = "ci", "ci.example"
ENVOY = ("-n", "envoy-gateway-system")
HOST = f"digits.{TEAM}.{DOMAIN}"
OUTSIDE = "outside"
LONGEST = 600.0
LATENCY_MS = 500

MODELS = """
    import hashlib, json, os, pickle
    import boto3
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    x, y = load_digits(return_X_y=True)
    x /= 16
    made = {
        "1": LogisticRegression(max_iter=500).fit(x, y),
        "2": LogisticRegression(max_iter=500, C=0.5).fit(x, y),
        "3": LogisticRegression(max_iter=500).fit(x[:, :10], y),  # takes ten features, and is asked with 64
        "4": RandomForestClassifier(n_estimators=12000, max_depth=1).fit(x[:300], y[:300]),  # takes a second
    }
    store = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    for version, model in made.items():
        body = pickle.dumps(model)
        key = f"models/{version}/model.pkl"
        store.put_object(Bucket=os.environ["BUCKET"], Key=key, Body=body)
        uri = f"s3://{os.environ['BUCKET']}/{key}"
        print(json.dumps({"version": version, "uri": uri, "digest": hashlib.sha256(body).hexdigest()}))
"""
TRAFFIC = """
    import collections, http.client, json, os, socket, ssl, sys, threading, time

    trust = ssl.create_default_context(cadata=os.environ["AUTHORITY"])
    host, address = os.environ["HOST"], os.environ["ADDRESS"]
    tensor = {"name": "x", "shape": [1, 64], "datatype": "FP64", "data": [each % 17 / 16 for each in range(64)]}
    body = json.dumps({"inputs": [tensor]})
    counts, lock = collections.Counter(), threading.Lock()

    class ByAddress(http.client.HTTPSConnection):
        def connect(self):
            plain = socket.create_connection((address, 443), timeout=30)
            self.sock = trust.wrap_socket(plain, server_hostname=host)

    def ask(number):
        connection = ByAddress(host, context=trust, timeout=30)
        while True:
            begun = time.monotonic()
            try:
                connection.request("POST", "/v2/models/digits/infer", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                content = answer.read().decode(errors="replace")[:80]
                said = f"{answer.status} {answer.getheader('x-canary-version', '-')}"
                if answer.status != 200 and said.endswith("-"):
                    said += f" {content!r} at {time.time():.0f}"
            except Exception as error:
                said = f"none {type(error).__name__}: {error}"
                connection.close()
                connection = ByAddress(host, context=trust, timeout=30)
            with lock:
                counts[said] += 1
            time.sleep(max(0, 0.25 - (time.monotonic() - begun)))

    for number in range(int(os.environ["THREADS"])):
        threading.Thread(target=ask, args=(number,), daemon=True).start()
    while True:
        time.sleep(1)
        with lock:
            print(json.dumps(counts), flush=True)
"""


@pytest.fixture(scope="module")
def versions(checkout: Checkout) -> dict[str, dict[str, str]]:
    """Return the models that there are, by version: the first two are good, 3 fails, 4 is slow; `ci` is up."""
    checkout.run("up", CLUSTER)
    found = [json.loads(line) for line in said(checkout, "models", MODELS, cluster=CLUSTER)]
    return {each["version"]: each for each in found}


@pytest.fixture(scope="module")
def platform(checkout: Checkout, versions: dict[str, dict[str, str]]) -> Checkout:
    """Return the checkout whose environment `ci` serves version 1."""
    serve(checkout, versions["1"])
    ready = ("-n", f"team-{TEAM}", "wait", "inferenceservice/digits", "--for=condition=Ready", "--timeout=300s")
    checkout.kubectl(CLUSTER, *ready)
    return checkout


def serve(platform: Checkout, version: dict[str, str], canary: dict[str, str] | None = None) -> None:
    """Bring up a version, and a canary beside it."""
    entry: dict[str, Any] = {"name": "digits", "team": TEAM, **version}
    entry |= {"runtime": "kserve-sklearnserver", "format": "sklearn", "memory": "768Mi"}
    entry |= {"objective": {"availability": 0.99, "latency_ms": LATENCY_MS}}
    if canary:
        entry["canary"] = {**canary, "step_minutes": 1, "fewest_requests": 30}
    file = platform.root / "stacks" / "models.yaml"
    file.write_text(json.dumps({CLUSTER: [entry]}))  # JSON is YAML
    platform.run("up", CLUSTER)


@pytest.fixture(scope="module")
def traffic(platform: Checkout) -> Iterator[str]:
    """Send about 16 requests a second from a namespace that is nobody's; yield the pod's name."""
    (service,) = json.loads(
        platform.kubectl(
            CLUSTER,
            *ENVOY,
            *("get", "services", "-o", "json"),
            *("-l", "gateway.envoyproxy.io/owning-gateway-name=kiban"),
        )
    )["items"]
    secret = ("get", "secret", "gateway", "-o", r"jsonpath={.data.ca\.crt}")
    environ = {
        "AUTHORITY": base64.b64decode(platform.kubectl(CLUSTER, *ENVOY, *secret)).decode(),
        "HOST": HOST,
        "ADDRESS": service["spec"]["clusterIP"],
        "THREADS": "4",
    }
    container = {
        "name": "main",
        "image": IMAGE,
        "command": ["python3", "-uc", textwrap.dedent(TRAFFIC)],
        "env": [{"name": name, "value": value} for name, value in environ.items()],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
    }
    spec = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 1}
    spec |= {"securityContext": {"runAsNonRoot": True, "runAsUser": 65532}}
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OUTSIDE}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "traffic", "namespace": OUTSIDE}, "spec": spec},
    ]
    platform.kubectl(CLUSTER, "apply", "-f", "-", stdin="\n---\n".join(json.dumps(each) for each in objects))
    until(lambda: answered(platform)["200 -"] > 0, seconds=LONGEST, what="the model to answer by TLS", every=1)
    yield "traffic"
    platform.kubectl(CLUSTER, "delete", "namespace", OUTSIDE, "--wait=false")


def answered(platform: Checkout) -> collections.Counter[str]:
    """Return how often what was answered so far: the status and the canary's version, or why there was no answer."""
    done = platform.try_kubectl(CLUSTER, "-n", OUTSIDE, "logs", "traffic", "--tail=1")
    lines = done.stdout.strip().splitlines()
    return collections.Counter(json.loads(lines[-1]) if done.returncode == 0 and lines else {})


@contextlib.contextmanager
def counted(platform: Checkout) -> Iterator[collections.Counter[str]]:
    """Yield what is filled with the answers of the block."""
    before = answered(platform)
    during: collections.Counter[str] = collections.Counter()
    yield during
    during.update(answered(platform) - before)


def moved(platform: Checkout) -> tuple[str, int, str]:
    """Return phase, share and reason of the canary."""
    own, canary = platform.json("models", "list", CLUSTER)["items"]
    assert own["share"] + canary["share"] == 100
    phase, _, reason = canary["canary"].partition(" ")
    return phase, canary["share"], reason


def test_a_model_answers_by_tls_through_envoy(platform: Checkout, traffic: str, record: Record) -> None:
    """The client trusts the gateway's authority alone; every request is answered."""
    assert traffic
    with counted(platform) as answers:
        until(lambda: answered(platform)["200 -"] > 100, seconds=LONGEST, what="100 answers", every=1)
    assert set(answers) == {"200 -"}
    record(
        line="1 V2 inference by TLS through Envoy",
        evidence="executed",
        figure=f"{answers.total()} requests, all answered",
        goal="all answered",
        command="./kiban up ci",
    )


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        pytest.param("3", "requests failed; accepted:", id="errors"),
        pytest.param("4", "99 of 100 requests took up to", id="latency"),
    ],
)
@pytest.mark.usefixtures("traffic")
def test_a_bad_canary_is_taken_back(
    platform: Checkout, versions: dict[str, dict[str, str]], bad: str, reason: str, record: Record
) -> None:
    """By what it answered itself; nobody else's requests fail, and in the end nothing goes to it any more."""
    with counted(platform) as answers:
        serve(platform, versions["1"], canary=versions[bad])
        until(lambda: moved(platform)[0] == "RolledBack", seconds=LONGEST, what="the canary to be taken back", every=2)
        assert moved(platform)[1] == 0
        assert reason in moved(platform)[2]
    assert answers[f"500 {bad}"] + answers[f"200 {bad}"] > 0
    assert set(answers) <= {"200 -", f"200 {bad}", f"500 {bad}"}
    with counted(platform) as later:
        before = answered(platform).total()
        until(lambda: answered(platform).total() > before + 100, seconds=LONGEST, what="100 more answers", every=1)
    assert set(later) == {"200 -"}
    serve(platform, versions["1"])
    record(
        line=f"5 a bad canary is taken back: {reason}",
        evidence="executed",
        figure=f"{answers.total()} requests: {dict(answers)}",
        goal="taken back; no request of others fails",
        command="./kiban up ci, with a canary",
    )


@pytest.mark.usefixtures("traffic")
def test_a_good_canary_gets_all_requests_and_becomes_the_model(
    platform: Checkout, versions: dict[str, dict[str, str]], record: Record
) -> None:
    """10, 50, 100 %; then the entry is changed; no request is dropped meanwhile."""
    shares: list[int] = []

    def promoted() -> bool:
        phase, share, _ = moved(platform)
        if share not in shares[-1:]:
            shares.append(share)
        return phase == "Promoted"

    with counted(platform) as answers:
        serve(platform, versions["1"], canary=versions["2"])
        until(promoted, seconds=LONGEST, what="the canary to get all requests", every=2)
        serve(platform, versions["2"])

        def settled() -> bool:
            (item,) = platform.json("models", "list", CLUSTER)["items"]
            pods = platform.kubectl(CLUSTER, "-n", f"team-{TEAM}", "get", "pods", "-o", "name")
            return item["ready"] == "yes" and sum("digits" in line for line in pods.splitlines()) == 1

        until(settled, seconds=LONGEST, what="the pods of the version before to be gone", every=2)
    assert [share for share in shares if share] == [10, 50, 100]
    assert set(answers) == {"200 -", "200 2"}
    record(
        line="5 a good canary, and then the model",
        evidence="executed",
        figure=f"{answers.total()} requests, none failed: {dict(answers)}",
        goal="10, 50, 100 %; no request dropped",
        command="./kiban up ci, with a canary, then with its version",
    )
