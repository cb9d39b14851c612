"""Exit handler `record`: write what a workflow was and how it ended to its MLflow run, and end the run.

It reads its own Workflow and the pods of it. It works whatever the workflow failed at: where no step came as far as an
MLflow run, it makes one.
"""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from . import cluster, options
from .ending import step
from .tracking import Tracked

Document = Mapping[str, Any]

QUEUE = "kueue.x-k8s.io/queue-name"
COMMIT = "git-commit"
"""The argument that is a tag of the run even where no step came as far as writing it."""
NODE_ID = "workflows.argoproj.io/node-id"
SETTLED = ("Succeeded", "Failed", "Error", "Skipped", "Omitted")
SETTLING = 30
"""Seconds until the Workflow says how its steps ended: Argo starts the exit handler and only then writes that down."""

_PAUSE = 1
_TAG = 8000
"""Most characters of a tag's value that MLflow 3 keeps."""


@click.command()
@click.option("--status", required=True, help="How the workflow ended: Argo's word, or KFP's final status as JSON.")
@options.run_name
@options.run_uid
@step
def main(*, status: str, run_name: str, run_uid: str) -> None:
    """Record the workflow."""
    workflow = settled(run_name)
    pods = cluster.pods(run_name)
    ended = outcome(status)
    tags = described(workflow, pods) | {"kiban.outcome": ended}
    if ended == "Failed":
        tags["kiban.reason"] = reason(workflow, pods) or status
    run = Tracked(run_name, run_uid)
    run.document(manifest(workflow, pods), "record/workflow.json")
    run.tag({key: value[:_TAG] for key, value in tags.items()})
    run.end("FINISHED" if ended == "Succeeded" else "FAILED")


def settled(name: str) -> Document:
    """The Workflow, once its own node has ended; as it is where that takes longer than SETTLING seconds."""
    end = time.monotonic() + SETTLING
    while True:
        workflow = cluster.workflow(name)
        root = workflow.get("status", {}).get("nodes", {}).get(name, {})
        if root.get("phase") in SETTLED or time.monotonic() > end:
            return workflow
        time.sleep(_PAUSE)


def outcome(status: str) -> str:
    """Succeeded or Failed: of Argo's `workflow.status`, or of the `state` in KFP's PipelineTaskFinalStatus."""
    word = json.loads(status)["state"] if status.startswith("{") else status
    return "Succeeded" if word.lower() == "succeeded" else "Failed"


def described(workflow: Document, pods: Sequence[Document]) -> dict[str, str]:
    """The tags that say what ran where; values that are mappings are JSON, by step.

    An image's digest is what the node says it ran: the digest in its registry, or where it came from none, of its
    configuration.
    """
    metadata, values = workflow["metadata"], arguments(workflow)
    of = _pods(pods)
    nodes, images = {}, {}
    for name, node in _steps(workflow).items():
        pod = of.get(node["id"], {})
        host = pod.get("spec", {}).get("nodeName") or node.get("hostNodeName")
        if host:
            nodes[name] = host
        ran = _main(pod)
        if ran.get("imageID"):
            images[name] = f"{_tagged(pod)}@{ran['imageID'].rpartition('@')[2]}"
    queues = sorted({pod["metadata"].get("labels", {}).get(QUEUE, "") for pod in pods} - {""})
    return {
        "kiban.workflow": metadata["name"],
        "kiban.namespace": metadata["namespace"],
        "kiban.nodes": json.dumps(nodes, sort_keys=True),
        "kiban.image_digests": json.dumps(images, sort_keys=True),
        "kiban.queue": ",".join(queues),
        "kiban.artifacts": json.dumps(artifacts(workflow), sort_keys=True),
        **({"kiban.git_commit": values[COMMIT]} if COMMIT in values else {}),
    }


def artifacts(workflow: Document) -> dict[str, str]:
    """Artifact, as STEP/NAME, to where it is in the object store."""
    store = workflow["status"].get("artifactRepositoryRef", {}).get("artifactRepository", {}).get("s3", {})
    found = {}
    for name, node in _steps(workflow).items():
        for artifact in node.get("outputs", {}).get("artifacts", []):
            place = store | artifact.get("s3", {})
            if "key" in place:
                found[f"{name}/{artifact['name']}"] = f"s3://{place.get('bucket', '')}/{place['key']}"
    return found


