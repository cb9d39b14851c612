"""What the exit handler makes of a Workflow and its pods; the documents are of workflows that Argo 3.7.18 ran."""

import copy
import json
import subprocess
from pathlib import Path

import pytest
import yaml

from infra import toolchain
from pipelines.reference.steps import record
from tests.pipelines.conftest import WORKFLOWS, Document

IMAGE = "ghcr.io/kiban-dev/reference-pipeline:0.1.0"
DIGEST = "sha256:" + "4" * 64


def ran(name: str) -> tuple[Document, list[Document]]:
    """A workflow and its pods."""
    found = json.loads((WORKFLOWS / f"{name}.json").read_text())
    return found["workflow"], found["pods"]


@pytest.fixture
def succeeded() -> tuple[Document, list[Document]]:
    """Return a workflow that ran to its end."""
    return ran("succeeded")


@pytest.fixture
def refused() -> tuple[Document, list[Document]]:
    """Return a workflow whose validation refused the data."""
    return ran("refused")


def node(workflow: Document, shown: str) -> Document:
    """The node of a workflow that is shown so."""
    found: Document = next(each for each in workflow["status"]["nodes"].values() if each["displayName"] == shown)
    return found


def test_where_steps_ran_is_recorded(succeeded: tuple[Document, list[Document]]) -> None:
    """Workflow, namespace, commit and queue; node and image by digest of each step, the exit handler's too."""
    tags = record.described(*succeeded)
    steps = {"data", "validate", "train", "evaluate", "register", "record"}
    assert json.loads(tags["kiban.nodes"]) == dict.fromkeys(steps, "host")
    images = json.loads(tags["kiban.image_digests"])
    assert images.keys() == steps
    assert all(image.startswith(f"{IMAGE}@sha256:") for image in images.values())
    assert tags["kiban.namespace"] == "team-vision"
    assert tags["kiban.git_commit"] == "abc123"
    assert tags["kiban.queue"] == "vision"
    assert tags["kiban.workflow"] == succeeded[0]["metadata"]["name"]


def test_where_artifacts_are_is_recorded(succeeded: tuple[Document, list[Document]]) -> None:
    """Each is named by step and output, and is in the bucket of the namespace's repository."""
    found = record.artifacts(succeeded[0])
    assert found.keys() == {"data/data", "validate/report", "train/model", "evaluate/metrics"}
    assert found["train/model"].startswith("s3://vision/runs/reference-")
    assert found["train/model"].endswith("/model.pkl")


def test_the_step_that_failed_says_why(refused: tuple[Document, list[Document]]) -> None:
    """The reason is what the program wrote, after the step's name."""
    assert record.reason(*refused) == (
        "validate: data: line 100, pixel_0_0: '99'; accepted: a whole number from 0 to 16"
    )


def test_without_its_pod_the_step_is_spoken_for_by_argo(refused: tuple[Document, list[Document]]) -> None:
    """A pod that is gone leaves the message of its node, and the node that it ran on."""
    workflow, _ = refused
    assert record.reason(workflow, []).startswith("validate: main: Error (exit code 1): data: line 100")
    assert json.loads(record.described(workflow, [])["kiban.nodes"])["validate"] == "host"


def test_an_attempt_that_was_made_good_is_no_reason(refused: tuple[Document, list[Document]]) -> None:
    """Of a step that was tried twice the last attempt counts."""
    workflow, pods = refused
    first = copy.deepcopy(node(workflow, "data(0)"))
    node(workflow, "data(0)")["startedAt"] = "2026-11-24T13:02:30Z"
    first |= {"id": "bad-1", "phase": "Error", "message": "pod deleted", "finishedAt": "2026-11-24T13:02:20Z"}
    workflow["status"]["nodes"]["bad-1"] = first
    assert record.reason(workflow, pods).startswith("validate: ")


def test_a_workflow_that_was_stopped_says_so(refused: tuple[Document, list[Document]]) -> None:
    """Where no step failed, the workflow's own message is the reason."""
    workflow, pods = refused
    del workflow["status"]["nodes"][node(workflow, "validate(0)")["id"]]
    node(workflow, "bad")["message"] = "Stopped with strategy 'Stop'"
    assert record.reason(workflow, pods) == "Stopped with strategy 'Stop'"


