"""`kiban`: one thin function a verb. What a verb does is elsewhere; here are its words, its options and its result."""

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from infra.console import say
from infra.errors import BadInput, RunFailed
from infra.release import audit_commands, commands, drift_commands, promote_commands
from infra.report import Report
from infra.verbs import ENVIRONMENT, FILE, ON, verb


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="kiban", message="kiban %(version)s")
def main() -> None:
    """Deploy and keep a machine-learning platform on Kubernetes.

    Exit status: 0 done, 1 findings or a failed run, 2 bad input, 3 could not run, 130 interrupted.
    """


for _group in (commands, promote_commands, audit_commands, drift_commands):
    for _command in _group.VERBS.commands.values():
        main.add_command(_command)


@verb(main, "up", "done changes seconds |", "pool nodes ready resource capacity requested evidence")
@ENVIRONMENT
@ON
@click.option("--kind", is_flag=True, help="On a kind cluster of the environment's name, made where there is none.")
@click.option("--force", is_flag=True, help="Take fields back that another field manager has set.")
@click.option("--plan", metavar="FILE", type=FILE, help="Do what this plan of `preview` says, and nothing else.")
def up(environment: str, on: str | None, *, kind: bool, force: bool, plan: Path | None) -> Report:
    """Bring an environment up: its cluster where that is embedded, then the platform on it."""
    from infra import engine, stage, status

    target = stage.open_for(environment, on, on_kind=kind, say=say)
    result = engine.up(target, force=force, plan=plan, say=say)
    changes = [change.as_item() for change in result.changes]
    return Report(items=[*changes, _done(result), *status.pool_items(*status.read(target.cluster)[:2])])


@verb(main, "preview", "change resource properties |", "done changes seconds")
@ENVIRONMENT
@ON
@click.option("--save-plan", "plan", metavar="FILE", type=FILE, help="Keep the plan for `up --plan FILE`.")
def preview(environment: str, on: str | None, plan: Path | None) -> Report:
    """Say what `up` would change, and change nothing."""
    from infra import engine, target

    result = engine.preview(target.resolve(environment, on), plan=plan, say=say)
    return Report(items=[*(change.as_item() for change in result.changes), _done(result)])


@verb(main, "destroy", "done changes seconds")
@ENVIRONMENT
@ON
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def destroy(environment: str, on: str | None, *, yes: bool) -> Report:
    """Delete the platform from an environment's cluster; an embedded cluster itself goes with `cluster down`."""
    from infra import engine, target

    where = target.resolve(environment, on)
    if not yes:
        _confirm(f"Delete the platform of {where.command} from cluster {where.cluster.name}?")
    return Report(items=[_done(engine.destroy(where, say=say))])


@verb(main, "refresh", "done changes seconds")
@ENVIRONMENT
@ON
def refresh(environment: str, on: str | None) -> Report:
    """Take what the cluster has into the state; the next `up` puts right what differs from the program."""
    from infra import engine, target

    return Report(items=[_done(engine.refresh(target.resolve(environment, on), say=say))])


@verb(main, "outputs", "output value")
@ENVIRONMENT
@ON
def outputs(environment: str, on: str | None) -> Report:
    """Print the outputs of an environment's stack; secrets stay masked."""
    from infra import engine, target

    found = engine.outputs(target.resolve(environment, on))
    return Report(items=[{"output": name, "value": value} for name, value in found.items()])


@verb(main, "env")
@ENVIRONMENT
@ON
def env(environment: str, on: str | None) -> Report:
    """Print shell commands after which plain `pulumi` and `kubectl` work on an environment.

    Use: eval "$(./kiban env local)"
    """
    from infra import engine, target

    where = target.resolve(environment, on)
    engine.prepare(where)
    lines = [
        f"unset {name}" if value is None else f"export {name}={shlex.quote(value)}"
        for name, value in sorted(where.environ.items())
    ]
    items = [{"variable": name, "value": value} for name, value in sorted(where.environ.items())]
    return Report(items=items, text="\n".join(lines))


