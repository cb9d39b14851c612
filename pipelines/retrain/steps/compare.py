"""Step `compare`: measure the candidate and the model in service on the same rows, which neither was trained on."""

import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from pipelines.monitor.steps import watched
from pipelines.monitor.steps.bucket import Bucket, fetched
from pipelines.monitor.steps.watched import Watched
from pipelines.reference.steps import digits, evaluate, options
from pipelines.reference.steps.ending import Refused, step
from pipelines.reference.steps.tracking import Tracked

FILE = "model.pkl"
KINDS = (".pkl", ".pickle", ".joblib")
"""What KServe's scikit-learn server takes for a model."""


@click.command()
@options.data
@options.model
@click.option("--of", "name", required=True, help="The model in service.")
@options.seed
@options.holdout
@options.out
@options.run_name
@options.run_uid
@step
def main(
    *, data: Path, model: Path, name: str, seed: int, holdout: float, out: Path, run_name: str, run_uid: str
) -> None:
    """Write both models' figures as JSON. Seed and share held out are those of the training."""
    run = Tracked(run_name, run_uid)
    of = watched.read(name)
    _, _, values, labels = digits.split(data, seed=seed, holdout=holdout)
    candidate = evaluate.measured(pickle.loads(model.read_bytes()), values, labels)  # noqa: S301 - this run's training
    serving = evaluate.measured(pickle.loads(in_service(of)), values, labels)  # noqa: S301 - the team's, by its digest
    run.metrics(candidate | {f"serving_{figure}": value for figure, value in serving.items()})
    out.parent.mkdir(parents=True, exist_ok=True)
    judgement = verdict(candidate, serving, of.settings["margin"]) | {"rows": len(labels)}
    out.write_text(json.dumps(judgement, indent=2, sort_keys=True) + "\n")


def in_service(model: Watched) -> bytes:
    """The file of the model in service. Raises Refused for one of another digest than the deployed one."""
    if model.uri.endswith("/"):
        bucket = Bucket(model.uri.removeprefix("s3://").partition("/")[0])
        folder = model.uri.removeprefix(f"s3://{bucket.name}/")
        content = {key.removeprefix(folder): bucket.read(key) or b"" for key in bucket.keys(folder)}
        digest = folders_digest(content)
        found = [data for name, data in content.items() if name.endswith(KINDS)]
    else:
        found = [fetched(model.uri)]
        digest = hashlib.sha256(found[0]).hexdigest()
    if digest != model.digest:
        raise Refused(f"{model.uri}: sha256 {digest}; accepted: {model.digest}, the digest of what is deployed")
    if len(found) != 1:
        raise Refused(f"{model.uri}: {len(found)} files of {', '.join(KINDS)}; accepted: one")
    return found[0]


def folders_digest(content: Mapping[str, bytes]) -> str:
    """The digest of a folder as stacks/models.yaml has it: of what `sha256sum` prints for its files, by name."""
    listing = "".join(f"{hashlib.sha256(content[name]).hexdigest()}  {name}\n" for name in sorted(content))
    return hashlib.sha256(listing.encode()).hexdigest()


def verdict(candidate: dict[str, float], serving: dict[str, float], margin: float) -> dict[str, Any]:
    """Both models' figures, and whether the candidate is more accurate by the margin."""
    return {
        "candidate": candidate,
        "serving": serving,
        "margin": margin,
        "better": candidate["accuracy"] - serving["accuracy"] >= margin,
    }


if __name__ == "__main__":
    main()
