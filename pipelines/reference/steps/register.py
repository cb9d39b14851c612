"""Step `register`: make a model that is good enough a version of the team's registered model TEAM-digits.

The version is an MLflow model whose file model.pkl is, byte for byte, the one that was trained: its digest is a tag.
"""

import json
import pickle
import tempfile
from pathlib import Path

import click

from . import digits, options
from .ending import Refused, step
from .tracking import UID, Tracked, sha256


@click.command()
@options.model
@click.option("--metrics", type=options.FILE, required=True, help="As the step `evaluate` writes them.")
@click.option("--report", type=options.FILE, required=True, help="As the step `validate` writes it.")
@click.option("--name", required=True, help="Registered model, without the team's name.")
@options.run_name
@options.run_uid
@step
def main(*, model: Path, metrics: Path, report: Path, name: str, run_name: str, run_uid: str) -> None:
    """Register the model, or refuse to where its accuracy is below the threshold."""
    judgement = json.loads(metrics.read_text())
    if not judgement["passed"]:
        raise Refused(
            f"accuracy {judgement['metrics']['accuracy']:.4f}; accepted: {judgement['threshold']:g} or more; "
            "nothing was registered"
        )
    run = Tracked(run_name, run_uid)
    tags = {
        UID: run_uid,
        "kiban.workflow": run_name,
        "kiban.model_digest": sha256(model),
        "kiban.data_digest": json.loads(report.read_text())["digest"],
    }
    registered(run, f"{run.experiment}-{name}", name, model, tags)


def registered(run: Tracked, name: str, short: str, model: Path, tags: dict[str, str]) -> None:
    """Make a version of the registered model, once a workflow: a second try finds the first one's."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    try:
        run.client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    if any(version.tags.get(UID) == tags[UID] for version in run.client.search_model_versions(f"name = '{name}'")):
        return
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "model"
        pack(model, packed)
        logged = run.client.create_logged_model(
            run.experiment_id, name=short, source_run_id=run.run_id, tags=tags, model_type="classifier"
        )
        run.client.log_model_artifacts(logged.model_id, str(packed))
        run.client.finalize_logged_model(logged.model_id, "READY")
    run.client.create_model_version(
        name, f"models:/{logged.model_id}", run_id=run.run_id, tags=tags, model_id=logged.model_id
    )


def pack(model: Path, target: Path) -> None:
    """Write a folder in MLflow's model format around the file of a model."""
    import mlflow.sklearn  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415
    import sklearn  # noqa: PLC0415
    from mlflow.models import ModelSignature  # noqa: PLC0415
    from mlflow.types import Schema, TensorSpec  # noqa: PLC0415

    content = model.read_bytes()
    pixels = len(digits.COLUMNS) - 1
    mlflow.sklearn.save_model(
        pickle.loads(content),  # noqa: S301 - written by this run's training
        str(target),
        serialization_format=mlflow.sklearn.SERIALIZATION_FORMAT_PICKLE,
        signature=ModelSignature(
            inputs=Schema([TensorSpec(np.dtype("float64"), (-1, pixels))]),
            outputs=Schema([TensorSpec(np.dtype("int64"), (-1,))]),
        ),
        pip_requirements=[f"scikit-learn=={sklearn.__version__}", f"numpy=={np.__version__}"],
    )
    (target / "model.pkl").write_bytes(content)


if __name__ == "__main__":
    main()