@verb(
    main,
    "status",
    "environment runs says next blocked_by |",
    "pool nodes ready resource capacity requested evidence |",
    "pending asks why source |",
    "failing why |",
    "refused why",
)
@click.argument("environment", metavar="[ENV]", required=False)
@ON
@click.option("--web", metavar="FILE", type=FILE, help="Without ENV: write it as a page that needs no server.")
def status_verb(environment: str | None, on: str | None, web: Path | None) -> Report:
    """Say what runs where and what is next; of ENV, what its nodes hold and why a pod waits, fails or was refused."""
    if environment is None:
        if on:
            raise BadInput("--on; accepted: with an environment, whose cluster it stands in for")
        return _standings(web)
    if web:
        raise BadInput("--web; accepted: without an environment: the page is of all")
    from infra import status, target

    cluster = target.resolve(environment, on).cluster
    nodes, pods, events = status.read(cluster)
    return Report(
        items=[
            *status.pool_items(nodes, pods),
            *status.pending_items(nodes, pods),
            *status.queued_items(status.workloads(cluster)),
            *status.failing_items(pods),
            *status.refused_items(events),
        ]
    )


def _standings(web: Path | None) -> Report:
    import stacks
    from infra import paths
    from infra.release import view
    from infra.release.entry import now

    at = now()
    found = view.standings(paths.ROOT, stacks.names(), at)
    if web:
        from infra.release import canonical
        from infra.release import web as pages

        canonical.put(web, pages.page(paths.ROOT, found, at).encode())
        say(f"status: written to {web}")
    return Report(items=[each.as_item() for each in found])


@verb(main, "images", "image")
@ENVIRONMENT
@ON
def images_verb(environment: str, on: str | None) -> Report:
    """List every image that an environment's pods name, also those hidden in flags and configuration."""
    from infra import charts, target

    named = charts.images(target.environment(environment, target.meant(environment, on)))
    return Report(items=[{"image": image} for image in named], text="\n".join(named))


@verb(
    main,
    "rehearse",
    "ok step seconds changes |",
    "check title outcome evidence looked_at findings |",
    "mended object message |",
    "finding step object message remedy before",
)
@ENVIRONMENT
@click.option("--from", "base", metavar="REF", help="What the environment runs now: a tag, branch or commit.")
@click.option("--first", is_flag=True, help="It runs nothing yet: install, and neither upgrade nor roll back.")
@click.option("--to", "candidate", default="worktree", metavar="REF", show_default=True, help="What it is to run.")
@click.option("--fault", "faults", multiple=True, metavar="FAULT", help="What goes wrong during the upgrade.")
@click.option("--markdown", metavar="FILE", help="Write the report for a pull request.")
@click.option("--junit", metavar="FILE", help="Write the report for a CI system.")
def rehearse(
    environment: str,
    candidate: str,
    faults: tuple[str, ...],
    *,
    base: str | None,
    first: bool,
    markdown: str | None,
    junit: str | None,
) -> Report:
    """See an environment's upgrade and rollback happen on a throwaway cluster; status 1 where something is found.

    Installs what the environment runs now, upgrades it with workloads in flight, does it once more, rolls back,
    upgrades again and deletes everything; looks at the cluster after each. REF may be a release: then --from is by
    default what the environment runs by its record, and what was found is kept for the gate `rehearsed`.
    FAULT: webhook-down, slow-kinds, api-restart, lost-pool, half-quota.
    """
    from infra import paths, target
    from infra.rehearsal import report
    from infra.rehearsal.junit import junit as as_junit
    from infra.rehearsal.markdown import markdown as as_markdown
    from infra.rehearsal.play import Request
    from infra.rehearsal.play import rehearse as play
    from infra.release import rehearsals

    target.environment(environment)
    released = rehearsals.released(paths.ROOT, environment, base, candidate, first=first)
    if released:
        was, to = released
        base, candidate, first = was.commit if was else None, to.commit, was is None
    if first == bool(base):
        raise BadInput(
            f"{environment}: nothing says what it runs now; accepted: --from REF (a tag, branch or commit), "
            "or --first where it runs nothing yet"
        )
    found = play(Request(environment=environment, base=base, candidate=candidate, faults=faults), say)
    for file, text in ((markdown, as_markdown), (junit, as_junit)):
        if file:
            Path(file).write_text(text(found))
    if released:
        kept = rehearsals.keep(paths.ROOT, found, *released)
        say(f"rehearse {environment}: kept in {kept.relative_to(paths.ROOT)}; commit it")
    say(report.verdict(found))
    return Report(items=report.items(found), exit_status=found.exit_status)


