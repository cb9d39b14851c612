"""The result of a verb: one JSON document on stdout with `--json`, a table or lines without.

The document is `{"schema": "kiban/<verb>/v1", "ok": …, "items": […]}`; an item says what its evidence is
(`executed`, `simulated`, `not-tested`) wherever that can be asked.
"""

import dataclasses as dc
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

_WIDTH = 160  # of tables that go into a file or a log


@dc.dataclass(frozen=True, kw_only=True)
class Report:
    """What a verb found or did.

    text: printed instead of tables, where a verb's result is text for another program.
    exit_status: 0 done, 1 findings or a failed run, 2 bad input, 3 could not run, 130 interrupted.
    """

    items: Sequence[Mapping[str, Any]]
    text: str | None = None
    error: str | None = None
    exit_status: int = 0

    def document(self, schema: str) -> dict[str, Any]:
        """Return the JSON document."""
        error = {} if self.error is None else {"error": self.error}
        return {
            "schema": f"kiban/{schema}/v1",
            "ok": self.exit_status == 0,
            **error,
            "items": [dict(item) for item in self.items],
        }


def emit(report: Report, schema: str, *, as_json: bool, columns: Sequence[str]) -> None:
    """Print the report on stdout: the document, or its text, or a table of the columns up to each "|".

    A table shows the items that have its first column.
    """
    if as_json:
        click.echo(json.dumps(report.document(schema), indent=2, default=str))
    elif report.text is not None:
        click.echo(report.text)
    else:
        for table in " ".join(columns).split("|"):
            _print_table(report.items, table.split())


def _print_table(items: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    rows = [item for item in items if columns and columns[0] in item]
    if not rows:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for item in rows:
        table.add_row(*(_cell(item.get(column)) for column in columns))
    Console(file=sys.stdout, highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDTH).print(table)


def _cell(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case list() | tuple():
            return "\n".join(map(str, value)) or "-"
        case Mapping():
            return ", ".join(f"{count} {word}" for word, count in value.items()) or "-"
        case _:
            return str(value)
