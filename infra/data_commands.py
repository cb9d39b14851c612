"""`kiban runs`, `models`, `backup` and `restore`: words, options and results; what a platform remembers and serves."""

from typing import TYPE_CHECKING

import click

from infra.console import say
from infra.errors import BadInput
from infra.report import Report
from infra.verbs import ENVIRONMENT, ON, confirm, verb

if TYPE_CHECKING:
    from infra.metadata import Metadata
    from stacks._schema import Environment

VERBS = click.Group()
"""What the command line takes over from here."""


@VERBS.group()
def runs() -> None:
    """Start runs of the reference pipeline, and see what is remembered of them."""


@verb(runs, "start", "run team outcome reason", schema="runs-start")
@ENVIRONMENT
@click.option("--team", required=True, metavar="T", help="Whose run it is.")
@click.option("--param", "parameters", multiple=True, metavar="NAME=VALUE", help="A parameter of the pipeline.")
@click.option("--wait", is_flag=True, help="Until it has ended; status 1 where it failed.")
@ON
def runs_start(environment: str, team: str, parameters: tuple[str, ...], on: str | None, *, wait: bool) -> Report:
    """Start the reference pipeline."""
    from infra import runs as pipeline_runs

    metadata, found = _metadata(environment, on)
    item = pipeline_runs.start(metadata, found, team, parameters, wait=wait, say=say)
    return Report(items=[item], exit_status=1 if item["outcome"] == "Failed" else 0)


@verb(runs, "list", "run team outcome started seconds commit mlflow_run reason", schema="runs-list")
@ENVIRONMENT
@click.option("--team", metavar="T", help="Of this team alone.")
@ON
def runs_list(environment: str, team: str | None, on: str | None) -> Report:
    """List runs, newest first."""
    from infra import runs as pipeline_runs

    metadata, found = _metadata(environment, on)
    return Report(items=pipeline_runs.items(metadata, found, team))


@verb(runs, "show", "field value", schema="runs-show")
@ENVIRONMENT
@click.argument("run")
@ON
def runs_show(environment: str, run: str, on: str | None) -> Report:
    """Show all that is recorded of a run: parameters, metrics, digests, images, nodes, queue, artifacts."""
    from infra import runs as pipeline_runs

    metadata, found = _metadata(environment, on)
    return Report(items=pipeline_runs.show_items(metadata, found, run))


@verb(runs, "reproduce", "field recorded reproduced same", schema="runs-reproduce")
@ENVIRONMENT
@click.argument("run")
@ON
def runs_reproduce(environment: str, run: str, on: str | None) -> Report:
    """Run a run again from its record and compare the results; status 1 where one differs."""
    from infra import runs as pipeline_runs

    metadata, found = _metadata(environment, on)
    items = pipeline_runs.reproduce(metadata, found, run, say=say)
    return Report(items=items, exit_status=0 if all(item["same"] for item in items) else 1)


@VERBS.group("models")
def models_group() -> None:
    """See the models in service."""


@verb(models_group, "list", "model team version share canary runtime digest ready", schema="models-list")
@ENVIRONMENT
@ON
def models_list(environment: str, on: str | None) -> Report:
    """List the versions in service, and whether they are ready in the cluster."""
    from infra import models, target

    found = target.environment(environment, target.meant(environment, on))
    if found.serving is None:
        raise BadInput(f"{environment}: it serves no models; accepted: an environment with `serving`")
    return Report(items=models.items(found.serving, target.locate(found)))


@verb(
    models_group,
    "proposals",
    "proposal team model target from to accuracy in_service alert made",
    schema="models-proposals",
)
@ENVIRONMENT
@ON
def models_proposals(environment: str, on: str | None) -> Report:
    """List what retraining proposes to serve, newest first."""
    from infra import proposals, target
    from infra.metadata import Metadata

    found = target.environment(environment, target.meant(environment, on))
    return Report(items=[each.item for each in proposals.read(Metadata(target.locate(found)), found)])


@verb(models_group, "accept", "proposal team model target from to", schema="models-accept")
@ENVIRONMENT
@click.argument("proposal")
@ON
def models_accept(environment: str, proposal: str, on: str | None) -> Report:
    """Take a proposal into stacks/models.yaml of this checkout; nothing is deployed."""
    from infra import proposals, target
    from infra.metadata import Metadata

    found = target.environment(environment, target.meant(environment, on))
    wanted = proposals.find(proposals.read(Metadata(target.locate(found)), found), proposal)
    say(proposals.accept(wanted))
    return Report(items=[wanted.item])


@verb(VERBS, "backup", "backup runs models model_versions objects bytes newest_run_end database_revision")
@ENVIRONMENT
@click.option("--list", "listing", is_flag=True, help="List the backups that there are, and make none.")
@ON
def backup_verb(environment: str, on: str | None, *, listing: bool) -> Report:
    """Back up databases and object store now, as the CronJob does every night."""
    from infra import backup

    metadata, _ = _metadata(environment, on)
    return Report(items=backup.items(metadata) if listing else [backup.back_up(metadata, say=say)])


@verb(VERBS, "restore", "verified count same")
@ENVIRONMENT
@click.option("--from", "name", required=True, metavar="BACKUP", help="A name from `backup --list`, or `latest`.")
@click.option("--discard-newer", "discard", is_flag=True, help="Also where data is lost that the backup has not.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@ON
def restore_verb(environment: str, name: str, on: str | None, *, discard: bool, yes: bool) -> Report:
    """Bring databases and object store back to a backup; say first what is replaced and lost."""
    from infra import backup

    metadata, _ = _metadata(environment, on)
    found = backup.check(metadata, name, say=say)
    for line in backup.told(found):
        say(line)
    backup.refuse_newer(found, discard=discard)
    if not yes:
        confirm(f"Restore {found['backup']}, MLflow being stopped meanwhile?")
    items = backup.restore(metadata, found["backup"], discard=discard, say=say)
    return Report(items=items, exit_status=0 if all(item["same"] for item in items) else 1)


def _metadata(environment: str, on: str | None) -> "tuple[Metadata, Environment]":
    """The metadata store of an environment's cluster, and the environment."""
    from infra import target
    from infra.metadata import Metadata

    found = target.environment(environment, target.meant(environment, on))
    if found.metadata is None:
        raise BadInput(f"{environment}: it has no metadata store; accepted: an environment with `metadata`")
    return Metadata(target.locate(found)), found