@verb(main, "environments", "environment first files because")
@click.option("--touched", metavar="REF", help="Only those that may differ between this commit and the working tree.")
def environments_verb(touched: str | None) -> Report:
    """List the environments that there are."""
    import stacks
    from infra.rehearsal import touched as differing

    items = differing.items(touched) if touched else [{"environment": name} for name in stacks.names()]
    return Report(items=items)


@verb(main, "sweep", "orphan kept")
@ENVIRONMENT
@ON
@click.option("--delete", is_flag=True, help="Delete them, but those that may hold data.")
def sweep_verb(environment: str, on: str | None, *, delete: bool) -> Report:
    """List objects that carry an environment's label and that its state does not know; status 1 where there are any."""
    from infra import engine, sweep, target

    where = target.resolve(environment, on)
    state = engine.export(where)
    orphans = sweep.clear(where, state, say=say) if delete else sweep.find(where, state)
    items = [{"orphan": str(orphan), "kept": orphan.kept} for orphan in orphans]
    return Report(items=items, exit_status=1 if items and not delete else 0)


@verb(main, "unlock", "lock held_by")
@ENVIRONMENT
@ON
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def unlock(environment: str, on: str | None, *, yes: bool) -> Report:
    """Clear the lock of a run that was killed on another machine; one of this machine is cleared by the next `up`."""
    from infra import engine, target

    where = target.resolve(environment, on)
    if not yes:
        _confirm(f"Clear the lock of {where.command}? A run that still goes on would then meet another")
    return Report(items=[{"lock": lock.url, "held_by": str(lock)} for lock in engine.unlock(where, say=say)])


@main.group()
def credentials() -> None:
    """Passwords and keys of an environment, none of which is ever printed."""


@verb(credentials, "list", "credential source generation handed_out", schema="credentials-list")
@ENVIRONMENT
@ON
def credentials_list(environment: str, on: str | None) -> Report:
    """List the credentials that an environment needs; status 1 where one is missing."""
    from infra import credentials as names
    from infra import engine, target

    where = target.resolve(environment, on)
    items = names.items(engine.configuration(where, "credentials list", say=say), where.environment)
    return Report(items=items, exit_status=1 if any(item["source"] == "missing" for item in items) else 0)


@verb(credentials, "generate", schema="credentials-generate")
@ENVIRONMENT
@ON
def credentials_generate(environment: str, on: str | None) -> Report:
    """Generate what is missing into the stack's encrypted configuration; on an embedded cluster `up` does it itself."""
    from infra import engine, target

    where = target.resolve(environment, on)
    if not engine.generate(where, asked=True, say=say):
        say(f"{where.command}: nothing is missing")
    return Report(items=[])


@verb(credentials, "rotate", "credential source generation", schema="credentials-rotate")
@ENVIRONMENT
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--team", metavar="T", help="The object-store key that this team's pods are handed.")
@ON
def credentials_rotate(environment: str, name: str | None, team: str | None, on: str | None) -> Report:
    """Renew a credential; the next `up` puts it into force."""
    from infra import credentials as names
    from infra import engine, target

    if (name is None) == (team is None):
        raise BadInput("accepted: the name of a credential, or --team T; see `kiban credentials list`")
    where = target.resolve(environment, on)
    stack = engine.configuration(where, "credentials rotate", say=say)
    if team:
        return Report(items=[names.rotate_team(stack, where.environment, team, say=say)])
    return Report(items=[names.rotate(stack, where.environment, str(name), say=say)])


