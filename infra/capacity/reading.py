"""Usage, read from an environment's data or from the objects of a cluster."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from components._labels import POOL, SIMULATED
from components.tenancy import cluster_queue, cohort
from infra import status
from infra.capacity.usage import Held, Key, Queue, Usage
from infra.errors import BadInput
from infra.quantities import amount
from stacks._schema import Environment

Object = Mapping[str, Any]
_SCALE = {"cpu": Fraction(1000), "memory": Fraction(1, 1 << 20)}
"""To the units of Sums."""


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
