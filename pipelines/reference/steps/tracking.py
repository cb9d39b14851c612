"""The MLflow run of a workflow: made by the first step that asks for it, found by the others.

Where MLflow is, and as whom, comes from the environment of the pod (MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME,
MLFLOW_TRACKING_PASSWORD, MLFLOW_EXPERIMENT_NAME), as MLflow's client reads it.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .ending import Refused

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

UID = "kiban.workflow_uid"


class Tracked:
    """The run of one workflow; every method writes at once.

    name, uid: the workflow's. Raises Refused where MLflow has no such experiment, or shows it to no such user.
    """

    client: "MlflowClient"
    experiment: str
    experiment_id: str
    run_id: str

    def __init__(self, name: str, uid: str) -> None:
        from mlflow import MlflowClient  # noqa: PLC0415
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        self.client = MlflowClient()
        self.experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", "")
        try:
            found, said = self.client.get_experiment_by_name(self.experiment), "no such experiment"
        except MlflowException as error:
            if error.get_http_status_code() not in {401, 403}:
                raise
            found, said = None, str(error)
        if found is None:
            accepted = f"an experiment of {os.environ.get('MLFLOW_TRACKING_URI')} that this user may write to"
            raise Refused(f"MLFLOW_EXPERIMENT_NAME={self.experiment!r}: {said}; accepted: {accepted}")
        self.experiment_id = found.experiment_id
        self.run_id = self._run(name, uid).info.run_id
        self.tag({UID: uid, "kiban.workflow": name})

    def _run(self, name: str, uid: str) -> "Run":
        """The oldest, where two steps that started at once have made one each."""
        wanted = {
            "experiment_ids": [self.experiment_id],
            "filter_string": f"tags.`{UID}` = '{uid}'",
            "order_by": ["attributes.start_time ASC"],
            "max_results": 1,
        }
        found = self.client.search_runs(**wanted)
        if not found:
            self.client.create_run(self.experiment_id, run_name=name, tags={UID: uid})
            found = self.client.search_runs(**wanted)
        return found[0]

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags, whatever they were before."""
        for key, value in tags.items():
            self.client.set_tag(self.run_id, key, value)

    def parameters(self, values: Mapping[str, object]) -> None:
        """Log parameters; MLflow takes the same again and refuses another value."""
        for key, value in values.items():
            self.client.log_param(self.run_id, key, value)

    def metrics(self, values: Mapping[str, float]) -> None:
        """Log metrics at step 0."""
        for key, value in values.items():
            self.client.log_metric(self.run_id, key, value, step=0)

    def document(self, content: Any, path: str) -> None:  # noqa: ANN401 - any JSON document
        """Keep a JSON document as an artifact of the run."""
        self.client.log_dict(self.run_id, content, path)

    def end(self, status: str) -> None:
        """End the run: FINISHED or FAILED."""
        self.client.set_terminated(self.run_id, status=status)


def sha256(file: Path) -> str:
    """The digest of a file's bytes, in hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
