"""The chart of pipelines before a real API server: each object of each form of it is accepted, and nothing is made."""

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import yaml

from components._labels import restricted
from infra import console
from infra.clusters import embedded
from infra.clusters.nodes import Nodes
from infra.kubectl import Kubectl
from stacks._schema import SystemNodes
from tests.charts.conftest import CHART, forms
from tests.charts.rendering import NAMESPACE, Object, kinds, render
from tests.conftest import Record

DRY = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts", "--filename=-")


def pods(objects: Iterable[Object]) -> list[Object]:
    """Return the pods that the Deployments would make: Pod Security refuses a pod, not a Deployment."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": each["metadata"]["name"],
                "namespace": each["metadata"]["namespace"],
                "labels": each["spec"]["template"]["metadata"]["labels"],
            },
            "spec": each["spec"]["template"]["spec"],
        }
        for each in objects
        if each["kind"] == "Deployment"
    ]


def before(objects: Iterable[Object]) -> list[Object]:
    """Return what the others need: kinds, namespaces that take restricted pods only, priority, accounts."""
    namespaces = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": restricted()}}
        for name in (NAMESPACE, "team-vision")
    ]
    priority = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "kiban-platform"},
        "value": 1,
    }
    own_kinds = [yaml.safe_load(file.read_text()) for file in sorted((CHART / "crds-kfp").glob("*.yaml"))]
    accounts = {
        each["metadata"]["namespace"] + "/" + each["metadata"]["name"]: each
        for each in objects
        if each["kind"] == "ServiceAccount"
    }
    return [*kinds(), *own_kinds, *namespaces, priority, *accounts.values()]


def test_the_api_server_accepts_every_object_and_every_pod(
    named: Callable[[str], str], tmp_path: Path, record: Record
) -> None:
    """Argo, and Kubeflow Pipelines in each form: no field is unknown, and pods pass Pod Security restricted."""
    rendered = render(CHART, forms(), tmp_path)
    cluster = embedded.up(named("charts"), Nodes(system=SystemNodes(count=1)), say=console.say)
    kubectl = Kubectl(cluster.kubeconfig, cluster.context)
    started = time.monotonic()
    kubectl.apply(before([each for objects in rendered.values() for each in objects]), field_manager="tests")
    kubectl.run("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    admitted = 0
    for objects in rendered.values():
        everything = {"apiVersion": "v1", "kind": "List", "items": [*objects, *pods(objects)]}
        said = kubectl.run(*DRY, stdin=json.dumps(everything))
        assert said.count("serverside-applied (server dry run)") == len(everything["items"])
        admitted += len(everything["items"])
    assert not kubectl.get("deployments", namespace=NAMESPACE)
    record(
        line="the API server accepts every object of charts/pipelines, in every form",
        evidence="executed",
        figure=f"{admitted} objects and pods, {time.monotonic() - started:.1f} s",
        goal="all",
        command="pytest tests/integration/test_charts.py",
    )
