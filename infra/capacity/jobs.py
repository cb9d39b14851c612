"""Whether a team could ever run a Job of a given size, and what would become of one that it submitted now."""

import dataclasses as dc
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from components import _shapes
from components._shapes import JobShape, Place
from infra.capacity.preemption import lacking, victims
from infra.capacity.usage import NONE, Sums, Usage
from infra.errors import BadInput
from stacks._schema import Environment

_TOLD = 5
_FIELDS = tuple(field.name for field in dc.fields(JobShape) if field.name != "name")


def parse(text: str) -> tuple[JobShape, str | None]:
    """A Job as the command line has it, `gpus=8,pods=4,cpu=4,memory=16Gi`, and its PriorityClass (`priority=NAME`).

    Raises BadInput naming what was given and what is accepted.
    """
    fields: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals or name not in (*_FIELDS, "priority") or name in fields:
            accepted = ", ".join(f"{each}=" for each in (*_FIELDS, "priority"))
            raise BadInput(f"--job {text!r}: {part!r}; accepted: each of {accepted} at most once")
        fields[name] = value
    priority = fields.pop("priority", None)
    for name in ("pods", "gpus"):
        if not fields.get(name, "1").isdecimal():
            raise BadInput(f"--job {text!r}: {name}={fields[name]!r}; accepted: a number")
    try:
        fields |= {name: int(fields[name]) for name in ("pods", "gpus") if name in fields}
        return JobShape(name="job", **fields), priority
    except ValueError as error:
        raise BadInput(f"--job {text!r}: {error}") from None


def job_items(
    environment: Environment, usage: Usage, shape: JobShape, *, teams: Sequence[str], priority: int
) -> list[dict[str, Any]]:
    """An item a team: whether it could ever run such a Job, and what would become of one that it submitted now."""
    args = environment.tenancy
    named = {team.name: team for team in args.teams}
    return [_job(shape, team, args.places(named[team]), usage, priority) for team in teams]


def _job(shape: JobShape, team: str, places: Sequence[Place], usage: Usage, priority: int) -> dict[str, Any]:
    where = [each for each in _shapes.candidates(shape, places) if _shapes.fits(shape, each)]
    item: dict[str, Any] = {"job": text(shape), "of": team, "ever": [each.name for each in where]}
    item |= {"evidence": usage.evidence} if usage.evidence else {}
    try:
        _shapes.check(shape, places, who=team)
    except ValueError as error:
        return item | {"now": "refused", "why": [str(error).removeprefix(f"{team}: ")]}
    if usage.evidence is None:
        return item | {"now": "unknown", "why": ["no cluster says what is in use"]}
    there = {each.name: each for each in where}
    asked = {
        name: {(name, resource): Fraction(one * shape.pods) for resource, one in _shapes.asks(shape, each).items()}
        for name, each in there.items()
    }
    ahead = sum(each >= priority for each in usage.waiting.get(team, ()))
    before = [f"behind {ahead} workloads of the team that wait with that priority or a higher one"] if ahead else []
    order = [flavor for flavor in usage.queues[team].flavors if flavor in asked]
    for flavor in order:
        if not lacking(usage, team, asked[flavor]):
            left = _room(usage, shape, there[flavor])
            # of a topology Kueue knows the nodes
            full = "waits" if there[flavor].levels else "admitted, waits for nodes"
            return item | {"now": full if left else "admitted", "into": flavor, "why": before + left}
    for flavor in order:
        ends = victims(usage, team, asked[flavor], priority)
        if ends:
            why = [f"ends {one.name} of team {one.queue!r} (priority {one.priority})" for one in ends]
            return item | {"now": "admitted once others have ended", "into": flavor, "why": before + why}
    lines = [line for flavor in order for line in _wanting(usage, team, asked[flavor])]
    return item | {"now": "waits", "why": before + lines}


def text(shape: JobShape) -> str:
    """The shape as `parse` takes it."""
    given = {name: getattr(shape, name) for name in _FIELDS}
    return ",".join(f"{name}={value}" for name, value in given.items() if value)


def _wanting(usage: Usage, queue: str, asked: Sums) -> Iterator[str]:
    """A line a resource that a flavor lacks: how much, and whose workloads hold it."""
    for (flavor, resource), missing in lacking(usage, queue, asked).items():
        key = flavor, resource
        holding = sorted((each for each in usage.held if each.holds.get(key)), key=lambda each: -each.holds[key])
        whose = ", ".join(f"{each.name} {_amount(resource, each.holds[key])}" for each in holding[:_TOLD])
        more = f" and {len(holding) - _TOLD} more" if len(holding) > _TOLD else ""
        limit = usage.queues[queue].limits.get(key)
        own = _amount(resource, usage.queues[queue].own.get(key, NONE))
        borrows = f", {_amount(resource, limit)} more at most" if limit is not None else ""
        yield (
            f"{flavor} lacks {_amount(resource, missing)} {resource} (the team's own {own}{borrows}); "
            f"held by {whose + more or 'nobody: it is not lent'}"
        )


def _room(usage: Usage, shape: JobShape, there: Place) -> list[str]:
    """A line where the nodes, as full as they are, have no room for all pods: then some wait for others to end."""
    asks = _shapes.asks(shape, there)
    of_each = [
        min(max(0, int(node.get(resource, NONE) // one)) for resource, one in asks.items())
        for node in usage.free.get(there.name, ())
    ]
    if sum(of_each) >= shape.pods:
        return []
    more = f", or until there are more than {len(of_each)} nodes" if len(of_each) < there.nodes else ""
    room = f"its nodes have room for {sum(of_each)} of {shape.pods} pods"
    return [f"{room}: the others wait until pods there have ended{more}"]


def _amount(resource: str, value: Fraction) -> str:
    match resource:
        case "cpu":
            return f"{float(value / 1000):g}"
        case "memory":
            return f"{float(value / 1024):g}Gi"
        case _:
            return f"{float(value):g}"
