"""What the pools have, and what of it is each team's, in use, lent and idle."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from components._pools import SYSTEM_POOL, shares
from infra.capacity.usage import NONE, Usage
from stacks._schema import Environment


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
                    "guaranteed": _shown(resource, usage.queues[team.name].own.get(key, NONE)),
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
    cores = value / 1000 if resource == "cpu" else value
    return int(cores) if cores.denominator == 1 else round(float(cores), 3)
