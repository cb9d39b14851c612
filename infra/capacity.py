"""What each team can get of the pools, what of it is in use, and what a Job of a given size would wait for and why.

Computed from an environment's data and, where there is a cluster, from what Kueue and the nodes say there; nothing is
read or changed here. How Kueue decides: pkg/scheduler of its 0.19, flavorassigner and the classical preemption.
"""

import dataclasses as dc
import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from components import _shapes
from components._labels import POOL, SIMULATED
from components._pools import SYSTEM_POOL, shares
from components._shapes import JobShape, Place
from components.tenancy import cluster_queue, cohort
from infra import status
from infra.errors import BadInput
from infra.quantities import amount
from stacks._schema import Environment

Object = Mapping[str, Any]
Key = tuple[str, str]
"""A flavor and a resource."""
Sums = Mapping[Key, Fraction]
"""How much: thousandths of a core, MiB, devices."""
_NONE = Fraction(0)
_SCALE = {"cpu": Fraction(1000), "memory": Fraction(1, 1 << 20)}
_TOLD = 5
_FIELDS = tuple(field.name for field in dc.fields(JobShape) if field.name != "name")


@dc.dataclass(frozen=True, kw_only=True)
class Queue:
    """A ClusterQueue. own: what it is promised. limits: how much more it may borrow, where that is bounded.

    flavors: in the order in which Kueue tries them. reclaim, within: whose workloads one of its own may end.
    """

    own: Sums
    limits: Sums
    flavors: tuple[str, ...]
    reclaim: str
    within: str


@dc.dataclass(frozen=True, kw_only=True)
class Held:
    """A workload that has quota: whose, how much of what, since when."""

    name: str
    queue: str
    priority: int
    since: str
    holds: Sums


@dc.dataclass(frozen=True, kw_only=True)
class Usage:
    """Queues by name, what no queue is promised, and who holds what.

    waiting: queue to the priorities of its workloads that have no quota yet.
    free: pool to what each of its nodes has left for pods. evidence: `simulated` where any node is; None: what the data
        say, of no cluster.
    """

    queues: Mapping[str, Queue]
    shared: Sums
    held: tuple[Held, ...] = ()
    waiting: Mapping[str, Sequence[int]] = dc.field(default_factory=dict)
    free: Mapping[str, Sequence[Mapping[str, Fraction]]] = dc.field(default_factory=dict)
    evidence: str | None = None

    @functools.cached_property
    def _sums(self) -> dict[tuple[str | None, Key], Fraction]:
        total: dict[tuple[str | None, Key], Fraction] = defaultdict(Fraction)
        for one in self.held:
            for key, value in one.holds.items():
                total[one.queue, key] += value
                total[None, key] += value
        return dict(total)

    def used(self, key: Key, queue: str | None = None) -> Fraction:
        """What the workloads of a queue, or of all, hold."""
        return self._sums.get((queue, key), _NONE)

    def borrowed(self, key: Key, queue: str) -> Fraction:
        """What the queue's workloads hold beyond its own."""
        return max(_NONE, self.used(key, queue) - self.queues[queue].own.get(key, _NONE))

    def available(self, key: Key, queue: str) -> Fraction:
        """What a workload of the queue could have at once."""
        whole = sum((each.own.get(key, _NONE) for each in self.queues.values()), self.shared.get(key, _NONE))
        of = self.queues[queue]
        left = whole - self.used(key)
        if key in of.limits:
            left = min(left, of.own.get(key, _NONE) + of.limits[key] - self.used(key, queue))
        return left

    def without(self, ended: Sequence[Held]) -> "Usage":
        """The same once those workloads have ended."""
        return dc.replace(self, held=tuple(each for each in self.held if each not in ended))


def empty(environment: Environment) -> Usage:
    """What the data say, nothing being in use. Raises BadInput for an environment without queues."""
    args = environment.tenancy
    if args.queueing is None:
        raise BadInput(f"{environment.name}: it has no queues; accepted: an environment with `queueing`")
    queueing = args.queueing
    return Usage(
        queues={team.name: _queue(cluster_queue(team, args, queueing)) for team in args.teams},
        shared=_quotas(cohort(args, queueing), "nominalQuota"),
    )


