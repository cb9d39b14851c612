"""`kiban`: one thin function a verb. What a verb does is elsewhere; here are its words, its options and its result."""

import shlex
from pathlib import Path
from typing import Any

import click

from infra import cluster_commands, credential_commands, data_commands
from infra.capacity import commands as capacity_commands
from infra.console import say
from infra.errors import BadInput
from infra.provision import commands as provision_commands
from infra.release import audit_commands, commands, drift_commands, promote_commands
from infra.report import Report
from infra.verbs import ENVIRONMENT, FILE, ON, confirm, verb


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="kiban", message="kiban %(version)s")
def main() -> None:
    """Deploy and keep a machine-learning platform on Kubernetes.

    Exit status: 0 done, 1 findings or a failed run, 2 bad input, 3 could not run, 130 interrupted.
    """


for _group in (
    *(capacity_commands, cluster_commands, credential_commands, data_commands, provision_commands),
    *(commands, promote_commands, audit_commands, drift_commands),
):
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
        confirm(f"Delete the platform of {where.command} from cluster {where.cluster.name}?")
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
        confirm(f"Clear the lock of {where.command}? A run that still goes on would then meet another")
    return Report(items=[{"lock": lock.url, "held_by": str(lock)} for lock in engine.unlock(where, say=say)])


@verb(main, "test")
@click.option(
    "--full", is_flag=True, help="Every number, scale and benchmark, not each acceptance line in its smallest form."
)
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


def _done(result: Any) -> dict[str, Any]:  # noqa: ANN401  engine.Result, imported late
    return {
        "done": f"{result.verb} {result.environment}",
        "changes": result.counts,
        "seconds": round(result.seconds, 1),
        "recovered": result.recovered,
        "warnings": [warning.message for warning in result.warnings],
        "evidence": "executed",
    }
