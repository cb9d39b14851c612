"""Reads stacks/ladder.yaml: which environment a release reaches after which, and what it must pass to get there.

Whether it passes is decided in gates.py. Errors name the line. How the file is written: docs/reference/ladder.md.
"""

import dataclasses as dc
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import yaml

from infra.errors import BadInput
from infra.versions import LADDER

GATES = ("signed", "age", "below", "soak", "rehearsed", "drift", "approvals", "freeze", "hold")
"""Every gate, in the order in which they are judged: first what cannot change, last what passes by waiting."""
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_Node = yaml.Node
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_DURATION = re.compile(r"([1-9]\d{0,4})([mhd])")
_CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_DATE = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?")
_TEXT = re.compile(r"\S.*")
_PRINCIPAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]*")
_ADJOINING = 1000
"""So many freezes, one at the end of the other, do not end."""


@dc.dataclass(frozen=True, kw_only=True)
class Approvals:
    """How many must sign a release. of: who may, of stacks/signers; empty: all. not_author: but not who wrote it."""

    count: int
    of: tuple[str, ...] = ()
    not_author: bool = False


@dc.dataclass(frozen=True, kw_only=True)
class Weekly:
    """A freeze of each week. windows: the weekday it begins on (0 is Monday), and how many days later it ends."""

    windows: tuple[tuple[int, int], ...]
    begins: time
    ends: time
    zone: ZoneInfo
    why: str

    def spans(self, around: datetime) -> Iterator[tuple[datetime, datetime]]:
        """From when until when it holds, in UTC, of the windows that began in the eight days before."""
        today = around.astimezone(self.zone).date()
        for day in (today - timedelta(days=back) for back in range(9)):
            for weekday, days in self.windows:
                if day.weekday() == weekday:
                    yield _span(_at(day, self.begins), _at(day + timedelta(days=days), self.ends), self.zone)


@dc.dataclass(frozen=True, kw_only=True)
class Dated:
    """A freeze that happens once. begins, ends: on the zone's clocks."""

    begins: datetime
    ends: datetime
    zone: ZoneInfo
    why: str

    def spans(self, _around: datetime) -> Iterator[tuple[datetime, datetime]]:
        """From when until when it holds, in UTC."""
        yield _span(self.begins, self.ends, self.zone)


Freeze = Weekly | Dated


@dc.dataclass(frozen=True, kw_only=True)
class Gates:
    """What a release must pass. None, False and empty: off."""

    soak: timedelta | None = None
    rehearsed: bool = False
    undrifted: bool = False
    approvals: Approvals | None = None
    freezes: tuple[Freeze, ...] = ()
    max_age: timedelta | None = None
    signed: bool = False


@dc.dataclass(frozen=True, kw_only=True)
class Rung:
    """An environment on the ladder. after: the one below; None for the lowest. not_bypassable: names of GATES.

    watch: for how long after a release came in no new alert may fire.
    """

    environment: str
    after: str | None
    gates: Gates
    not_bypassable: tuple[str, ...] = ()
    watch: timedelta = timedelta()

    @property
    def zone(self) -> ZoneInfo:
        """In which its people are told times: that of its first freeze, else UTC."""
        return self.gates.freezes[0].zone if self.gates.freezes else ZoneInfo("UTC")


@dc.dataclass(frozen=True, kw_only=True)
class Ladder:
    """The rungs, each behind the one it comes after. An environment that has none is free."""

    rungs: tuple[Rung, ...]

    def rung(self, environment: str) -> Rung | None:
        """The environment's rung; None where it has none."""
        return next((rung for rung in self.rungs if rung.environment == environment), None)


def load(file: Path, environments: Collection[str]) -> Ladder:
    """The ladder in a file; stacks/signers is read beside it. environments: those that there are.

    Raises BadInput, in one line with the file's line, for what is no ladder.
    """
    read = _Reader(file)
    rungs: dict[str, tuple[_Node, Rung]] = {}
    people = principals(file.with_name("signers"))
    for node in read.list(read.fields(read.root(), "the ladder", ("rungs",))["rungs"], "rungs"):
        rung = _rung(read, node, environments, people)
        if rung.environment in rungs:
            raise read.error(node, f"{rung.environment} for the second time; accepted: once")
        rungs[rung.environment] = node, rung
    return Ladder(rungs=tuple(_ordered(read, rungs)))


