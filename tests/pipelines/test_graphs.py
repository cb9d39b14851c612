"""Both descriptions of the reference pipeline are the same graph of the same programs."""

import dataclasses as dc
import re
import subprocess
from pathlib import PurePosixPath
from typing import Any

import pytest

from infra import toolchain
from tests.pipelines.conftest import REFERENCE, WORKFLOWS, Compiler, Document

PLACEMENT = {"image", "cpu", "memory", "gpus", "pool"}
"""Arguments of a Workflow that for KFP are chosen when the pipeline is compiled."""
ENGINE = {
    "{{workflow.name}}": "<name>",
    "{{$.pipeline_job_resource_name}}": "<name>",
    "{{workflow.uid}}": "<uid>",
    "{{$.pipeline_job_uuid}}": "<uid>",
    "{{workflow.status}}": "<status>",
}
"""What an engine fills in, and what it means."""


@dc.dataclass(frozen=True, kw_only=True)
class Task:
    """A step in no engine's words: <parameter>, <in artifact> and <out artifact> stand for values and paths."""

    command: tuple[str, ...]
    after: frozenset[str]
    artifacts: frozenset[tuple[str, str, str]]
    """(input, step it comes from, output of that step)."""
    environment: frozenset[tuple[str, str]]
    """(variable, its value or the key of the object that it comes from)."""


def words(text: str) -> str:
    """Replace what an engine fills in."""
    for placeholder, meaning in ENGINE.items():
        text = text.replace(placeholder, meaning)
    return text


def argo(spec: Document) -> dict[str, Task]:
    """The tasks of a WorkflowTemplate's DAG, and its exit handler, which comes after nothing."""
    templates = {each["name"]: each for each in spec["templates"]}
    nodes = [*templates[spec["entrypoint"]]["dag"]["tasks"], {"name": spec["onExit"], "template": spec["onExit"]}]
    return {node["name"]: argo_task(node, templates[node["template"]]) for node in nodes}


def argo_task(node: Document, template: Document) -> Task:
    """A task of the DAG with the template that it runs."""
    container = template["container"]
    artifacts = set()
    for artifact in node.get("arguments", {}).get("artifacts", []):
        found = re.fullmatch(r"{{tasks\.(\w+)\.outputs\.artifacts\.(\w+)}}", artifact["from"])
        assert found
        artifacts.add((artifact["name"], found[1], found[2]))
    paths = {
        artifact["path"]: f"<{way} {artifact['name']}>"
        for way, key in (("in", "inputs"), ("out", "outputs"))
        for artifact in template.get(key, {}).get("artifacts", [])
    }
    command = []
    for argument in (*container["command"], *container["args"]):
        option, equals, value = argument.partition("=")
        value = re.sub(r"{{workflow\.parameters\.([\w-]+)}}", lambda name: f"<{name[1].replace('-', '_')}>", value)
        command.append(option + equals + paths.get(value, words(value)))
    return Task(
        command=tuple(command),
        after=frozenset({node["depends"]} if "depends" in node else ()) | {step for _, step, _ in artifacts},
        artifacts=frozenset(artifacts),
        environment=frozenset(
            (each["name"], each.get("value") or each["valueFrom"]["secretKeyRef"]["key"]) for each in container["env"]
        ),
    )


def kubeflow(pipeline: Document, platform: Document) -> dict[str, Task]:
    """The tasks of a compiled pipeline: those that the exit handler waits for, and the exit handler."""
    root = pipeline["root"]["dag"]["tasks"]
    group = root["exit-handler-1"]["componentRef"]["name"]
    inner = pipeline["components"][group]["dag"]["tasks"]
    tasks = inner | {"record": root["record"] | {"dependentTasks": []}}
    assert root.keys() == {"exit-handler-1", "record"}
    return {name: kubeflow_task(task, pipeline, platform) for name, task in tasks.items()}


