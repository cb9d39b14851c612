"""Step `train`: a logistic regression on the pixels.

The same data and parameters give the same bytes of model, on processors of one kind and with the image's libraries: one
thread, one seed, and nothing in the file that depends on when or where it was written. It is a pickle, which is the
same bytes for the same model (MLflow's other format, skops, writes object addresses and times) and which MLflow and
KServe's scikit-learn server read.
"""

import pickle
from pathlib import Path
from typing import Any

import click

from . import digits, options
from .ending import Refused, step
from .tracking import Tracked, sha256


@click.command()
@options.data
@click.option("--model", "out", type=options.NEW_FILE, required=True, help="File to write.")
@click.option(
    "--regularisation",
    type=click.FloatRange(0, min_open=True),
    required=True,
    help="C of scikit-learn's LogisticRegression: the smaller, the stronger.",
)
@click.option("--iterations", type=click.IntRange(1, 100_000), required=True, help="Most iterations of the solver.")
@options.seed
@options.holdout
@options.run_name
@options.run_uid
@step
def main(
    *,
    data: Path,
    out: Path,
    regularisation: float,
    iterations: int,
    seed: int,
    holdout: float,
    run_name: str,
    run_uid: str,
) -> None:
    """Train a model on what is not held out, and write it as a pickle."""
    run = Tracked(run_name, run_uid)
    run.parameters(
        {"regularisation": regularisation, "iterations": iterations, "seed": seed, "holdout": holdout},
    )
    pixels, shown, _, _ = digits.split(data, seed=seed, holdout=holdout)
    model = trained(pixels, shown, regularisation=regularisation, iterations=iterations, seed=seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(pickle.dumps(model, protocol=5))
    run.tag({"kiban.model_digest": sha256(out)})
    run.metrics({"training_rows": len(shown), "training_iterations": int(max(model[-1].n_iter_))})


def trained(pixels: Any, shown: Any, *, regularisation: float, iterations: int, seed: int) -> Any:  # noqa: ANN401
    """A fitted scikit-learn pipeline of scaler and classifier, from arrays of (images, 64) and (images,).

    Raises Refused where the solver has not settled within the iterations: then where it stopped is an accident.
    """
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    classifier = LogisticRegression(C=regularisation, max_iter=iterations, random_state=seed)
    model = make_pipeline(StandardScaler(), classifier)
    with threadpool_limits(limits=1):  # sums of several threads come in any order
        model.fit(pixels, shown)
    if max(classifier.n_iter_) >= iterations:
        raise Refused(
            f"iterations={iterations}: the solver had not settled; accepted: more, or a smaller regularisation"
        )
    return model


if __name__ == "__main__":
    main()
