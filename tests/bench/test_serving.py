"""What the platform in front of a model server costs: Service, KServe's agent and the request log, against the server.

Executed: both servers, and who asks them, are pods on one machine, whose cores they share.
"""

import functools
import json
import statistics
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from infra.clusters.waiting import until
from tests.acceptance.platform.team import NAMESPACE, TEAM, registered, said, start
from tests.checkout import Checkout, copy_to
from tests.conftest import Record

pytestmark = pytest.mark.full
MODEL, BARE = "measured", "bare"
OF_MODEL = ("-l", f"serving.kserve.io/inferenceservice={MODEL}")
ROUNDS, SECONDS = 5, 5
GIVEN = ("nodeName", "nodeSelector", "tolerations", "priority", "preemptionPolicy", "schedulerName", "dnsPolicy")
"""Fields of a pod that the cluster fills in."""
LOAD = """
    import concurrent.futures, http.client, json, socket, statistics, time
    tensor = {{"name": "x", "shape": [1, 64], "datatype": "FP64", "data": [float(each % 17) for each in range(64)]}}
    body, kind = json.dumps({{"inputs": [tensor]}}), {{"Content-Type": "application/json"}}

    def caller(host, port, end):
        taken, connection = [], http.client.HTTPConnection(host, port, timeout=30)
        while (sent := time.monotonic()) < end:
            connection.request("POST", "/v2/models/{model}/infer", body, kind)
            answer = connection.getresponse()
            assert b'"outputs"' in answer.read(), answer.status
            taken.append(time.monotonic() - sent)
        return taken

    def load(host, port, connections, seconds):
        end = time.monotonic() + seconds
        with concurrent.futures.ThreadPoolExecutor(connections) as pool:
            callers = [pool.submit(caller, host, port, end) for _ in range(connections)]
            taken = [each for caller in callers for each in caller.result()]
        return {{"rate": len(taken) / seconds, "p99": statistics.quantiles(taken, n=100)[98] * 1000}}

    servers, found = {servers}, {{}}
    for host, port in servers.values():
        while socket.socket().connect_ex((host, port)):  # until NetworkPolicies know the pod
            time.sleep(0.1)
        load(host, port, 4, 2)
    for turn in range({rounds}):
        for connections in (1, 8):
            for name in sorted(servers, reverse=turn % 2):
                measured = load(*servers[name], connections, {seconds})
                found.setdefault(str(connections), {{}}).setdefault(name, []).append(measured)
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Return a checkout whose environment `local` serves a model by one pod."""
    checkout = copy_to(tmp_path_factory.mktemp("checkout"))
    try:
        checkout.run("up", "local")
        (of_run,) = registered(checkout, start(checkout))
        own = {"name": MODEL, "team": TEAM, "runtime": "kserve-sklearnserver", "format": "sklearn", **of_run}
        file = checkout.root / "stacks" / "models.yaml"
        models = yaml.safe_load(file.read_text())
        others = [each for each in models["local"] if each["name"] != MODEL]
        file.write_text(json.dumps(models | {"local": [*others, own]}))  # JSON is YAML
        checkout.run("up", "local")
        listed = ("models", "list", "local")
        until(
            lambda: {each["model"]: each["ready"] for each in checkout.json(*listed)["items"]}[MODEL] == "yes",
            seconds=240,
            what="the model to be ready",
        )
        yield checkout
    finally:
        checkout.run("cluster", "down", "local", expect=None)


def alone(served: dict[str, Any]) -> dict[str, Any]:
    """Return a pod that has the server of a model's pod, with its model and resources, and nothing in front."""
    spec = {key: value for key, value in served["spec"].items() if key not in GIVEN}
    spec["containers"] = [each for each in spec["containers"] if each["name"] == "kserve-container"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": BARE, "namespace": served["metadata"]["namespace"]},
        "spec": spec,
    }


def test_load_against_the_bare_model_server(platform: Checkout, record: Record) -> None:
    """Throughput and the 99th percentile of answers' times, round by round in turns: ratios of medians."""
    kubectl = functools.partial(platform.kubectl, "local", *NAMESPACE)
    (served,) = json.loads(kubectl("get", "pods", *OF_MODEL, "-o", "json"))["items"]
    assert {each["name"] for each in served["spec"]["containers"]} == {"kserve-container", "agent"}
    kubectl("apply", "-f", "-", stdin=json.dumps(alone(served)))
    kubectl("wait", f"pod/{BARE}", "--for=condition=Ready", "--timeout=120s")
    address = kubectl("get", "pod", BARE, "-o", "jsonpath={.status.podIP}")
    servers = {"bare": (address, 8080), "served": (f"{MODEL}-predictor.team-{TEAM}.svc", 80)}
    script = LOAD.format(model=MODEL, servers=servers, rounds=ROUNDS, seconds=SECONDS)
    found = json.loads(said(platform, "load", script)[-1])
    kubectl("delete", "pod", BARE, "--wait=false")
    for connections, rounds in found.items():
        for figure, unit in (("rate", "/s"), ("p99", " ms")):
            bare, ours = (statistics.median(each[figure] for each in rounds[name]) for name in ("bare", "served"))
            record(
                line=f"6 a served model, {connections} connections, {figure}",
                evidence="executed",
                figure=f"{ours / bare:.2f} x the bare server ({ours:.1f}{unit} / {bare:.1f}{unit})",
                goal="-",
                command="pytest --full tests/bench/test_serving.py",
            )