def kubeflow_task(task: Document, pipeline: Document, platform: Document) -> Task:
    """A task with the component and the executor that it runs."""
    executor = pipeline["components"][task["componentRef"]["name"]]["executorLabel"]
    container = pipeline["deploymentSpec"]["executors"][executor]["container"]
    given = {
        f"{{{{$.inputs.parameters['{name}']}}}}": kubeflow_value(value)
        for name, value in task["inputs"].get("parameters", {}).items()
    }
    command = []
    for argument in (*container["command"], *container["args"]):
        text = argument
        for placeholder, value in given.items():
            text = text.replace(placeholder, value)
        command.append(re.sub(r"{{\$\.(in|out)puts\.artifacts\['(\w+)'\]\.path}}", r"<\1 \2>", text))
    artifacts = {
        (name, source["taskOutputArtifact"]["producerTask"], source["taskOutputArtifact"]["outputArtifactKey"])
        for name, source in task["inputs"].get("artifacts", {}).items()
    }
    secret = next(s for s in platform[executor]["secretAsEnv"] if s["secretName"] == "mlpipeline-minio-artifact")
    return Task(
        command=tuple(command),
        after=frozenset(task.get("dependentTasks", [])),
        artifacts=frozenset(artifacts),
        environment=frozenset((each["name"], each["value"]) for each in container["env"])
        | {(key["envVar"], key["secretKey"]) for key in secret["keyToEnv"]},
    )


def kubeflow_value(value: Document) -> str:
    """What a task's parameter is: a parameter of the pipeline, a constant, or how the run ended."""
    if "componentInputParameter" in value:
        return f"<{value['componentInputParameter'].removeprefix('pipelinechannel--')}>"
    return words(str(value["runtimeValue"]["constant"])) if "runtimeValue" in value else "<status>"


def test_both_engines_run_the_same_graph(compiler: Compiler, template: Document) -> None:
    """Same tasks, edges, commands, artifacts and environment in workflow.yaml and in what kubeflow.py compiles to."""
    here, there = argo(template["spec"]), kubeflow(*compiler.compiled())
    assert here.keys() == {"data", "validate", "train", "evaluate", "register", "record"}
    assert here == there


def test_both_engines_take_the_same_arguments(compiler: Compiler, template: Document) -> None:
    """Same parameters with the same defaults, but for the image and the placement."""
    pipeline, _ = compiler.compiled()
    here = {
        each["name"].replace("-", "_"): each["value"]
        for each in template["spec"]["arguments"]["parameters"]
        if each["name"] not in PLACEMENT
    }
    there = pipeline["root"]["inputDefinitions"]["parameters"]
    assert here == {name: each["defaultValue"] for name, each in there.items()}


def test_every_step_runs_the_one_image(compiler: Compiler, template: Document) -> None:
    """The image is the argument's default for both, whatever the step; another one is for all of them."""
    (image,) = (each["value"] for each in template["spec"]["arguments"]["parameters"] if each["name"] == "image")
    assert images(compiler.compiled()[0]) == {image}
    assert images(compiler.compiled("--image=registry.example/reference:2")[0]) == {"registry.example/reference:2"}
    assert {each["container"]["image"] for each in steps(template)} == {"{{workflow.parameters.image}}"}


def images(pipeline: Document) -> set[str]:
    """The images of a compiled pipeline's executors."""
    return {each["container"]["image"] for each in pipeline["deploymentSpec"]["executors"].values()}


def steps(template: Document) -> list[Document]:
    """The templates that are containers."""
    return [each for each in template["spec"]["templates"] if "container" in each]


def test_kubeflow_reads_the_services_that_argo_reads(compiler: Compiler, template: Document) -> None:
    """Objects of the namespace that a step's environment comes from are the same, and none is optional."""
    _, platform = compiler.compiled()
    here = {
        next(iter(source.values()))["name"]
        for step in steps(template)
        for source in (
            *step["container"]["envFrom"],
            *(each["valueFrom"] for each in step["container"]["env"] if "valueFrom" in each),
        )
    }
    for executor in platform.values():
        sources = [*executor["secretAsEnv"], *executor["configMapAsEnv"]]
        assert {source.get("secretName") or source["configMapName"] for source in sources} == here
        assert not any(source["optional"] for source in sources)


