"""Step `validate`: refuse a data set that nothing should be learned from. Standard library only, but for MLflow's log.

The digest of what was judged is kept whatever the judgement.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from . import options
from .digits import BRIGHTEST, COLUMNS, DIGITS
from .ending import Refused, step
from .tracking import Tracked, sha256

FEWEST_ROWS = 1000
FEWEST_OF_A_DIGIT = 0.5
MOST_OF_A_DIGIT = 2.0
"""How far a digit's count may be from an even share, as a multiple of it."""


@click.command()
@options.data
@options.out
@options.run_name
@options.run_uid
@step
def main(*, data: Path, out: Path, run_name: str, run_uid: str) -> None:
    """Judge the data set: columns, ranges, number of rows, balance of the digits. Write what it holds as JSON."""
    run = Tracked(run_name, run_uid)
    digest = sha256(data)
    run.tag({"kiban.data_digest": digest})
    report = {"digest": digest, **judged(data)}
    run.metrics({"rows": report["rows"]})
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=2, sort_keys=True) + "\n")


def judged(file: Path) -> dict[str, Any]:
    """What a data set holds: `rows`, and `digits` (digit to number of images).

    Raises Refused for the first thing that is wrong with it, and says where.
    """
    try:
        with file.open(newline="", encoding="utf-8") as content:
            counts = Counter(_digits(csv.reader(content, strict=True)))
    except (UnicodeDecodeError, csv.Error) as error:
        raise Refused(f"data: not a CSV file: {error}") from error
    rows = counts.total()
    if rows < FEWEST_ROWS:
        raise Refused(f"data: {rows} rows; accepted: {FEWEST_ROWS} or more")
    share = rows / len(DIGITS)
    low, high = FEWEST_OF_A_DIGIT * share, MOST_OF_A_DIGIT * share
    for digit in DIGITS:
        if not low <= counts[digit] <= high:
            raise Refused(
                f"data: {counts[digit]} of {rows} rows show a {digit}; accepted: {low:.0f} to {high:.0f}, "
                f"{FEWEST_OF_A_DIGIT:g} to {MOST_OF_A_DIGIT:g} times an even share"
            )
    return {"rows": rows, "digits": {str(digit): counts[digit] for digit in DIGITS}}


def _digits(lines: Iterator[list[str]]) -> Iterator[int]:
    """The digit of each row, each row checked."""
    header = next(lines, [])
    if header != list(COLUMNS):
        given = f"{len(header)} columns, {', '.join(header[:3])}, ..." if header else "an empty file"
        raise Refused(f"data: {given}; accepted: {len(COLUMNS)} columns, {COLUMNS[0]} to {COLUMNS[-2]}, {COLUMNS[-1]}")
    for number, row in enumerate(lines, start=2):
        if len(row) != len(COLUMNS):
            raise Refused(f"data: line {number} has {len(row)} values; accepted: {len(COLUMNS)}")
        for column, value in zip(COLUMNS[:-1], row[:-1], strict=True):
            _integer(value, BRIGHTEST, number, column)
        yield _integer(row[-1], DIGITS[-1], number, COLUMNS[-1])


def _integer(value: str, most: int, line: int, column: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 2 and int(value) <= most):
        raise Refused(f"data: line {line}, {column}: {value[:40]!r}; accepted: a whole number from 0 to {most}")
    return int(value)


if __name__ == "__main__":
    main()