def test_a_workflow_that_never_had_a_pod_is_recorded() -> None:
    """Nothing to say is no error: the tags are there, and empty."""
    workflow, _ = ran("refused")
    workflow["status"] = {"phase": "Error", "message": "invalid spec"}
    tags = record.described(workflow, [])
    assert tags["kiban.nodes"] == tags["kiban.image_digests"] == tags["kiban.artifacts"] == "{}"
    assert record.reason(workflow, []) == "invalid spec"
    assert record.manifest(workflow, [])["spec"]["arguments"]["parameters"][0]["name"] == "source"


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("Succeeded", "Succeeded"),
        ("Failed", "Failed"),
        ("Error", "Failed"),
        ('{"state": "SUCCEEDED", "pipelineTaskName": "exit-handler-1"}', "Succeeded"),
        ('{"state": "FAILED", "error": {"code": 1, "message": "no"}}', "Failed"),
    ],
)
def test_both_engines_words_for_the_outcome_are_understood(status: str, outcome: str) -> None:
    """Argo's word, and KFP's final status."""
    assert record.outcome(status) == outcome


def test_the_manifest_stands_alone(refused: tuple[Document, list[Document]]) -> None:
    """It holds the templates and every argument as it was, refers to no template and bears no name of the run."""
    manifest = record.manifest(*refused)
    assert manifest["metadata"] == {"generateName": "bad-", "namespace": "team-vision"}
    assert "workflowTemplateRef" not in manifest["spec"]
    values = {each["name"]: each["value"] for each in manifest["spec"]["arguments"]["parameters"]}
    assert values["source"] == "s3://vision/data/bad.csv"
    assert values["seed"] == "0"
    assert {each["name"] for each in manifest["spec"]["templates"]} >= {"pipeline", "data", "record"}


def test_argo_accepts_the_manifest(succeeded: tuple[Document, list[Document]], tmp_path: Path) -> None:
    """What the record holds can be submitted again."""
    file = tmp_path / "again.yaml"
    file.write_text(yaml.safe_dump(record.manifest(*succeeded)))
    lint = [str(toolchain.resolve("argo")["argo"]), "lint", "--offline", "--no-color", str(file)]
    done = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_images_of_a_registry_are_by_digest_in_the_manifest(succeeded: tuple[Document, list[Document]]) -> None:
    """The argument that names the image becomes what the nodes pulled."""
    workflow, pods = succeeded
    pulled(pods)
    values = {
        each["name"]: each["value"] for each in record.manifest(workflow, pods)["spec"]["arguments"]["parameters"]
    }
    assert values["image"] == f"{IMAGE.rpartition(':')[0]}@{DIGEST}"


def test_an_image_that_a_template_names_is_by_digest_too(succeeded: tuple[Document, list[Document]]) -> None:
    """A template of a user's own that names its image gets the digest in its place; others stay."""
    workflow, pods = succeeded
    pulled(pods)
    templates = workflow["status"]["storedWorkflowTemplateSpec"]["templates"]
    (train,) = (each for each in templates if each["name"] == "train")
    train["container"]["image"] = IMAGE
    again = {each["name"]: each for each in record.manifest(workflow, pods)["spec"]["templates"]}
    assert again["train"]["container"]["image"].endswith(f"@{DIGEST}")
    assert again["data"]["container"]["image"] == "{{workflow.parameters.image}}"


def test_an_image_that_was_imported_keeps_its_tag(succeeded: tuple[Document, list[Document]]) -> None:
    """No registry has the digest of a configuration: a pod that asked for it would never start."""
    values = {each["name"]: each["value"] for each in record.manifest(*succeeded)["spec"]["arguments"]["parameters"]}
    assert values["image"] == IMAGE


def pulled(pods: list[Document]) -> None:
    """Make the images of the steps such as a node has after it pulled them."""
    for pod in pods:
        for status in pod["status"]["containerStatuses"]:
            if status["name"] == "main":
                status["imageID"] = f"{IMAGE.rpartition(':')[0]}@{DIGEST}"