def rung_of(root: Path, environment: str, environments: Collection[str]) -> Rung:
    """The environment's rung in a repository. Raises BadInput where it has none, and as `load` does."""
    found = load(root / LADDER, environments)
    if rung := found.rung(environment):
        return rung
    names = ", ".join(each.environment for each in found.rungs)
    raise BadInput(f"{environment}: it is on no rung of {LADDER}; accepted: {names}")


def principals(signers: Path) -> tuple[str, ...]:
    """Who stands in a file of OpenSSH's allowed_signers format, each once; none where there is no file.

    Raises BadInput for patterns and lists, which OpenSSH accepts: a signature would then not say by whom it is.
    """
    found: dict[str, None] = {}
    for number, line in enumerate(signers.read_text().splitlines() if signers.exists() else (), 1):
        if line.strip() and not line.startswith("#"):
            principal = line.split()[0]
            if not _PRINCIPAL.fullmatch(principal):
                raise BadInput(
                    f"{_named(signers)}:{number}: {principal!r}; accepted: one address, without * and commas"
                )
            found[principal] = None
    return tuple(found)


def frozen(freezes: Iterable[Freeze], at: datetime) -> tuple[Freeze, datetime, datetime] | None:
    """Of the freezes that hold at a time the one that ends last, with its beginning and end in UTC."""
    held = [(freeze, *span) for freeze in freezes for span in freeze.spans(at) if span[0] <= at < span[1]]
    return max(held, key=lambda each: each[2], default=None)


def thawed(freezes: Sequence[Freeze], at: datetime) -> datetime | None:
    """The first time from a given one at which no freeze holds, in UTC; None where they never end."""
    until = at.astimezone(UTC)
    for _ in range(_ADJOINING):
        found = frozen(freezes, until)
        if not found:
            return until
        until = found[2]
    return None