@verb(credentials, "set", "credential source", schema="credentials-set")
@ENVIRONMENT
@click.argument("name")
@ON
def credentials_set(environment: str, name: str, on: str | None) -> Report:
    """Take a credential from standard input: what an external database or object store knows."""
    from infra import credentials as names
    from infra import engine, target

    where = target.resolve(environment, on)
    stack = engine.configuration(where, "credentials set", say=say)
    value: str = click.prompt(name, hide_input=True, err=True) if os.isatty(0) else sys.stdin.read()
    return Report(items=[names.give(stack, where.environment, name, value.strip(), say=say)])


@main.group()
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


@main.group("models")
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


@verb(main, "backup", "backup runs models model_versions objects bytes newest_run_end database_revision")
@ENVIRONMENT
@click.option("--list", "listing", is_flag=True, help="List the backups that there are, and make none.")
@ON
def backup_verb(environment: str, on: str | None, *, listing: bool) -> Report:
    """Back up databases and object store now, as the CronJob does every night."""
    from infra import backup

    metadata, _ = _metadata(environment, on)
    return Report(items=backup.items(metadata) if listing else [backup.back_up(metadata, say=say)])


@verb(main, "restore", "verified count same")
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
        _confirm(f"Restore {found['backup']}, MLflow being stopped meanwhile?")
    items = backup.restore(metadata, found["backup"], discard=discard, say=say)
    return Report(items=items, exit_status=0 if all(item["same"] for item in items) else 1)


@verb(main, "test")
@click.option("--full", is_flag=True, help="Every number and scale, not each acceptance line in its smallest form.")
@click.option("--report", metavar="FILE", help="Append {line, evidence, figure, goal, command} a line to FILE.")
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def test(*, full: bool, report: str | None, pytest_arguments: tuple[str, ...]) -> Report:
    """Run all checks; with arguments behind `--`, pytest alone with those."""
    from infra import checks

    checks.run(full=full, report=report, arguments=pytest_arguments)
    return Report(items=[])


@main.group()
def tools() -> None:
    """List, build and find the tools that Kiban runs."""


@verb(tools, "list", "tool version family source path", schema="tools-list")
def tools_list() -> Report:
    """List every tool, its pinned version, and where it is; nothing is built."""
    from infra import toolchain

    return Report(items=toolchain.list_items())


@verb(tools, "build", "tool version family source path", schema="tools-build")
@click.argument("names", nargs=-1, metavar="[TOOL]...")
def tools_build(names: tuple[str, ...]) -> Report:
    """Find, fetch or build the named tools, or all."""
    from infra import toolchain

    return Report(items=toolchain.build(names))


@verb(tools, "path", schema="tools-path")
@click.argument("name", metavar="TOOL")
def tools_path(name: str) -> Report:
    """Print a tool's path; it is made where it is missing."""
    from infra import toolchain

    path = toolchain.resolve(name)[name]
    return Report(items=[{"tool": name, "path": str(path)}], text=str(path))


@verb(main, "doctor", "check needed_for ok found remedy")
def doctor_verb() -> Report:
    """Say what this machine has of what Kiban and a real node need; status 1 where something is missing."""
    from infra import doctor

    items = doctor.items()
    return Report(items=items, exit_status=0 if doctor.healthy(items) else 1)


@main.group()
def cluster() -> None:
    """Start, see and end embedded clusters."""


CLUSTER = click.argument("name", metavar="NAME")


