"""Step `data`: the data set that a successor is trained on, from logged requests and the labels that have arrived.

It is the traffic of the model's window and nothing older, so that the successor's training reference is what it will
be sent. A feed that is broken, or labels that are too few, are refused: nothing is learned from them.
"""

import csv
import datetime as dt
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from pipelines.monitor.steps import reference, watched, window
from pipelines.monitor.steps.logged import Row
from pipelines.monitor.steps.reference import Reference
from pipelines.reference.steps import options
from pipelines.reference.steps.ending import step
from pipelines.reference.steps.tracking import Tracked, sha256

from .decision import refused

FEWEST_OF_A_CLASS = 10


@click.command()
@click.option("--model", required=True, help="A model that is watched in this namespace.")
@click.option("--until", default="", help="End of the window, RFC 3339; now, where it is empty.")
@options.out
@options.run_name
@options.run_uid
@step
def main(*, model: str, until: str, out: Path, run_name: str, run_uid: str) -> None:
    """Write the data set as CSV, in the form of the one that the model in service was trained on."""
    run = Tracked(run_name, run_uid)
    of = watched.read(model)
    known = reference.find(of.team, of.name, of.version)
    feed = window.read(of, known, dt.datetime.fromisoformat(until) if until else dt.datetime.now(dt.UTC))
    run.metrics({"requests": feed.rows, "good_requests": len(feed.good)})
    if feed.reason is not None:
        raise refused(run, f"feed: {feed.reason}")
    rows = [row for row in feed.good if row.label is not None]
    run.metrics({"labelled": len(rows)})
    lacking = wanting(rows, known, of.settings["fewest_labelled"])
    if lacking is not None:
        raise refused(run, lacking)
    out.parent.mkdir(parents=True, exist_ok=True)
    write(out, rows, known)
    run.tag({"kiban.data_digest": sha256(out)})


def wanting(rows: Sequence[Row], known: Reference, fewest: int) -> str | None:
    """What the labelled rows lack to be learned from; None where it is nothing."""
    if len(rows) < fewest:
        return f"labels: {len(rows)} rows have one; accepted: {fewest} or more"
    counts, classes = Counter(row.label for row in rows), sorted(set(known.labels))
    unknown = sorted(str(label) for label in counts.keys() - set(classes))
    if unknown:
        return f"labels: {unknown[0]!r}; accepted: {', '.join(classes)}"
    for each in classes:
        if counts[each] < FEWEST_OF_A_CLASS:
            return f"labels: {counts[each]} of class {each}; accepted: {FEWEST_OF_A_CLASS} or more of each class"
    return None


def write(target: Path, rows: Sequence[Row], known: Reference) -> None:
    """Write the rows in the order of their requests' names, so that the same rows give the same bytes."""
    with target.open("w", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow([*known.columns, known.target])
        for row in sorted(rows, key=lambda each: each.id):
            lines.writerow([*(f"{value:g}" for value in row.values), row.label])


if __name__ == "__main__":
    main()