def live(objects: Iterable[Object], nodes: Sequence[Object], pods: Sequence[Object]) -> Usage:
    """What a cluster says. objects: its ClusterQueues, Cohorts and Workloads (kueue.x-k8s.io/v1beta2)."""
    of_kind: dict[str, list[Object]] = defaultdict(list)
    for each in objects:
        of_kind[each["kind"]].append(each)
    queues = {each["metadata"]["name"]: _queue(each["spec"]) for each in of_kind["ClusterQueue"]}
    shared: dict[Key, Fraction] = defaultdict(Fraction)
    for each in of_kind["Cohort"]:
        for key, value in _quotas(each["spec"], "nominalQuota").items():
            shared[key] += value
    held, waiting = [], defaultdict(list)
    to_queue = {
        (each["metadata"]["namespace"], each["metadata"]["name"]): each["spec"]["clusterQueue"]
        for each in of_kind["LocalQueue"]
    }
    for each in of_kind["Workload"]:
        conditions = {one["type"]: one["status"] for one in each.get("status", {}).get("conditions", ())}
        if conditions.get("Finished") == "True":
            continue
        if conditions.get("QuotaReserved") == "True":
            held.append(_held(each))
        elif each["spec"].get("active", True):
            queue = to_queue.get((each["metadata"]["namespace"], each["spec"].get("queueName", "")))
            waiting[queue or ""].append(each["spec"].get("priority", 0))
    simulated = any(node["metadata"]["labels"].get(SIMULATED) == "true" for node in nodes)
    return Usage(
        queues=queues,
        shared=shared,
        held=tuple(held),
        waiting=waiting,
        free=_free(nodes, pods),
        evidence="simulated" if simulated else "executed",
    )


def _queue(spec: Object) -> Queue:
    preemption = spec.get("preemption", {})
    return Queue(
        own=_quotas(spec, "nominalQuota"),
        limits=_quotas(spec, "borrowingLimit"),
        flavors=tuple(each["name"] for group in spec["resourceGroups"] for each in group["flavors"]),
        reclaim=preemption.get("reclaimWithinCohort", "Never"),
        within=preemption.get("withinClusterQueue", "Never"),
    )


def _quotas(spec: Object, field: str) -> dict[Key, Fraction]:
    return {
        (flavor["name"], each["name"]): _scaled(each["name"], each[field])
        for group in spec.get("resourceGroups") or ()
        for flavor in group["flavors"]
        for each in flavor["resources"]
        if field in each
    }


def _scaled(resource: str, quantity: object) -> Fraction:
    return amount(quantity) * _SCALE.get(resource, Fraction(1))


def _held(workload: Object) -> Held:
    admission = workload["status"]["admission"]
    holds: dict[Key, Fraction] = defaultdict(Fraction)
    for pods in admission["podSetAssignments"]:
        for resource, flavor in pods.get("flavors", {}).items():
            holds[flavor, resource] += _scaled(resource, pods.get("resourceUsage", {}).get(resource, 0))
    reserved = next(each for each in workload["status"]["conditions"] if each["type"] == "QuotaReserved")
    return Held(
        name=status.owner(workload),
        queue=admission["clusterQueue"],
        priority=workload["spec"].get("priority", 0),
        since=reserved["lastTransitionTime"],
        holds=holds,
    )


def _free(nodes: Sequence[Object], pods: Sequence[Object]) -> dict[str, list[dict[str, Fraction]]]:
    taken: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for pod in pods:
        if pod["spec"].get("nodeName") and pod["status"].get("phase") not in ("Succeeded", "Failed"):
            for resource, value in _requested(pod["spec"]).items():
                taken[pod["spec"]["nodeName"], resource] += value
    free: dict[str, list[dict[str, Fraction]]] = defaultdict(list)
    for node in nodes:
        name, pool = node["metadata"]["name"], node["metadata"]["labels"].get(POOL)
        if pool is not None and not node["spec"].get("unschedulable"):
            there = node["status"].get("allocatable", {})
            free[pool].append({each: _scaled(each, there[each]) - taken[name, each] for each in there})
    return free


