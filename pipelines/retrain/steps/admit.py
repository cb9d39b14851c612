"""Step `admit`: whether a model may be retrained now. Not to be is an outcome, and no failure.

Against it stand, in this order: a hold that a person set, the cooldown since the last retraining that was admitted, and
the budget of a day. That no two run at once is the workflow's mutex.
"""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import click

from pipelines.monitor.steps import watched
from pipelines.monitor.steps.watched import Watched
from pipelines.reference.steps import options
from pipelines.reference.steps.ending import step
from pipelines.reference.steps.tracking import Tracked

from .decision import ADMITTED, NOT_RETRAINED, decided

DAY = dt.timedelta(days=1)


@click.command()
@click.option("--model", required=True, help="A model that is watched in this namespace.")
@click.option("--alert", required=True, help="What it is retrained for: an alert's name, or a person's word.")
@options.out
@options.run_name
@options.run_uid
@step
def main(*, model: str, alert: str, out: Path, run_name: str, run_uid: str) -> None:
    """Write `true` or `false`."""
    run = Tracked(run_name, run_uid)
    run.tag({"kiban.pipeline": "retrain", "kiban.model": model, "kiban.alert": alert})
    of = watched.read(model)
    against = objection(of, admitted(run, model), dt.datetime.now(dt.UTC))
    if against is None:
        run.tag({ADMITTED: model})
    else:
        decided(run, NOT_RETRAINED, against)
        click.echo(against)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("true" if against is None else "false")


def admitted(run: Tracked, model: str) -> list[dt.datetime]:
    """When earlier retrainings of the model that were admitted began, the newest first."""
    found = run.client.search_runs(
        [run.experiment_id],
        filter_string=f"tags.`{ADMITTED}` = '{model}'",
        order_by=["attributes.start_time DESC"],
        max_results=1000,
    )
    others = (each.info for each in found if each.info.run_id != run.run_id)
    return [dt.datetime.fromtimestamp(info.start_time / 1000, dt.UTC) for info in others]


def objection(model: Watched, earlier: Sequence[dt.datetime], now: dt.datetime) -> str | None:
    """What stands against a retraining now; None where nothing does. earlier: beginnings, the newest first."""
    if model.hold:
        return f"hold: {model.hold}"
    cooldown = dt.timedelta(minutes=model.settings["cooldown_minutes"])
    if earlier and now - earlier[0] < cooldown:
        again = earlier[0] + cooldown
        return f"cooldown: retrained at {earlier[0]:%Y-%m-%dT%H:%M:%SZ}, again from {again:%Y-%m-%dT%H:%M:%SZ} on"
    today, budget = sum(now - began < DAY for began in earlier), model.settings["budget_per_day"]
    if today >= budget:
        return f"budget: {today} retrainings in 24 hours; accepted: {budget}"
    return None


if __name__ == "__main__":
    main()