def _span(begins: datetime, ends: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Where clocks are changed, a time that happens twice, or never, is taken so that the span is the longer."""
    return min(_both(begins, zone)), max(_both(ends, zone))


def _both(local: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    first, second = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    return first, second


def _at(day: date, clock: time) -> datetime:
    return datetime.combine(day, clock)


class _Reader:
    """A YAML file by its nodes: each has a line, and its text is as written (16:00 is 960 to YAML 1.1)."""

    def __init__(self, file: Path) -> None:
        self._name = _named(file)
        self._file = file

    def root(self) -> _Node:
        try:
            node = yaml.compose(self._file.read_text(), Loader=yaml.SafeLoader)
        except FileNotFoundError:
            raise BadInput(f"{self._name} is not there; accepted: a ladder (docs/reference/ladder.md)") from None
        except yaml.MarkedYAMLError as error:
            at = error.problem_mark.line + 1 if error.problem_mark else 0
            raise BadInput(f"{self._name}:{at}: {error.problem}") from None
        if node is None:
            raise BadInput(f"{self._name}:1: it is empty; accepted: rungs: […]")
        return node

    def error(self, node: _Node, message: str) -> BadInput:
        return BadInput(f"{self._name}:{node.start_mark.line + 1}: {message}")

    def fields(
        self, node: _Node, what: str, required: Collection[str], optional: Collection[str] = ()
    ) -> dict[str, _Node]:
        accepted = ", ".join((*required, *optional))
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, f"{what}; accepted: {{{accepted}}}")
        found: dict[str, _Node] = {}
        for key, value in node.value:
            if key.value not in {*required, *optional}:
                raise self.error(key, f"{what}: {key.value}; accepted: {accepted}")
            if key.value in found:
                raise self.error(key, f"{what}: {key.value} for the second time; accepted: once")
            found[key.value] = value
        for name in required:
            if name not in found:
                raise self.error(node, f"{what}: {name} is missing; accepted: {accepted}")
        return found

    def list(self, node: _Node, what: str) -> Sequence[_Node]:
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise self.error(node, f"{what}; accepted: a list with something in it")
        found: Sequence[_Node] = node.value
        return found

    def text(self, node: _Node, what: str, accepted: str, pattern: re.Pattern[str] = _TEXT) -> str:
        if not isinstance(node, yaml.ScalarNode) or not pattern.fullmatch(node.value):
            raise self.error(node, f"{what}: {getattr(node, 'value', '')!r}; accepted: {accepted}")
        return str(node.value)

    def one_of(self, node: _Node, what: str, accepted: Collection[str]) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.value not in accepted:
            given = f"{node.value!r}" if isinstance(node, yaml.ScalarNode) else "no text"
            raise self.error(node, f"{what}: {given}; accepted: {', '.join(accepted)}")
        return str(node.value)

    def duration(self, node: _Node, what: str) -> timedelta:
        found = self.text(node, what, "a number from 1 with m, h or d (24h)", _DURATION)
        return int(found[:-1]) * _UNITS[found[-1]]


def _rung(read: _Reader, node: _Node, environments: Collection[str], people: Sequence[str]) -> Rung:
    fields = read.fields(node, "a rung", ("environment", "gates"), ("after", "not_bypassable", "watch"))
    environment = read.one_of(fields["environment"], "environment", environments)
    gates, below = fields["gates"], fields.get("after")
    watch = fields.get("watch")
    fast = read.list(fields["not_bypassable"], "not_bypassable") if "not_bypassable" in fields else ()
    return Rung(
        environment=environment,
        after=read.text(below, f"{environment}: after", "the environment below") if below else None,
        gates=_gates(read, gates, environment, people),
        not_bypassable=tuple(read.one_of(each, f"{environment}: not_bypassable", GATES) for each in fast),
        watch=read.duration(watch, f"{environment}: watch") if watch else timedelta(),
    )


def _gates(read: _Reader, node: _Node, environment: str, people: Sequence[str]) -> Gates:
    what = f"{environment}: gates"
    if isinstance(node, yaml.ScalarNode) and not node.value:
        raise read.error(node, f"{what} is empty; accepted: {{}} where there are to be none")
    keys = ("soak", "rehearsed", "drift", "approvals", "freeze", "max_age", "signed")
    fields = read.fields(node, what, (), keys)
    soak, age, freeze, approvals = (fields.get(key) for key in ("soak", "max_age", "freeze", "approvals"))
    if "drift" in fields:
        read.one_of(fields["drift"], f"{environment}: drift", ("none",))
    return Gates(
        soak=read.duration(soak, f"{environment}: soak") if soak else None,
        rehearsed=_asked(read, fields, "rehearsed"),
        undrifted="drift" in fields,
        approvals=_approvals(read, approvals, environment, people) if approvals else None,
        freezes=_freezes(read, freeze, environment) if freeze else (),
        max_age=read.duration(age, f"{environment}: max_age") if age else None,
        signed=_asked(read, fields, "signed"),
    )


def _asked(read: _Reader, fields: Mapping[str, _Node], name: str) -> bool:
    return name in fields and read.one_of(fields[name], name, ("true", "false")) == "true"


def _approvals(read: _Reader, node: _Node, environment: str, people: Sequence[str]) -> Approvals:
    what = f"{environment}: approvals"
    fields = read.fields(node, what, ("count",), ("from", "not_author"))
    count = int(read.text(fields["count"], f"{what}: count", "a number from 1", re.compile(r"[1-9]\d?")))
    named = read.list(fields["from"], f"{what}: from") if "from" in fields else ()
    of = []
    for each in named:
        name = read.text(each, f"{what}: from", "a principal of stacks/signers")
        if name not in people:
            known = ", ".join(people) or "there is none"
            raise read.error(each, f"{what}: {name} is not in stacks/signers; accepted: {known}")
        of.append(name)
    if named and count > len(set(of)):
        raise read.error(
            fields["count"], f"{what}: count={count} of {len(set(of))}; accepted: no more than `from` names"
        )
    return Approvals(count=count, of=tuple(dict.fromkeys(of)), not_author=_asked(read, fields, "not_author"))


def _freezes(read: _Reader, node: _Node, environment: str) -> tuple[Freeze, ...]:
    found: list[Freeze] = []
    for each in read.list(node, f"{environment}: freeze"):
        found.append(_freeze(read, each, f"{environment}: freeze"))
        weekly = [freeze for freeze in found if isinstance(freeze, Weekly)]
        if thawed(weekly, datetime(2026, 1, 1, tzinfo=UTC)) is None:  # neither by winter's clocks nor by summer's
            raise read.error(
                each, f"{environment}: freeze that never ends; accepted: one that leaves a time in the week"
            )
    return tuple(found)


def _freeze(read: _Reader, node: _Node, what: str) -> Freeze:
    fields = read.fields(node, what, ("from", "until", "zone", "why"), ("days",))
    why = read.text(fields["why"], f"{what}: why", "a text")
    zone = _zone(read, fields["zone"], what)
    if "days" not in fields:
        begins, ends = (_local(read, fields[key], f"{what}: {key}") for key in ("from", "until"))
        if ends <= begins:
            raise read.error(fields["until"], f"{what}: it ends before it begins; accepted: a later `until`")
        return Dated(begins=begins, ends=ends, zone=zone, why=why)
    begin, end = (
        time.fromisoformat(read.text(fields[key], f"{what}: {key}", "HH:MM, as 16:00", _CLOCK))
        for key in ("from", "until")
    )
    days = {DAYS.index(read.one_of(each, f"{what}: days", DAYS)) for each in read.list(fields["days"], f"{what}: days")}
    return Weekly(windows=_windows(days, overnight=end <= begin), begins=begin, ends=end, zone=zone, why=why)


def _windows(days: Collection[int], *, overnight: bool) -> tuple[tuple[int, int], ...]:
    """Within a day each is a window of its own; over midnight, days that follow each other are one window together."""
    if not overnight:
        return tuple((day, 0) for day in sorted(days))
    if len(days) == len(DAYS):
        return ((0, len(DAYS) + 1),)
    first = [day for day in sorted(days) if (day - 1) % 7 not in days]
    return tuple((day, next(more for more in range(1, 7) if (day + more) % 7 not in days)) for day in first)


def _zone(read: _Reader, node: _Node, what: str) -> ZoneInfo:
    name = read.text(node, f"{what}: zone", "Europe/Berlin, say")
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # a folder of zones, no path, not there
        raise read.error(
            node, f"{what}: zone {name!r}; accepted: one that this machine knows, as Europe/Berlin"
        ) from None


def _local(read: _Reader, node: _Node, what: str) -> datetime:
    text = read.text(node, what, "2026-12-20T00:00, or HH:MM together with `days`", _DATE)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise read.error(node, f"{what}: {text!r}; accepted: a date that there is, as 2026-12-20T00:00") from None


def _ordered(read: _Reader, rungs: Mapping[str, tuple[_Node, Rung]]) -> list[Rung]:
    """Each behind the one below; otherwise as in the file."""
    for node, rung in rungs.values():
        if rung.after is not None and rung.after not in rungs:
            raise read.error(node, f"{rung.environment}: after {rung.after!r}; accepted: a rung ({', '.join(rungs)})")
    for node, rung in rungs.values():
        way = [rung.environment]
        while (below := rungs[way[-1]][1].after) and below not in way:
            way.append(below)
        if below:
            circle = " → ".join(reversed([*way[way.index(below) :], below]))
            raise read.error(node, f"{circle}; accepted: a ladder that begins somewhere")
    lowest = [(node, rung.environment) for node, rung in rungs.values() if rung.after is None]
    if len(lowest) > 1:
        names = ", ".join(name for _, name in lowest)
        raise read.error(lowest[1][0], f"{names}: each without `after`; accepted: one lowest rung")
    ordered: list[Rung] = []
    while len(ordered) < len(rungs):
        there = {None, *(rung.environment for rung in ordered)}
        ordered += [rung for _, rung in rungs.values() if rung not in ordered and rung.after in there]
    return ordered


def _named(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"
