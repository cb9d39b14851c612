"""Command-line options that several steps share."""

from pathlib import Path

import click

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW_FILE = click.Path(dir_okay=False, writable=True, path_type=Path)

run_name = click.option("--run-name", required=True, help="Name of the workflow, which is the MLflow run's.")
run_uid = click.option("--run-uid", required=True, help="UID of the workflow: steps of one workflow share one run.")
data = click.option("--data", type=FILE, required=True, help="The data set, as the step `data` writes it.")
model = click.option("--model", type=FILE, required=True, help="The model, as the step `train` writes it.")
seed = click.option("--seed", type=click.IntRange(0, 2**32 - 1), required=True, help="Of every random choice.")
holdout = click.option(
    "--holdout",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    required=True,
    help="Share of the images that the model is judged by and never sees.",
)
out = click.option("--out", type=NEW_FILE, required=True, help="File to write.")
