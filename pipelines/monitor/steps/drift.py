"""Drift and accuracy, by Evidently 0.7: requests against the training data.

Feature drift is the share of features whose distribution differs by Evidently's own choice of test for numbers: up to
1,000 rows Kolmogorov-Smirnov at p < 0.05, above them the normed Wasserstein distance from 0.1 on. Prediction drift is
the Jensen-Shannon distance (0 to 1) between the classes that were predicted and those of the training data.
"""

import dataclasses as dc
import warnings
from collections.abc import Sequence
from typing import Any

from .logged import Row
from .reference import Reference

_PREDICTION = "prediction"
_TARGET = "target"
PREDICTION_METHOD = "jensenshannon"


@dc.dataclass(frozen=True, kw_only=True)
class Drift:
    """share: of features that drifted, 0 to 1. accuracy: None where no label has arrived. html: for people."""

    share: float
    prediction: float
    features: dict[str, float]
    """Feature to the p-value or the distance that Evidently judged it by."""
    accuracy: float | None
    labelled: int
    html: str


def measured(rows: Sequence[Row], reference: Reference) -> Drift:
    """Measure good rows against the training data."""
    from evidently import Report  # noqa: PLC0415
    from evidently.metrics import ValueDrift  # noqa: PLC0415
    from evidently.presets import DataDriftPreset  # noqa: PLC0415

    columns = list(reference.columns)
    answered = [row for row in rows if row.predicted is not None]
    report = Report(
        [
            DataDriftPreset(columns=columns),
            *([ValueDrift(column=_PREDICTION, method=PREDICTION_METHOD)] if answered else []),
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of histograms of features that are constant
        snapshot = report.run(
            _dataset([row.values for row in rows], [row.predicted or "" for row in rows], columns),
            _dataset(reference.values, reference.labels, columns),
        )
        found = {each["metric_name"]: each["value"] for each in snapshot.dict()["metrics"]}
        html = snapshot.get_html_str(as_iframe=False)
    drifted = next(value for name, value in found.items() if name.startswith("DriftedColumnsCount("))
    by_column = {
        name.removeprefix("ValueDrift(column=").partition(",")[0]: float(value)
        for name, value in found.items()
        if name.startswith("ValueDrift(")
    }
    accuracy, labelled = accuracy_of(rows)
    return Drift(
        share=float(drifted["share"]),
        prediction=by_column.pop(_PREDICTION, 0.0),
        features=by_column,
        accuracy=accuracy,
        labelled=labelled,
        html=html,
    )


def accuracy_of(rows: Sequence[Row]) -> tuple[float | None, int]:
    """Evidently's accuracy over the rows whose label has arrived, and how many those are."""
    both = [row for row in rows if row.predicted is not None and row.label is not None]
    if not both:
        return None, 0
    import pandas as pd  # noqa: PLC0415
    from evidently import DataDefinition, Dataset, MulticlassClassification, Report  # noqa: PLC0415
    from evidently.metrics import Accuracy  # noqa: PLC0415

    frame = pd.DataFrame({_PREDICTION: [row.predicted for row in both], _TARGET: [row.label for row in both]})
    task = MulticlassClassification(target=_TARGET, prediction_labels=_PREDICTION)
    definition = DataDefinition(categorical_columns=[_PREDICTION, _TARGET], classification=[task])
    snapshot = Report([Accuracy()]).run(Dataset.from_pandas(frame, data_definition=definition))
    return float(snapshot.dict()["metrics"][0]["value"]), len(both)


def _dataset(values: Sequence[Sequence[Any]], predictions: Sequence[str], columns: list[str]) -> Any:  # noqa: ANN401
    import pandas as pd  # noqa: PLC0415
    from evidently import DataDefinition, Dataset  # noqa: PLC0415

    frame = pd.DataFrame([list(map(float, row)) for row in values], columns=columns)
    frame[_PREDICTION] = list(predictions)
    definition = DataDefinition(numerical_columns=columns, categorical_columns=[_PREDICTION])
    return Dataset.from_pandas(frame, data_definition=definition)
