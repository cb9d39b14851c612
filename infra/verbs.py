"""How a function becomes a verb of the command line: `--json`, the table, one-line errors, the exit status."""

import functools
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from infra import console, paths
from infra.errors import BadInput, Interrupted, KibanError, RunFailed
from infra.report import Report, emit

FILE = click.Path(dir_okay=False, resolve_path=True, path_type=Path)
ENVIRONMENT = click.argument("environment", metavar="ENV")
ON = click.option("--on", metavar="CLUSTER", help="Run on this embedded or kind cluster, with a state of its own.")


def verb(
    group: click.Group, name: str, *columns: str, schema: str | None = None
) -> Callable[[Callable[..., Report | None]], click.Command]:
    """Add a command to the group, made of a function that returns a Report.

    columns: of the table that is printed without `--json`; several tables are parted by "|".
    schema: what the document's schema is named after, where the verb's name alone would be ambiguous.
    """

    def decorate(function: Callable[..., Report | None]) -> click.Command:
        @functools.wraps(function)
        def run(**parameters: Any) -> None:  # noqa: ANN401
            as_json = parameters.pop("as_json")
            for number in (signal.SIGINT, signal.SIGTERM):  # a CI job is cancelled by the second as well
                signal.signal(number, signal.default_int_handler)
            try:
                _sweep()
                report = function(**parameters)
            except KeyboardInterrupt:
                report = _failed("interrupted; run the same command again to go on", Interrupted.exit_status)
            except KibanError as error:
                report = _failed(str(error), error.exit_status, error.items)
            if report is not None:
                emit(report, schema or name, as_json=as_json, columns=columns)
                sys.exit(report.exit_status)

        with_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
        command = click.command(name)(with_json(run))
        group.add_command(command)
        return command

    return decorate


def _sweep() -> None:
    """Remove what a killed rehearsal has left."""
    if (paths.home() / "rehearsals").exists():
        from infra.rehearsal import places  # noqa: PLC0415 - hardly ever

        places.sweep(console.say)


def _failed(message: str, status: int, items: Sequence[Mapping[str, Any]] = ()) -> Report:
    console.say(f"kiban: {message}")
    return Report(items=items, error=message, exit_status=status)


def confirm(question: str) -> None:
    """Ask on the terminal. Raises BadInput where there is none, RunFailed where the answer is no."""
    if not sys.stdin.isatty():
        raise BadInput(f"{question} There is no terminal to answer from; give --yes; nothing was changed")
    if not click.confirm(question, err=True):
        raise RunFailed("nothing was changed")