def reason(workflow: Document, pods: Sequence[Document]) -> str:
    """Why the workflow failed, in one line: the step that failed first and what it said; empty where none is known."""
    of = _pods(pods)
    failed = sorted(
        ((name, node) for name, node in _steps(workflow).items() if node.get("phase") in {"Failed", "Error"}),
        key=lambda each: each[1].get("finishedAt") or "",
    )
    if failed:
        name, node = failed[0]
        said = _main(of.get(node["id"], {})).get("state", {}).get("terminated", {})
        spoke = said.get("message") if said.get("exitCode") else None
        return f"{name}: {spoke or node.get('message', node['phase'])}"
    status = workflow["status"]
    root = status.get("nodes", {}).get(workflow["metadata"]["name"], {})
    return str(status.get("message") or root.get("message") or "")


def manifest(workflow: Document, pods: Sequence[Document]) -> dict[str, Any]:
    """A Workflow that runs the same again: every template and argument in it, images by digest where it is known.

    Known is a digest by which a registry has the image; one that was imported to the node keeps its tag.
    """
    metadata, status = workflow["metadata"], workflow["status"]
    resolved = status.get("storedWorkflowTemplateSpec") or workflow["spec"]
    spec = {key: value for key, value in resolved.items() if key not in {"workflowTemplateRef", "suspend", "shutdown"}}
    values = arguments(workflow)
    images = _pullable(workflow, pods)
    for template in spec.get("templates", []):
        image = template.get("container", {}).get("image", "")
        parameter = image.removeprefix("{{workflow.parameters.").removesuffix("}}")
        if image in images:
            template["container"] = template["container"] | {"image": images[image]}
        elif parameter != image and values.get(parameter) in images:
            values[parameter] = images[values[parameter]]
    spec["arguments"] = dict(spec.get("arguments", {})) | {
        "parameters": [{"name": name, "value": value} for name, value in values.items()]
    }
    labels = {
        key: value
        for key, value in metadata.get("labels", {}).items()
        if not key.startswith(("workflows.argoproj.io/", "app.kubernetes.io/managed-by"))
    }
    return {
        "apiVersion": workflow["apiVersion"],
        "kind": workflow["kind"],
        "metadata": {
            "generateName": metadata.get("generateName", f"{metadata['name']}-"),
            "namespace": metadata["namespace"],
            **({"labels": labels} if labels else {}),
        },
        "spec": spec,
    }


def arguments(workflow: Document) -> dict[str, str]:
    """Parameter to value: the template's defaults, and over them what the Workflow was started with."""
    stored = workflow["status"].get("storedWorkflowTemplateSpec", {})
    return {
        parameter["name"]: parameter["value"]
        for spec in (stored, workflow["spec"])
        for parameter in spec.get("arguments", {}).get("parameters", [])
        if "value" in parameter
    }


def _steps(workflow: Document) -> dict[str, Document]:
    """Step to the node of its last attempt that has a pod."""
    attempts = [node for node in workflow["status"].get("nodes", {}).values() if node.get("type") == "Pod"]
    attempts.sort(key=lambda node: node.get("startedAt") or "")
    return {_name(node): node for node in attempts}


def _name(node: Document) -> str:
    """What the step is called in its DAG, without the number of the attempt; an exit handler is its template."""
    shown, _, _ = str(node["displayName"]).partition("(")
    return str(node.get("templateName", shown)) if shown.endswith(".onExit") else shown


def _pods(pods: Sequence[Document]) -> dict[str, Document]:
    """Pod by the node of the Workflow that it is of."""
    return {pod["metadata"].get("annotations", {}).get(NODE_ID, pod["metadata"]["name"]): pod for pod in pods}


def _main(pod: Document) -> Document:
    """Status of the container that the step runs in."""
    statuses = pod.get("status", {}).get("containerStatuses", [])
    return next((status for status in statuses if status["name"] == "main"), {})


def _tagged(pod: Document) -> str:
    """The image of the step's container as its manifest has it."""
    return str(next(each["image"] for each in pod["spec"]["containers"] if each["name"] == "main"))


def _pullable(workflow: Document, pods: Sequence[Document]) -> dict[str, str]:
    """Image as a manifest has it to the same by digest, of those that a registry has so."""
    of = _pods(pods)
    ran = [of[node["id"]] for node in _steps(workflow).values() if node["id"] in of]
    return {_tagged(pod): _main(pod)["imageID"] for pod in ran if "@" in _main(pod).get("imageID", "")}


if __name__ == "__main__":
    main()