def _requested(spec: Object) -> dict[str, Fraction]:
    """What a pod's containers request, or an init container that needs more before them."""
    total: dict[str, Fraction] = defaultdict(Fraction)
    for container in spec.get("containers", ()):
        for resource, quantity in container.get("resources", {}).get("requests", {}).items():
            total[resource] += _scaled(resource, quantity)
    for container in spec.get("initContainers", ()):
        for resource, quantity in container.get("resources", {}).get("requests", {}).items():
            total[resource] = max(total[resource], _scaled(resource, quantity))
    return total


def pool_items(environment: Environment, usage: Usage) -> list[dict[str, Any]]:
    """An item a pool: what it has at its largest, what of it is promised and, of a cluster, used, lent and idle.

    Costs are by the hour, of the nodes that it always has, of all that it may have, and of what is idle on those that
    are there.
    """
    items = []
    for name, share in shares(environment.gpu_pools).items():
        pool, key = share.pool, (share.pool.name, share.resource)
        item: dict[str, Any] = {
            "pool": name,
            "resource": share.resource,
            "nodes": pool.maximum if pool.nodes is not None else f"{pool.minimum}-{pool.maximum}",
            "per_node": share.units_per_node,
            "capacity": share.units,
            "promised": sum(team.gpus.get(name, 0) for team in environment.teams),
        }
        if usage.evidence:
            there, used = len(usage.free.get(pool.name, ())), int(usage.used(key))
            idle = max(0, there * share.units_per_node - used)
            lent = int(sum(usage.borrowed(key, queue) for queue in usage.queues))
            item |= {"nodes_there": there, "used": used, "lent": lent, "idle": idle, "evidence": usage.evidence}
        if pool.hourly_cost is not None:
            cost = pool.hourly_cost * float(share.part * share.units_per_node)
            item |= {"cost_least": _money(cost * pool.minimum), "cost_most": _money(cost * pool.maximum)}
            if usage.evidence:
                item |= {"cost_idle": _money(cost * item["idle"] / share.units_per_node)}
        items.append(item)
    return items


def team_items(environment: Environment, usage: Usage, teams: Sequence[str]) -> list[dict[str, Any]]:
    """An item a team of these and what it has a part of: what is guaranteed and, of a cluster, used and borrowed.

    cost_guaranteed: by the hour, of the part of the nodes that is the team's own.
    """
    args, offered = environment.tenancy, shares(environment.gpu_pools)
    items = []
    for team in (each for each in environment.teams if each.name in teams):
        for there in args.places(team):
            for share, resource in (there.offers or {SYSTEM_POOL: "cpu"}).items():
                key = there.name, resource
                item: dict[str, Any] = {
                    "team": team.name,
                    "share": share,
                    "resource": resource,
                    "guaranteed": _shown(resource, usage.queues[team.name].own.get(key, _NONE)),
                    "at_most": _shown(resource, Fraction(there.most[resource])),
                }
                if usage.evidence:
                    item |= {
                        "used": _shown(resource, usage.used(key, team.name)),
                        "borrowed": _shown(resource, usage.borrowed(key, team.name)),
                        "pending": len(usage.waiting.get(team.name, ())),
                        "evidence": usage.evidence,
                    }
                part = offered.get(share)
                if part and part.pool.hourly_cost is not None:
                    item["cost_guaranteed"] = _money(part.pool.hourly_cost * float(part.part * item["guaranteed"]))
                items.append(item)
    return items


def _money(value: float) -> float:
    return round(value, 2)


def _shown(resource: str, value: Fraction) -> int | float:
    """In cores or devices."""
    cores = value / _SCALE["cpu"] if resource == "cpu" else value
    return int(cores) if cores.denominator == 1 else round(float(cores), 3)


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