@verb(cluster, "up", "cluster server context uid", schema="cluster-up")
@CLUSTER
@click.option("--env", "environment", metavar="ENV", help="Give it the nodes of this environment's pools.")
@click.option("--kind", is_flag=True, help="On Docker, by kind; nodes are containers.")
def cluster_up(name: str, environment: str | None, *, kind: bool) -> Report:
    """Start a cluster, or what is missing of it; one that runs is left as it is."""
    from infra import stage

    made = stage.cluster_up(name, environment, on_kind=kind, say=say)
    return Report(
        items=[{"cluster": made.name, "context": made.context, "uid": made.uid, "kubeconfig": made.kubeconfig}]
    )


@verb(cluster, "down", schema="cluster-down")
@CLUSTER
def cluster_down(name: str) -> Report:
    """End a cluster and remove all that it had: processes, interfaces, data, and the stacks that lived on it."""
    from infra import stage

    stage.cluster_down(name, say=say)
    return Report(items=[])


@verb(
    cluster,
    "status",
    "cluster ready server namespace memory_mib evidence |",
    "nodes ready evidence |",
    "node is_ready evidence |",
    "process state pid memory_mib uptime_s tail",
    schema="cluster-status",
)
@CLUSTER
def cluster_status(name: str) -> Report:
    """Say what runs of a cluster; status 1 where something does not, with the end of its log."""
    from infra.clusters import embedded

    found = embedded.status(name)
    return Report(items=found.as_items(), exit_status=0 if found.ready else 1)


@verb(cluster, "list", "cluster kind", schema="cluster-list")
def cluster_list() -> Report:
    """List the clusters of this checkout."""
    from infra import stage

    return Report(items=stage.cluster_items())


@verb(cluster, "logs", schema="cluster-logs")
@CLUSTER
@click.argument("process")
@click.option("--follow", "-f", is_flag=True, help="Go on with what is written from now on.")
@click.option("--lines", "-n", default=100, show_default=True, help="How many of the last lines.")
def cluster_logs(name: str, process: str, *, follow: bool, lines: int) -> Report | None:
    """Print what a cluster's process wrote."""
    from infra.clusters import embedded

    written = embedded.logs(name, process, follow=follow, lines=lines)
    if follow:
        for line in written:
            click.echo(line)
        return None
    kept = list(written)
    return Report(items=[{"line": line} for line in kept], text="\n".join(kept))


@verb(cluster, "images", "image how", schema="cluster-images")
@CLUSTER
def cluster_images(name: str) -> Report:
    """List the images that a cluster's real node has: pulled, built from source, or absent though a pod names it."""
    from infra.clusters import embedded

    return Report(items=[{"image": image, "how": how} for image, how in embedded.images(name).items()])


@verb(cluster, "kubeconfig", schema="cluster-kubeconfig")
@CLUSTER
def cluster_kubeconfig(name: str) -> Report:
    """Print the path of a cluster's kubeconfig."""
    from infra import stage

    path = str(stage.cluster(name).kubeconfig)
    return Report(items=[{"cluster": name, "kubeconfig": path}], text=path)


def _metadata(environment: str, on: str | None) -> tuple[Any, Any]:
    """The metadata store of an environment's cluster, and the environment."""
    from infra import target
    from infra.metadata import Metadata

    found = target.environment(environment, target.meant(environment, on))
    if found.metadata is None:
        raise BadInput(f"{environment}: it has no metadata store; accepted: an environment with `metadata`")
    return Metadata(target.locate(found)), found


def _done(result: Any) -> dict[str, Any]:  # noqa: ANN401  engine.Result, imported late
    return {
        "done": f"{result.verb} {result.environment}",
        "changes": result.counts,
        "seconds": round(result.seconds, 1),
        "recovered": result.recovered,
        "warnings": [warning.message for warning in result.warnings],
        "evidence": "executed",
    }


def _confirm(question: str) -> None:
    if not os.isatty(0):
        raise BadInput(f"{question} There is no terminal to answer from; give --yes")
    if not click.confirm(question, err=True):
        raise RunFailed("nothing was changed")
