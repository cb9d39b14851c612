"""Step `measure`: hold the requests of a window against the training data; what comes out are the workflow's gauges.

A broken feed is no failure of the step: that the feed is not valid is what it found. Drift is then not measured, nor
where too few requests were made.
"""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import click

from pipelines.reference.steps.ending import step

from . import drift, reference, watched, window
from .bucket import Bucket
from .feed import Feed
from .watched import Watched


@click.command()
@click.option("--model", required=True, help="A model that is watched in this namespace.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write.")
@click.option("--until", default="", help="End of the window, RFC 3339; now, where it is empty.")
@step
def main(*, model: str, out: Path, until: str) -> None:
    """Write one file a figure, and a report to monitoring/MODEL/ in the team's bucket."""
    end = dt.datetime.fromisoformat(until) if until else dt.datetime.now(dt.UTC)
    of = watched.read(model)
    known = reference.find(of.team, of.name, of.version)
    feed = window.read(of, known, end)
    enough = feed.reason is None and len(feed.good) >= of.settings["fewest_requests"]
    found = drift.measured(feed.good, known) if enough else None
    bucket = Bucket()
    if found:
        bucket.write(f"monitoring/{model}/latest.html", found.html.encode(), "text/html")
    report = json.dumps(told(of, feed, found, end), indent=2, sort_keys=True) + "\n"
    bucket.write(f"monitoring/{model}/{end:%Y-%m-%dT%H%M%S}.json", report.encode(), "application/json")
    out.mkdir(parents=True, exist_ok=True)
    for name, value in figures(of, feed, found).items():
        (out / name).write_text(value)
    click.echo(report)


def figures(model: Watched, feed: Feed, found: drift.Drift | None) -> dict[str, str]:
    """Output parameter to value. Gauges whose condition is false are not set: their value means nothing."""
    accuracy = found.accuracy if found else None
    return {
        "version": model.version,
        "requests": str(feed.rows),
        "checked": _word(feed.rows > 0),
        "feed-valid": "0" if feed.reason else "1",
        "measured": _word(found is not None),
        "drift-share": f"{found.share:.6f}" if found else "0",
        "prediction-drift": f"{found.prediction:.6f}" if found else "0",
        "labelled": _word(accuracy is not None),
        "accuracy": f"{accuracy or 0:.6f}",
    }


def _word(truth: bool) -> str:  # noqa: FBT001
    return "true" if truth else "false"


def told(model: Watched, feed: Feed, found: drift.Drift | None, end: dt.datetime) -> dict[str, Any]:
    """The report: what was looked at, what was found, and by which bounds it is judged."""
    settings = model.settings
    bounds = {name: settings[name] for name in ("drift_share", "prediction_drift", "accuracy", "fewest_requests")}
    return {
        "schema": "kiban.dev/drift/v1",
        "team": model.team,
        "model": model.name,
        "version": model.version,
        "environment": model.environment,
        "window": {"end": end.isoformat(timespec="seconds"), "minutes": settings["window_minutes"]},
        "bounds": bounds,
        "rows": feed.rows,
        "good_rows": len(feed.good),
        "feed_valid": feed.reason is None,
        "feed_reason": feed.reason,
        "measured": found is not None,
        **(
            {
                "drift_share": found.share,
                "prediction_drift": found.prediction,
                "features": found.features,
                "labelled": found.labelled,
                "accuracy": found.accuracy,
            }
            if found
            else {}
        ),
    }


if __name__ == "__main__":
    main()