def test_kubeflow_sends_only_the_training_to_a_pool(compiler: Compiler) -> None:
    """With --gpus and --pool the training asks for devices, bears their taint and names the pool; nothing else does."""
    pipeline, platform = compiler.compiled("--gpus=2", "--pool=a100")
    resources = {name: each["container"]["resources"] for name, each in pipeline["deploymentSpec"]["executors"].items()}
    assert [name for name, each in resources.items() if "accelerator" in each] == ["exec-train"]
    assert resources["exec-train"]["accelerator"]["resourceType"] == "nvidia.com/gpu"
    assert resources["exec-train"]["accelerator"]["resourceCount"] == "2"
    placed = {name for name, each in platform.items() if each.keys() & {"nodeSelector", "tolerations"}}
    assert placed == {"exec-train"}
    assert platform["exec-train"]["nodeSelector"]["labels"] == {"kiban.dev/pool": "a100"}
    assert platform["exec-train"]["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]


def test_kubeflow_answers_from_no_cache(compiler: Compiler) -> None:
    """Steps write to MLflow: one that was answered from a cache would leave the run without its part."""
    pipeline, _ = compiler.compiled()
    (group,) = (each["dag"]["tasks"] for each in pipeline["components"].values() if "dag" in each)
    assert all(not task["cachingOptions"] for task in group.values())


def test_the_sdk_reads_what_tfx_compiles_to(compiler: Compiler) -> None:
    """A pipeline of TFX's, compiled as the how-to says, is one of KFP's with its tasks and edges."""
    pipeline = compiler.loaded(WORKFLOWS / "tfx.yaml")
    assert pipeline["schemaVersion"] == "2.1.0"
    tasks = pipeline["root"]["dag"]["tasks"]
    after = {name: task.get("dependentTasks", []) for name, task in tasks.items()}
    assert after == {"CsvExampleGen": [], "StatisticsGen": ["CsvExampleGen"]}
    assert images(pipeline) == {"registry.example/my-tfx:1"}


def test_argo_accepts_the_template() -> None:
    """`argo lint` of the controller's release finds nothing wrong."""
    binary = toolchain.resolve("argo")["argo"]
    lint = [str(binary), "lint", "--offline", "--no-color", str(REFERENCE / "workflow.yaml")]
    done = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert (done.returncode, "no linting errors" in done.stdout) == (0, True), done.stdout + done.stderr


def test_pods_are_restricted(template: Document) -> None:
    """Pod Security `restricted`, and more: a root file system that cannot be written, requests and limits."""
    pod = template["spec"]["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] > 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    for step in steps(template):
        own = step["container"]["securityContext"]
        assert own["allowPrivilegeEscalation"] is False, step["name"]
        assert own["capabilities"] == {"drop": ["ALL"]}, step["name"]
        assert own["readOnlyRootFilesystem"] is True, step["name"]
        resources = step["container"]["resources"]
        assert all(resources[kind].keys() == {"cpu", "memory"} for kind in ("requests", "limits")), step["name"]


def test_every_file_is_where_a_pod_may_write(template: Document) -> None:
    """Inputs and outputs of a step are on its scratch volume, the only place that is not read-only."""
    for step in steps(template):
        (mount,) = step["container"]["volumeMounts"]
        for artifacts in (step.get(key, {}).get("artifacts", []) for key in ("inputs", "outputs")):
            assert all(PurePosixPath(each["path"]).is_relative_to(mount["mountPath"]) for each in artifacts)


def test_only_what_another_try_may_mend_is_tried_again(template: Document) -> None:
    """Every step has the same retries: of lost pods and services that are away (75), not of refusals (1)."""
    strategies: list[Any] = [each["retryStrategy"] for each in steps(template)]
    assert all(each == strategies[0] for each in strategies)
    assert strategies[0]["expression"] == "lastRetry.status == 'Error' || asInt(lastRetry.exitCode) in [0, 75]"
    assert not any("retryStrategy" in each for each in template["spec"]["templates"] if "dag" in each)


@pytest.mark.parametrize("word", ["ttlStrategy", "podGC", "metadata"])
def test_what_is_the_engines_is_not_in_the_template(template: Document, word: str) -> None:
    """Retention is the engine's, and so is the queue, which is a label of the pods."""
    assert word not in template["spec"]
    assert not any(word in each for each in steps(template))