def lacking(usage: Usage, queue: str, asked: Sums) -> dict[Key, Fraction]:
    """What of the asked-for a workload of the queue could not have at once, and how much of it is missing."""
    missing = {key: value - usage.available(key, queue) for key, value in asked.items()}
    return {key: value for key, value in missing.items() if value > 0}


def victims(usage: Usage, queue: str, asked: Sums, priority: int) -> list[Held]:
    """The workloads that Kueue would end for it, by the queue's policies: none where it would wait instead.

    Those of others first, and only while these have more than their own and the queue then has no more than its own;
    of those the ones of the lowest priority, and the latest admitted. Without Kueue's own last resort, the UID.
    """
    need = lacking(usage, queue, asked)
    of = usage.queues[queue]
    if any(asked[key] > of.own.get(key, _NONE) for key in need):
        return []
    under = all(usage.used(key, queue) < of.own.get(key, _NONE) for key in need)
    using = [each for each in usage.held if any(each.holds.get(key) for key in need)]
    theirs = [each for each in using if each.queue != queue and _may_end(of.reclaim, each, priority)] if under else []
    mine = [each for each in using if each.queue == queue and _may_end(of.within, each, priority)]
    for candidates, borrowing in ((_ordered(theirs) + _ordered(mine), False), (_ordered(mine), True)):
        ended: list[Held] = []
        for each in candidates:
            now = usage.without(ended)
            if each.queue != queue and not any(now.borrowed(key, each.queue) for key in need):
                continue
            ended.append(each)
            if _fits(usage.without(ended), queue, asked, borrowing=borrowing):
                return _fewest(usage, queue, asked, ended, borrowing=borrowing)
    return []


def _fewest(usage: Usage, queue: str, asked: Sums, ended: list[Held], *, borrowing: bool) -> list[Held]:
    """Those without which it still would not fit, asked for from the last to the first."""
    for each in reversed(ended[:-1]):
        fewer = [one for one in ended if one is not each]
        if _fits(usage.without(fewer), queue, asked, borrowing=borrowing):
            ended = fewer
    return ended


def _fits(usage: Usage, queue: str, asked: Sums, *, borrowing: bool) -> bool:
    own = usage.queues[queue].own
    within = all(usage.used(key, queue) + value <= own.get(key, _NONE) for key, value in asked.items())
    return (borrowing or within) and not lacking(usage, queue, asked)


def _may_end(policy: str, workload: Held, priority: int) -> bool:
    return policy == "Any" or (policy != "Never" and workload.priority < priority)


def _ordered(workloads: Sequence[Held]) -> list[Held]:
    latest_first = sorted(workloads, key=lambda each: each.since, reverse=True)
    return sorted(latest_first, key=lambda each: each.priority)


def _wanting(usage: Usage, queue: str, asked: Sums) -> Iterator[str]:
    """A line a resource that a flavor lacks: how much, and whose workloads hold it."""
    for (flavor, resource), missing in lacking(usage, queue, asked).items():
        key = flavor, resource
        holding = sorted((each for each in usage.held if each.holds.get(key)), key=lambda each: -each.holds[key])
        whose = ", ".join(f"{each.name} {_amount(resource, each.holds[key])}" for each in holding[:_TOLD])
        more = f" and {len(holding) - _TOLD} more" if len(holding) > _TOLD else ""
        limit = usage.queues[queue].limits.get(key)
        own = _amount(resource, usage.queues[queue].own.get(key, _NONE))
        borrows = f", {_amount(resource, limit)} more at most" if limit is not None else ""
        yield (
            f"{flavor} lacks {_amount(resource, missing)} {resource} (the team's own {own}{borrows}); "
            f"held by {whose + more or 'nobody: it is not lent'}"
        )


def _room(usage: Usage, shape: JobShape, there: Place) -> list[str]:
    """A line where the nodes, as full as they are, have no room for all pods: then some wait for others to end."""
    asks = _shapes.asks(shape, there)
    of_each = [
        min(max(0, int(node.get(resource, _NONE) // one)) for resource, one in asks.items())
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
