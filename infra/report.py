"""The result of a verb: one JSON document on stdout with `--json`, a table or lines without.

The document is `{"schema": "kiban/<verb>/v1", "ok": …, "items": […]}`; an item says what its evidence is
(`executed`, `simulated`, `not-tested`) wherever that can be asked.
"""

import dataclasses as dc
import json
import sys
from collections.abc import Sequence
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

Item = dict[str, Any]


@dc.dataclass(frozen=True, kw_only=True)
class Report:
    """What a verb found or did. `ok` false means exit status 1."""

    verb: str
    items: Sequence[Item]
    ok: bool = True
    error: str | None = None

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        error = {} if self.error is None else {"error": self.error}
        return {"schema": f"kiban/{self.verb}/v1", "ok": self.ok, **error, "items": list(self.items)}


def emit(report: Report, *columns: str) -> None:
    """Print the report on stdout: as JSON where the verb was given `--json`, else as a table of these columns.

    Items that lack the first column are left out of the table. No columns: nothing but JSON is printed.
    """
    if wants_json():
        click.echo(json.dumps(report.document(), indent=2, default=str))
        return
    rows = [item for item in report.items if columns and columns[0] in item]
    if rows:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in columns:
            table.add_column(column.replace("_", " "), overflow="fold")
        for item in rows:
            table.add_row(*(_cell(item.get(column)) for column in columns))
        width = None if sys.stdout.isatty() else 160
        Console(file=sys.stdout, highlight=False, width=width).print(table)


def wants_json() -> bool:
    """Whether the running verb was given `--json`."""
    context = click.get_current_context(silent=True)
    return bool(context and context.params.get("json_output"))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.1f}"
    return str(value)
