"""The reference pipeline for Kubeflow Pipelines: the graph of workflow.yaml, compiled with the kfp SDK.

`python kubeflow.py FILE` writes the compiled pipeline. It runs in an environment of its own (kubeflow.txt), since the
SDK pins packages that the rest of the project need not follow. Image and resources are chosen when it is compiled,
since KFP has no setting that a run could turn on or off; in workflow.yaml they are arguments. KFP's retries do not tell
a refusal from a service that is away, so there are none here: the engine's own hold (pods that were lost).
"""

# ruff: noqa: PLR0917 - the SDK calls what it makes components of with positional arguments

from collections.abc import Callable, Mapping
from pathlib import Path

import click
from kfp import compiler, dsl, kubernetes

IMAGE = "ghcr.io/kiban-dev/reference-pipeline:0.1.0"
USER = 65532
GPU = "nvidia.com/gpu"
POOL = "kiban.dev/pool"

LITERALS = {
    "PYTHONPATH": "/opt/kiban",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "HOME": "/tmp",  # noqa: S108 - the container's own, as in workflow.yaml
    "OMP_NUM_THREADS": "1",
}
CONFIGURATION = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_S3_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
)
"""Keys of the ConfigMap metadata-store: KFP has no `envFrom`, each is named."""
SECRETS: Mapping[str, Mapping[str, str]] = {
    "mlflow": {name: name for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")},
    "mlpipeline-minio-artifact": {"accesskey": "AWS_ACCESS_KEY_ID", "secretkey": "AWS_SECRET_ACCESS_KEY"},
}
"""Secret to its keys, and the environment variable that each is for."""


def data(source: str, git_commit: str, run_name: str, run_uid: str, data: dsl.Output[dsl.Dataset]) -> dsl.ContainerSpec:
    """Bring the data set into the run."""
    return _program(
        "data",
        f"--source={source}",
        f"--git-commit={git_commit}",
        f"--out={data.path}",
        f"--run-name={run_name}",
        f"--run-uid={run_uid}",
    )


def validate(
    run_name: str, run_uid: str, data: dsl.Input[dsl.Dataset], report: dsl.Output[dsl.Artifact]
) -> dsl.ContainerSpec:
    """Refuse a data set that nothing should be learned from."""
    return _program(
        "validate",
        f"--data={data.path}",
        f"--out={report.path}",
        f"--run-name={run_name}",
        f"--run-uid={run_uid}",
    )


def train(
    regularisation: str,
    iterations: str,
    seed: str,
    holdout: str,
    run_name: str,
    run_uid: str,
    data: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
) -> dsl.ContainerSpec:
    """Train a model on what is not held out."""
    return _program(
        "train",
        f"--data={data.path}",
        f"--model={model.path}",
        f"--regularisation={regularisation}",
        f"--iterations={iterations}",
        f"--seed={seed}",
        f"--holdout={holdout}",
        f"--run-name={run_name}",
        f"--run-uid={run_uid}",
    )


def evaluate(
    threshold: str,
    seed: str,
    holdout: str,
    run_name: str,
    run_uid: str,
    data: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    metrics: dsl.Output[dsl.Artifact],
) -> dsl.ContainerSpec:
    """Measure the model on what is held out."""
    return _program(
        "evaluate",
        f"--data={data.path}",
        f"--model={model.path}",
        f"--threshold={threshold}",
        f"--seed={seed}",
        f"--holdout={holdout}",
        f"--out={metrics.path}",
        f"--run-name={run_name}",
        f"--run-uid={run_uid}",
    )


def register(
    name: str,
    run_name: str,
    run_uid: str,
    model: dsl.Input[dsl.Model],
    metrics: dsl.Input[dsl.Artifact],
    report: dsl.Input[dsl.Artifact],
) -> dsl.ContainerSpec:
    """Register the model, or refuse to."""
    return _program(
        "register",
        f"--model={model.path}",
        f"--metrics={metrics.path}",
        f"--report={report.path}",
        f"--name={name}",
        f"--run-name={run_name}",
        f"--run-uid={run_uid}",
    )


def record(status: dsl.PipelineTaskFinalStatus, run_name: str, run_uid: str) -> dsl.ContainerSpec:
    """Write what the run was and how it ended to its MLflow run."""
    return _program(
        "record",
        f"--status={status}",
        f"--run-name={run_name}",
        f"--run-uid={run_uid}",
    )


def _program(step: str, *arguments: str) -> dsl.ContainerSpec:
    return dsl.ContainerSpec(image=IMAGE, command=["python3", "-m", f"steps.{step}"], args=list(arguments))


def pipeline(*, image: str, cpu: str, memory: str, gpus: int, pool: str) -> Callable[..., object]:
    """The pipeline as the SDK's decorator makes it, with the image of its steps and the resources of its training."""
    component = {each.__name__: dsl.container_component(each) for each in (data, validate, train, evaluate, register)}
    last = dsl.container_component(record)
    run = {"run_name": dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER, "run_uid": dsl.PIPELINE_JOB_ID_PLACEHOLDER}

    def placed(task: dsl.PipelineTask, *, cpu: str = "1", memory: str = "1Gi") -> dsl.PipelineTask:
        task.set_container_image(image).set_cpu_limit(cpu).set_memory_limit(memory).set_caching_options(False)
        return _served(task)

    def reference(
        git_commit: str = "",
        source: str = "digits",
        regularisation: str = "0.1",
        iterations: str = "1000",
        seed: str = "0",
        holdout: str = "0.25",
        threshold: str = "0.95",
        model: str = "digits",
    ) -> None:
        with dsl.ExitHandler(placed(last(**run))):
            fetched = placed(component["data"](source=source, git_commit=git_commit, **run))
            table = fetched.outputs["data"]
            judged = placed(component["validate"](data=table, **run))
            trained = placed(
                component["train"](
                    data=table,
                    regularisation=regularisation,
                    iterations=iterations,
                    seed=seed,
                    holdout=holdout,
                    **run,
                ).after(judged),
                cpu=cpu,
                memory=memory,
            )
            _accelerated(trained, gpus=gpus, pool=pool)
            measured = placed(
                component["evaluate"](
                    data=table,
                    model=trained.outputs["model"],
                    threshold=threshold,
                    seed=seed,
                    holdout=holdout,
                    **run,
                )
            )
            placed(
                component["register"](
                    name=model,
                    model=trained.outputs["model"],
                    metrics=measured.outputs["metrics"],
                    report=judged.outputs["report"],
                    **run,
                )
            )

    return dsl.pipeline(reference, name="reference")  # type: ignore[no-any-return, unused-ignore]


def _served(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Give a step the services of its namespace, and a user that is not root."""
    for name, value in LITERALS.items():
        task.set_env_variable(name, value)
    kubernetes.use_config_map_as_env(task, "metadata-store", {key: key for key in CONFIGURATION})
    for secret, keys in SECRETS.items():
        kubernetes.use_secret_as_env(task, secret, dict(keys))
    kubernetes.set_security_context(task, run_as_user=USER, run_as_non_root=True)
    return task


def _accelerated(task: dsl.PipelineTask, *, gpus: int, pool: str) -> None:
    """Send a step to nodes with GPUs: to a pool's, or where none is named to those of whichever pool admits it."""
    if gpus:
        task.set_accelerator_type(GPU).set_accelerator_limit(gpus)
        kubernetes.add_toleration(task, key=GPU, operator="Exists", effect="NoSchedule")
    if pool:
        kubernetes.add_node_selector(task, label_key=POOL, label_value=pool)


@click.command()
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--image", default=IMAGE, show_default=True, help="Image of the steps.")
@click.option("--cpu", default="1", show_default=True, help="CPUs of the training.")
@click.option("--memory", default="1Gi", show_default=True, help="Memory of the training.")
@click.option("--gpus", type=click.IntRange(0, 16), default=0, show_default=True, help="GPUs of the training.")
@click.option("--pool", default="", help="GPU pool of the training.")
def main(*, target: Path, image: str, cpu: str, memory: str, gpus: int, pool: str) -> None:
    """Compile the pipeline to TARGET, a file that ends in .yaml."""
    compiled = pipeline(image=image, cpu=cpu, memory=memory, gpus=gpus, pool=pool)
    compiler.Compiler().compile(compiled, str(target))


if __name__ == "__main__":
    main()
