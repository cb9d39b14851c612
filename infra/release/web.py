"""The page of `kiban status --web`: one file, readable on a phone, that needs no server, no script and no network."""

import datetime as dt
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from infra import git, target
from infra.errors import KibanError
from infra.release import releases, values, view
from infra.release.entry import Begun, Ended, Entry, Hold, Verdict, read_time
from infra.release.view import Standing

_ENTRIES = 20
"""How many entries of a record are on the page, the last ones."""
_RELEASES = 12
"""How many releases are, the newest ones; others that run somewhere, or come next, are beside them."""


def page(root: Path, standings: Sequence[Standing], now: dt.datetime) -> str:
    """The page. Raises BadInput for an environment that cannot be read."""
    environment = jinja2.Environment(
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"time": _time, "iso": _iso, "value": _value, "line": view.line}
    template = environment.from_string(files(__package__).joinpath("status.html.j2").read_text())
    shown = {each["id"]: each for each in _releases(root, standings)}
    return template.render(
        made=now,
        rungs=[_rung(each, shown) for each in standings],
        releases=list(shown.values()),
        kept=len(releases.ids(root)),
        pairs=[_pair(each.rung.after, each.rung.environment) for each in standings if each.rung.after],
    )


def _rung(standing: Standing, shown: Mapping[str, Any]) -> dict[str, Any]:
    entries = standing.entries
    return {
        "name": standing.rung.environment,
        "after": standing.rung.after,
        "standing": standing,
        "state": _state(standing),
        "runs": shown.get(standing.runs.id) if standing.runs else None,
        "bypassed": _bypassed(standing),
        "looked": not standing.rung.gates.undrifted,
        "waits": {each.gate: read_time(at) for each in standing.blocked_by if (at := each.ground.get("passes"))},
        "entries": [{"entry": entry, **_marked(entry)} for entry in reversed(entries[-_ENTRIES:])],
        "earlier": max(0, len(entries) - _ENTRIES),
    }


def _bypassed(standing: Standing) -> list[Verdict]:
    """The gates that what runs has come in past."""
    match standing.since:
        case Entry(what=Ended(begun=number)):
            began = standing.entries[number - 1].what
            return [each for each in began.gates if each.outcome == "bypassed"] if isinstance(began, Begun) else []
    return []


def _state(standing: Standing) -> tuple[str, str]:
    """How an environment stands in two words or three, and in which colour."""
    if standing.under_way:
        return "under way", "wait"
    if standing.entries and not standing.since and any(isinstance(each.what, Ended) for each in standing.entries):
        return "not verified" if standing.runs else "nothing whole", "bad"
    if standing.held:
        return "held", "wait"
    if standing.next:
        return ("next is blocked", "wait") if standing.blocked_by else ("next may come", "good")
    return ("up to date", "good") if standing.since else ("nothing yet", "")


def _marked(entry: Entry) -> dict[str, str]:
    """The word that an entry is marked by, and its colour."""
    match entry.what:
        case Begun(gates=gates) if any(each.outcome == "bypassed" for each in gates):
            return {"word": "bypass", "colour": "bad"}
        case Begun(verb="rollback"):
            return {"word": "rollback", "colour": "bad"}
        case Begun():
            return {"word": "promote", "colour": ""}
        case Ended(outcome=outcome):
            return {"word": outcome, "colour": "good" if outcome == "verified" else "bad"}
        case Hold():
            return {"word": "hold", "colour": "wait"}
    return {"word": entry.kind, "colour": ""}


def _releases(root: Path, standings: Sequence[Standing]) -> Iterator[dict[str, Any]]:
    """The newest releases and those in use, the newest first, with what git knows of their commits."""
    runs = {each.rung.environment: each.runs.id for each in standings if each.runs}
    ids = releases.ids(root)
    shown = sorted({*ids[-_RELEASES:], *runs.values(), *(each.next.id for each in standings if each.next)} & {*ids})
    found: dict[str, str] = {}
    wrong: dict[str, str] = {}
    for each in shown:
        try:
            found[each] = releases.read(root, each).commit
        except KibanError as error:  # one that was changed is no reason not to show where the others are
            wrong[each] = str(error)
    commits = _commits(root, found.values())
    for each in reversed(shown):
        at, author, subject = commits.get(found.get(each, ""), ("", "", ""))
        yield {
            "id": each,
            "commit": found.get(each, "")[:12],
            "at": at and dt.datetime.fromisoformat(at),
            "author": author,
            "subject": subject,
            "wrong": wrong.get(each),
            "runs": [environment for environment, release in runs.items() if release == each],
        }


def _commits(root: Path, commits: Collection[str]) -> dict[str, tuple[str, str, str]]:
    """Date, author and subject of those of the commits that this clone has."""
    words = ("log", "--no-walk=unsorted", "--ignore-missing", "--format=%H%x00%cI%x00%an%x00%s", *commits, "--")
    said = git.answer(root, *words) if commits else None
    lines = [line.split("\0") for line in (said or "").splitlines()]
    return {commit: (at, author, subject) for commit, at, author, subject in lines}


def _pair(lower: str, upper: str) -> dict[str, Any]:
    found = values.differences(target.environment(lower), target.environment(upper))
    return {"lower": lower, "upper": upper, "rows": found}


def _time(at: dt.datetime) -> str:
    return f"{at.astimezone(dt.UTC):%a %Y-%m-%d %H:%M} UTC"


def _iso(at: dt.datetime) -> str:
    return at.astimezone(dt.UTC).isoformat()


def _value(value: object) -> str:
    """A value in short: of a pool or team that the other side lacks, what is said of it."""
    match value:
        case bool():
            return "yes" if value else "no"
        case dict() if value:
            return ", ".join(f"{key} {_value(each)}" for key, each in value.items() if each not in (None, [], {}))
        case list() if value:
            return ", ".join(map(_value, value))
        case None | list() | dict():
            return "none"
    return str(value)
