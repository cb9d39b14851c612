"""Step `evaluate`: measure a model on the images that were held out. Whether it is enough, the step `register` says."""

import json
import pickle
from pathlib import Path
from typing import Any

import click

from . import digits, options
from .ending import step
from .tracking import Tracked


@click.command()
@options.data
@options.model
@click.option("--threshold", type=click.FloatRange(0, 1), required=True, help="Least accuracy to be registered.")
@options.seed
@options.holdout
@options.out
@options.run_name
@options.run_uid
@step
def main(
    *, data: Path, model: Path, threshold: float, seed: int, holdout: float, out: Path, run_name: str, run_uid: str
) -> None:
    """Write accuracy, log loss and each digit's recall as JSON. Seed and share held out are those of the training."""
    run = Tracked(run_name, run_uid)
    run.parameters({"threshold": threshold})
    _, _, pixels, shown = digits.split(data, seed=seed, holdout=holdout)
    metrics = measured(pickle.loads(model.read_bytes()), pixels, shown)  # noqa: S301 - written by this run's training
    run.metrics(metrics)
    passed = metrics["accuracy"] >= threshold
    out.parent.mkdir(parents=True, exist_ok=True)
    judgement = {"metrics": metrics, "threshold": threshold, "passed": passed}
    out.write_text(json.dumps(judgement, indent=2, sort_keys=True) + "\n")


def measured(model: Any, pixels: Any, shown: Any) -> dict[str, float]:  # noqa: ANN401
    """Accuracy (0 to 1), log loss (nats), and the recall of each digit (0 to 1)."""
    from sklearn.metrics import accuracy_score, log_loss, recall_score  # noqa: PLC0415
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    with threadpool_limits(limits=1):
        likelihood = model.predict_proba(pixels)
    said = model.classes_[likelihood.argmax(axis=1)]
    recalls = recall_score(shown, said, labels=digits.DIGITS, average=None, zero_division=0)
    return {
        "accuracy": float(accuracy_score(shown, said)),
        "log_loss": float(log_loss(shown, likelihood, labels=model.classes_)),
        **{f"recall_{digit}": float(recall) for digit, recall in zip(digits.DIGITS, recalls, strict=True)},
    }


if __name__ == "__main__":
    main()
