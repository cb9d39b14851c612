"""What a team does on the platform: it starts runs, and runs scripts in pods of its namespace."""

import functools
import json
import textwrap
from typing import Any

from infra import charts
from infra.clusters.waiting import until
from tests.checkout import Checkout

TEAM, OTHER = "vision", "language"
NAMESPACE = ("-n", f"team-{TEAM}")
(IMAGE,) = (
    each["value"]
    for each in charts.templates("reference")["reference"]["spec"]["arguments"]["parameters"]
    if each["name"] == "image"
)
REGISTERED = """
    import json
    from mlflow import MlflowClient
    client = MlflowClient()
    for version in client.search_model_versions("name = 'vision-digits'"):
        if version.tags["kiban.workflow"] == {run!r}:
            of = client.get_logged_model(version.source.removeprefix("models:/"))
            uri, digest = of.artifact_location + "/model.pkl", version.tags["kiban.model_digest"]
            print(json.dumps({{"version": str(version.version), "uri": uri, "digest": digest}}))
"""


def start(platform: Checkout, *parameters: str, expect: int = 0) -> str:
    """Run the reference pipeline to its end and return its name."""
    words = [word for parameter in parameters for word in ("--param", parameter)]
    (item,) = platform.json("runs", "start", "local", "--team", TEAM, *words, "--wait", expect=expect)["items"]
    return str(item["run"])


def shown(platform: Checkout, run: str) -> dict[str, Any]:
    """Return what is recorded of a run, by field."""
    return {each["field"]: each["value"] for each in platform.json("runs", "show", "local", run)["items"]}


def registered(platform: Checkout, run: str) -> list[dict[str, str]]:
    """Return version, uri and digest of each model that a run registered."""
    printed = said(platform, "registered", REGISTERED.format(run=run))
    return [json.loads(line) for line in printed if line.startswith("{")]  # MLflow says more


def pod(name: str, team: str, script: str) -> str:
    """Return a pod of a team that runs a Python script with all that the team's pods are given."""
    keys = {"AWS_ACCESS_KEY_ID": "accesskey", "AWS_SECRET_ACCESS_KEY": "secretkey"}
    of = "mlpipeline-minio-artifact"
    container = {
        "name": "main",
        "image": IMAGE,
        "command": ["python3", "-c", textwrap.dedent(script)],
        "envFrom": [{"secretRef": {"name": "mlflow"}}, {"configMapRef": {"name": "metadata-store"}}],
        "env": [
            {"name": variable, "valueFrom": {"secretKeyRef": {"name": of, "key": key}}}
            for variable, key in keys.items()
        ],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    spec: dict[str, Any] = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1}
    spec |= {"securityContext": security, "containers": [container]}
    labels = {"kueue.x-k8s.io/queue-name": "default"}
    metadata = {"name": name, "namespace": f"team-{team}", "labels": labels}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def said(platform: Checkout, name: str, script: str, team: str = TEAM, cluster: str = "local") -> list[str]:
    """Run a script in a pod of a team and return the lines that it printed."""
    kubectl = functools.partial(platform.kubectl, cluster)
    there = ("-n", f"team-{team}")
    kubectl("apply", "-f", "-", stdin=pod(name, team, script))
    phase = (*there, "get", "pod", name, "-o", "jsonpath={.status.phase}")
    until(lambda: kubectl(*phase) in {"Succeeded", "Failed"}, seconds=180, what=f"pod {name} to end", every=1)
    printed = kubectl(*there, "logs", name)
    assert kubectl(*phase) == "Succeeded", printed
    kubectl(*there, "delete", "pod", name, "--wait=false")
    return printed.splitlines()
