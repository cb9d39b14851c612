"""What a version of a model was trained on: the data set of the run that registered it.

That run's artifacts expire; the first look copies the data set to references/, which does not.
"""

import csv
import dataclasses as dc
import functools
import io
import json
from collections.abc import Sequence

from pipelines.reference.steps.ending import Refused

from .bucket import Bucket, fetched
from .logged import canonical

ARTIFACT = "data/data"
"""Step and artifact that the run's tag kiban.artifacts names the data set by."""


@dc.dataclass(frozen=True, kw_only=True)
class Reference:
    """A table of numbers. columns: of the features. values: (rows, features). labels: a class a row."""

    columns: Sequence[str]
    target: str
    values: Sequence[Sequence[float]]
    labels: Sequence[str]

    @functools.cached_property
    def span(self) -> tuple[float, float]:
        """The smallest and the largest value of all features."""
        return min(map(min, self.values)), max(map(max, self.values))

    @functools.cached_property
    def varying(self) -> frozenset[int]:
        """The features that are not the same in every row."""
        return frozenset(i for i, column in enumerate(zip(*self.values, strict=True)) if len(set(column)) > 1)


def find(team: str, model: str, version: str) -> Reference:
    """The training data of a registered version of the team's model. Raises Refused where it cannot be found."""
    bucket, key = Bucket(), f"references/{model}/{version}.csv"
    content = bucket.read(key)
    if content is None:
        content = fetched(_of_run(f"{team}-{model}", version))
        bucket.write(key, content, "text/csv")
    return read(content.decode())


def _of_run(name: str, version: str) -> str:
    from mlflow import MlflowClient  # noqa: PLC0415
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    client = MlflowClient()
    try:
        run = client.get_run(client.get_model_version(name, version).run_id)
    except MlflowException as error:
        if error.get_http_status_code() not in {400, 403, 404}:
            raise
        raise Refused(f"model {name!r}, version {version!r}: {error}; accepted: a version that a run made") from error
    where = json.loads(run.data.tags.get("kiban.artifacts", "{}")).get(ARTIFACT)
    if where is None:
        raise Refused(
            f"model {name!r}, version {version!r}: its run {run.info.run_id} has no artifact {ARTIFACT}; accepted: a "
            "version of a run of the reference pipeline or of the retraining"
        )
    return str(where)


def read(text: str) -> Reference:
    """A data set as CSV: a header, then numbers, the last of a row its class. Raises Refused for anything else."""
    header, *lines = list(csv.reader(io.StringIO(text))) or [[]]
    try:
        values = [[float(value) for value in line[:-1]] for line in lines]
        labels = [canonical(float(line[-1])) for line in lines]
    except (ValueError, IndexError) as error:
        raise Refused(f"training reference: {error}; accepted: a CSV file of numbers") from error
    if len(header) < 2 or not values or any(len(line) != len(header) - 1 for line in values):
        raise Refused(f"training reference: {len(header)} columns, {len(values)} rows; accepted: a full table")
    return Reference(columns=header[:-1], target=header[-1], values=values, labels=labels)
