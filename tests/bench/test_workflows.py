"""What a queue costs a workflow, and what two hundred at once cost the controller, on a real node."""

import datetime as dt
import functools
import json
import statistics
import time
from collections.abc import Iterator
from typing import Any

import pytest

from infra.clusters.waiting import until
from tests.checkout import Checkout, copy_to
from tests.conftest import Record

QUEUED, BARE = "team-vision", "bare"
MANY = 200
RUNNER = ("serviceaccount/pipeline-runner", "role/pipeline-runner", "rolebinding/pipeline-runner")
SETTINGS = ("rolebinding/argo-runs", "configmap/artifact-repositories", "secret/mlpipeline-minio-artifact")

LET_IN: dict[str, Any] = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "allow-bare", "namespace": "kiban-metadata"},
    "spec": {
        "podSelector": {},
        "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": BARE}}}]}],
    },
}
"""Steps keep their logs in the object store, which lets teams in only."""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Return a checkout whose environment `local` is up, with a namespace that no queue is for."""
    checkout = copy_to(tmp_path_factory.mktemp("checkout"))
    try:
        checkout.run("up", "local")
        kubectl = functools.partial(checkout.kubectl, "local")
        kubectl("create", "namespace", BARE)
        read = json.loads(kubectl("-n", QUEUED, "get", *RUNNER, *SETTINGS, "-o", "json"))["items"]
        items = [*moved(read), LET_IN]
        kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        yield checkout
    finally:
        checkout.run("cluster", "down", "local", expect=None)


def moved(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the objects as they would be in the namespace without a queue."""
    text = json.dumps(objects).replace(f'"{QUEUED}"', f'"{BARE}"')
    found: list[dict[str, Any]] = json.loads(text)
    for each in found:
        kept = {key: each["metadata"].get(key) for key in ("name", "namespace", "annotations")}
        each["metadata"] = {key: value for key, value in kept.items() if value}
    return found


def workflow(namespace: str) -> dict[str, Any]:
    """Return a Workflow of two steps that do nothing."""
    security = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    container = {
        "image": "busybox:1.35.0",
        "command": ["true"],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    steps = [[{"name": name, "template": "one"}] for name in ("first", "second")]
    templates = [{"name": "both", "steps": steps}, {"name": "one", "container": container}]
    spec = {
        "entrypoint": "both",
        "templates": templates,
        "securityContext": security,
        "podGC": {"strategy": "OnWorkflowCompletion"},
    }
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": "bench-", "namespace": namespace},
        "spec": spec,
    }


def timed(platform: Checkout, namespace: str) -> tuple[float, float]:
    """Submit a Workflow; return the seconds until its first step runs or has run, and until it has succeeded."""
    kubectl = functools.partial(platform.kubectl, "local", "-n", namespace)
    began = time.monotonic()
    name = kubectl("create", "-f", "-", "-o", "name", stdin=json.dumps(workflow(namespace))).strip()
    phases = ("get", name, "-o", "jsonpath={.status.phase} {.status.nodes.*.phase} {.status.nodes.*.type}")
    pods = ("get", "pods", "-l", f"workflows.argoproj.io/workflow={name.split('/')[1]}", "-o")
    running = (*pods, "jsonpath={.items[*].status.containerStatuses[?(@.name=='main')].state}")
    until(lambda: "startedAt" in kubectl(*running), seconds=120, what=f"{name} to run", every=0.1)
    first = time.monotonic() - began
    until(lambda: kubectl(*phases).startswith("Succeeded"), seconds=120, what=f"{name} to succeed", every=0.1)
    return first, time.monotonic() - began


@pytest.mark.full
def test_what_a_queue_costs_a_workflow(platform: Checkout, record: Record) -> None:
    """The same workflow where Kueue queues its pods, and where nothing does: medians of five."""
    taken = {space: [timed(platform, space) for _ in range(5)] for space in (BARE, QUEUED)}
    for index, what in enumerate(("first step runs", "succeeded")):
        bare, queued = (statistics.median(each[index] for each in taken[space]) for space in (BARE, QUEUED))
        record(
            line=f"8 workflow of two steps, {what}",
            evidence="executed",
            figure=f"{queued / bare:.2f} x without a queue ({queued:.1f} s / {bare:.1f} s)",
            goal="-",
            command="pytest --full tests/bench/test_workflows.py",
        )


def moment(text: str) -> float:
    """Return a time of Kubernetes' as seconds."""
    return dt.datetime.fromisoformat(text).timestamp()


@pytest.mark.full
def test_many_workflows_at_once(platform: Checkout, record: Record) -> None:
    """All succeed; how much memory the controller takes, and how long a workflow waits for its turn."""
    (controller,) = platform.pod_processes("local", "workflow-controller")
    kubectl = functools.partial(platform.kubectl, "local", "-n", QUEUED)
    kubectl("delete", "workflows", "--all", "--wait=true")
    everything = {"apiVersion": "v1", "kind": "List", "items": [workflow(QUEUED)] * MANY}
    most = 0
    began = time.monotonic()
    kubectl("create", "-f", "-", stdin=json.dumps(everything))

    def done() -> bool:
        nonlocal most
        most = max(most, controller.memory_info().rss)
        return kubectl("get", "workflows", "-o", "jsonpath={.items[*].status.phase}").split().count("Succeeded") == MANY

    until(done, seconds=1800, what=f"{MANY} workflows to succeed", every=1)
    seconds = time.monotonic() - began
    items = json.loads(kubectl("get", "workflows", "-o", "json"))["items"]
    started = [moment(one["status"]["startedAt"]) - moment(one["metadata"]["creationTimestamp"]) for one in items]
    ran = [moment(one["status"]["finishedAt"]) - moment(one["status"]["startedAt"]) for one in items]
    record(
        line=f"8 {MANY} workflows of two steps at once",
        evidence="executed",
        figure=f"{seconds:.0f} s, controller {most / 2**20:.0f} MiB, waits {statistics.median(started):.0f} s "
        f"(longest {max(started):.0f} s), runs {statistics.median(ran):.0f} s",
        goal="-",
        command="pytest --full tests/bench/test_workflows.py",
    )
