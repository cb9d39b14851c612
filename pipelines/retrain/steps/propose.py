"""Step `propose`: a better candidate becomes a version of the registered model, and a proposal to serve it.

Nothing is deployed: the proposal is a document in the team's bucket, which changes stacks/models.yaml when a person
accepts it (`kiban models accept`), and from there passes all gates. Of a candidate that is not better there is neither.
"""

import datetime as dt
import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from pipelines.monitor.steps import watched
from pipelines.monitor.steps.bucket import Bucket
from pipelines.monitor.steps.watched import Watched
from pipelines.reference.steps import options, register
from pipelines.reference.steps.ending import step
from pipelines.reference.steps.tracking import UID, Tracked, sha256

from .compare import FILE
from .decision import NOT_BETTER, PROPOSED, decided

SCHEMA = "kiban.dev/proposal/v1"
SOURCE = "models:/"
"""What a version's source begins with, before the id of its logged model."""
FIELDS = ("version", "uri", "digest")
"""What a proposal changes of a model's entry."""


@click.command()
@options.data
@options.model
@click.option("--of", "name", required=True, help="The model in service.")
@click.option("--judgement", type=options.FILE, required=True, help="As the step `compare` writes it.")
@click.option("--alert", required=True, help="What it was retrained for.")
@options.run_name
@options.run_uid
@step
def main(*, data: Path, model: Path, name: str, judgement: Path, alert: str, run_name: str, run_uid: str) -> None:
    """Register and propose the model where it is better."""
    run = Tracked(run_name, run_uid)
    of = watched.read(name)
    found = json.loads(judgement.read_text())
    better = compared(found)
    if not found["better"]:
        decided(run, NOT_BETTER, better)
        click.echo(better)
        return
    tags = {
        UID: run_uid,
        "kiban.workflow": run_name,
        "kiban.model_digest": sha256(model),
        "kiban.data_digest": sha256(data),
        "kiban.replaces": of.version,
    }
    register.registered(run, of.registered, of.name, model, tags)
    to = entry(run, of, run_uid)
    document = proposal(of, to, found, run={"workflow": run_name, "mlflow_run": run.run_id}, alert=alert)
    where = Bucket().write(
        f"proposals/{of.name}/{run_name}.json",
        (json.dumps(document, indent=2, sort_keys=True) + "\n").encode(),
        "application/json",
    )
    for key, value in (("kiban.proposal", where), ("kiban.compared", better)):
        run.client.set_model_version_tag(of.registered, to["version"], key, value)
    decided(run, PROPOSED, f"version {to['version']}: {better}; {where}")
    click.echo(document["diff"])


def entry(run: Tracked, of: Watched, uid: str) -> dict[str, str]:
    """Version, address and digest of what this workflow registered."""
    (version,) = (
        each for each in run.client.search_model_versions(f"name = '{of.registered}'") if each.tags.get(UID) == uid
    )
    logged = version.source.removeprefix(SOURCE)  # the version's own model_id is not kept by every store
    artifacts = run.client.get_logged_model(logged).artifact_location
    return {
        "version": str(version.version),
        "uri": f"{artifacts}/{FILE}",
        "digest": str(version.tags["kiban.model_digest"]),
    }


def compared(judgement: Mapping[str, Any]) -> str:
    """Both accuracies in one line."""
    candidate, serving = (judgement[which]["accuracy"] for which in ("candidate", "serving"))
    return (
        f"accuracy {candidate:.4f} against {serving:.4f} in service, of {judgement['rows']} rows; "
        f"margin {judgement['margin']:g}"
    )


def proposal(
    of: Watched, to: Mapping[str, str], judgement: Mapping[str, Any], *, run: Mapping[str, str], alert: str
) -> dict[str, Any]:
    """The document: what to change in whose entry, what stands there now, and why."""
    base = {field: str(getattr(of, field)) for field in FIELDS}
    return {
        "schema": SCHEMA,
        "id": run["workflow"],
        "made": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "environment": of.environment,
        "target": of.target,
        "team": of.team,
        "model": of.name,
        "base": base,
        "to": dict(to),
        "judgement": dict(judgement),
        "alert": alert,
        "run": dict(run),
        "diff": diff(of.target, of.name, base, to),
    }


def diff(target: str, model: str, base: Mapping[str, str], to: Mapping[str, str]) -> str:
    """The change of a model's entry, for people to read; where it is in the file, `kiban models accept` finds."""
    before, after = ([f"{field}: {fields[field]}\n" for field in FIELDS] for fields in (base, to))
    name = f"stacks/models.yaml ({target}, {model})"
    return "".join(difflib.unified_diff(before, after, f"a/{name}", f"b/{name}"))


if __name__ == "__main__":
    main()
