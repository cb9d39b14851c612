"""`kiban`: one thin function a verb. What a verb does is elsewhere; here are its words, its options and its result."""

import functools
import sys
from collections.abc import Callable
from typing import Any

import click

from infra import console
from infra.errors import BadInput, KibanError
from infra.report import Report, emit, wants_json

Verb = Callable[..., Report | None]


def verb(name: str, *columns: str) -> Callable[[Verb], click.Command]:
    """Make a command of a function that returns a Report: `--json`, the table, the exit status, one-line errors."""

    def decorate(function: Verb) -> click.Command:
        @functools.wraps(function)
        def run(json_output: bool, **parameters: Any) -> None:  # noqa: ANN401, FBT001
            try:
                report = function(**parameters)
            except KeyboardInterrupt:
                console.say("kiban: interrupted; run the same command again to go on")
                sys.exit(130)
            except KibanError as error:
                if wants_json():
                    emit(Report(verb=name, items=[], ok=False, error=str(error)))
                console.say(f"kiban: {error}")
                sys.exit(error.exit_status)
            if report is not None:
                emit(report, *columns)
                sys.exit(0 if report.ok else 1)

        with_json = click.option("--json", "json_output", is_flag=True, help="Print one JSON document on stdout.")
        return click.command(name.replace("-", "_").split("_")[-1])(with_json(run))

    return decorate


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="kiban", message="kiban %(version)s")
def main() -> None:
    """Deploy and keep a machine-learning platform on Kubernetes."""


ENVIRONMENT = click.argument("environment", metavar="ENV")
ON = click.option("--on", metavar="CLUSTER", help="Run on this embedded or kind cluster, with a state of its own.")
