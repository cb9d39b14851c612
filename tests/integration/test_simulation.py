"""Simulated nodes on a real control plane: how they follow the data, and how pods on them live, fail and end."""

import dataclasses as dc
import json
import time
from collections.abc import Callable

from infra.clusters import embedded
from infra.clusters.nodes import Nodes
from infra.kubectl import Kubectl
from stacks._schema import SystemNodes
from tests.conftest import Record
from tests.integration.conftest import POOLS, run_job

ONE_NODE = Nodes(system=SystemNodes(count=1))
Named = Callable[[str], str]


def quiet(line: str) -> None:
    """Say nothing."""


def test_a_job_completes_after_its_annotated_duration(kubectl: Kubectl) -> None:
    """Simulated: a Job's pod runs for as long as its annotation says, then it and the Job are complete."""
    run_job(kubectl, "timed", duration="2s")
    kubectl.run("wait", "--for=condition=Complete", "job/timed", "--timeout=60s")
    pod = kubectl.get("pods", selector="job-name=timed", namespace="default")[0]
    state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert pod["status"]["phase"] == "Succeeded"
    assert 2 <= _seconds(state["finishedAt"]) - _seconds(state["startedAt"]) <= 5
    kubectl.run("delete", "job", "timed")
    assert kubectl.get("pods", selector="job-name=timed", namespace="default") == []


def _seconds(stamp: str) -> float:
    return time.mktime(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ"))


def test_a_pod_fails_on_request(kubectl: Kubectl) -> None:
    """Simulated: an annotation makes a Job's pod fail with its words, and the Job with it."""
    run_job(kubectl, "doomed", fail="CUDA out of memory")
    kubectl.run("wait", "--for=condition=Failed", "job/doomed", "--timeout=60s")
    pod = kubectl.get("pods", selector="job-name=doomed", namespace="default")[0]
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"] == "CUDA out of memory"
    kubectl.run("delete", "job", "doomed")


def test_a_served_pod_is_ready_but_while_it_is_told_to_fail(kubectl: Kubectl) -> None:
    """Simulated: a Deployment becomes available; its pod loops while annotated, and is ready again afterwards."""
    kubectl.run("create", "deployment", "web", "--image=example.test/web:1")
    kubectl.run("wait", "--for=condition=Available", "deployment/web", "--timeout=60s")
    pod = kubectl.get("pods", selector="app=web", namespace="default")[0]["metadata"]["name"]
    kubectl.run("annotate", "pod", pod, "simulation.kiban.dev/fail=no such model")
    kubectl.run("wait", "--for=condition=Ready=false", f"pod/{pod}", "--timeout=60s")
    waiting = kubectl.get("pod", pod)[0]["status"]["containerStatuses"][0]["state"]["waiting"]
    assert (waiting["reason"], waiting["message"]) == ("CrashLoopBackOff", "no such model")
    kubectl.run("annotate", "pod", pod, "simulation.kiban.dev/fail-")
    kubectl.run("wait", "--for=condition=Ready", f"pod/{pod}", "--timeout=60s")
    kubectl.run("delete", "deployment", "web")
    kubectl.run("wait", "--for=delete", f"pod/{pod}", "--timeout=60s")


def test_a_pod_is_ready_again_after_its_node_was_not(kubectl: Kubectl) -> None:
    """Simulated: what the controller manager does to a lost node's pods is undone, their addresses kept."""
    kubectl.run("run", "kept", "--image=example.test/web:1")
    kubectl.run("wait", "--for=condition=Ready", "pod/kept", "--timeout=60s")
    before = kubectl.get("pod", "kept")[0]["status"]
    lost = {"status": {"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": before["startTime"]}]}}
    kubectl.run("patch", "pod", "kept", "--subresource=status", f"--patch={json.dumps(lost)}")
    kubectl.run("wait", "--for=condition=Ready", "pod/kept", "--timeout=60s")
    after = kubectl.get("pod", "kept")[0]["status"]
    assert (after["podIP"], after["startTime"]) == (before["podIP"], before["startTime"])
    kubectl.run("delete", "pod", "kept")


def test_nodes_follow_the_data(named: Named, *, full: bool, record: Record) -> None:
    """A large pool comes up Ready, a changed one is changed in place, and nodes that left the data are removed."""
    count = 1000 if full else 200
    pool = dc.replace(POOLS.gpu_pools[0], nodes=count)
    cluster = embedded.up(named("large"), ONE_NODE, say=quiet)
    began = time.monotonic()
    embedded.up("large", Nodes(system=ONE_NODE.system, gpu_pools=(pool,)), say=quiet)
    seconds = time.monotonic() - began
    assert (embedded.status("large").nodes, embedded.status("large").nodes_ready) == (count + 1, count + 1)
    record(
        line="simulated nodes",
        evidence="simulated",
        figure=f"{count} in {seconds:.1f} s",
        goal="1000 in 10 s",
        command="",
    )
    small = dc.replace(pool, nodes=1, gpus_per_node=4)
    embedded.up("large", Nodes(system=ONE_NODE.system, gpu_pools=(small,)), say=quiet)
    nodes = Kubectl(cluster.kubeconfig).get("nodes")
    offered = {node["metadata"]["name"]: node["status"]["allocatable"].get("nvidia.com/gpu") for node in nodes}
    assert offered == {"system-0": None, "a100-0": "4"}
