"""The page of `kiban status --web`: one file, readable on a phone, that needs no server and asks nobody."""

import datetime as dt
import itertools
from collections.abc import Sequence
from importlib.resources import files

import jinja2

import stacks
from infra.release import values, view
from infra.release.entry import Begun, Ended, Entry, Hold, written
from infra.release.view import Standing

_SHOWN = 20
"""How many entries of a record are on the page, the last ones."""


def page(standings: Sequence[Standing], releases: int, now: dt.datetime) -> str:
    """The page. releases: how many there are."""
    environment = jinja2.Environment(
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.from_string(files(__package__).joinpath("status.html.j2").read_text())
    return template.render(
        made=written(now),
        rungs=[_rung(each) for each in standings],
        differences=[_different(lower, upper) for lower, upper in itertools.pairwise(standings)],
        releases=releases,
    )


def _rung(standing: Standing) -> dict[str, object]:
    return {
        "environment": standing.rung.environment,
        "release": standing.runs and standing.runs.id,
        "mood": "good" if standing.since else "wait" if standing.under_way or not standing.entries else "bad",
        "says": standing.says,
        "next": standing.next and standing.next.id,
        "blocked_by": standing.blocked_by,
        "history": [_entry(entry) for entry in reversed(standing.entries[-_SHOWN:])],
    }


def _entry(entry: Entry) -> dict[str, object]:
    return {
        "number": entry.number,
        "at": written(entry.at).replace("T", " ").removesuffix("Z"),
        "by": entry.by.name,
        "says": view.line(entry),
        "mood": _mood(entry),
    }


def _mood(entry: Entry) -> str:
    match entry.what:
        case Ended(outcome="verified"):
            return "good"
        case Ended():
            return "bad"
        case Begun() as what if any(each.outcome == "bypassed" for each in what.gates):
            return "bad"
        case Hold():
            return "wait"
    return ""


def _different(lower: Standing, upper: Standing) -> dict[str, object]:
    left, right = lower.rung.environment, upper.rung.environment
    found = values.differences(*(values.flat(stacks.load(name)) for name in (left, right)))
    return {"left": left, "right": right, "rows": found}
