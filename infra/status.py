"""What `kiban status` says: pools and how full they are, and for every pod or workload that waits or fails, why.

Reads the live cluster only; whether anything differs from the program is `kiban preview`'s matter.
"""

import dataclasses as dc
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from components._labels import POOL, SIMULATED
from infra.clusters import Cluster
from infra.errors import RunFailed
from infra.kubectl import Kubectl

Object = Mapping[str, Any]
Usage = Counter[tuple[str, str]]
_DEVICES = "nvidia.com/"


@dc.dataclass(frozen=True, kw_only=True)
class Pool:
    """The live nodes that carry one value of the label kiban.dev/pool."""

    name: str
    nodes: tuple[Object, ...]

    def capacity(self, resource: str) -> int:
        """How much of the resource all nodes have together."""
        return sum(_units(node, resource) for node in self.nodes)

    def largest(self, resource: str) -> int:
        """How much of the resource the largest node has."""
        return max((_units(node, resource) for node in self.nodes), default=0)

    def devices(self) -> list[str]:
        """The extended resources of NVIDIA devices that the nodes offer."""
        offered = {name for node in self.nodes for name in node["status"].get("allocatable", {})}
        return sorted(name for name in offered if name.startswith(_DEVICES) and self.capacity(name))


def read(cluster: Cluster) -> tuple[list[Object], list[Object], list[Object]]:
    """The cluster's nodes, pods and warnings."""
    found = Kubectl(cluster.kubeconfig, cluster.context).get("nodes,pods,events", everywhere=True)
    of_kind: dict[str, list[Object]] = {"Node": [], "Pod": [], "Event": []}
    for each in found:
        of_kind[each["kind"]].append(each)
    return of_kind["Node"], of_kind["Pod"], of_kind["Event"]


def workloads(cluster: Cluster) -> list[Object]:
    """Kueue's Workloads; none where the cluster has no Kueue."""
    try:
        return list(Kubectl(cluster.kubeconfig, cluster.context).get("workloads.kueue.x-k8s.io", everywhere=True))
    except RunFailed as failure:
        if "the server doesn't have a resource type" in str(failure):
            return []
        raise


def pools(nodes: Iterable[Object]) -> list[Pool]:
    """The nodes by pool, pools in the order of their names."""
    by_pool: dict[str, list[Object]] = {}
    for node in nodes:
        by_pool.setdefault(node["metadata"]["labels"].get(POOL, "other"), []).append(node)
    return [Pool(name=name, nodes=tuple(members)) for name, members in sorted(by_pool.items())]


def pool_items(nodes: Sequence[Object], pods: Sequence[Object]) -> list[dict[str, Any]]:
    """An item a pool and kind of device: nodes, ready, capacity, requested."""
    taken = usage(pods)
    return [
        {
            "pool": pool.name,
            "nodes": len(pool.nodes),
            "ready": sum(map(_ready, pool.nodes)),
            "resource": resource,
            "capacity": resource and pool.capacity(resource),
            "requested": resource and sum(taken[_name(node), resource] for node in pool.nodes),
            "evidence": "simulated" if any(map(_simulated, pool.nodes)) else "executed",
        }
        for pool in pools(nodes)
        for resource in (*pool.devices(),) or (None,)
    ]


def pending_items(nodes: Sequence[Object], pods: Sequence[Object]) -> list[dict[str, Any]]:
    """An item a pod that no node has taken: what it asks for, why it waits, and the scheduler's own words.

    Not those that the scheduler does not look at yet: what holds them back says so itself (`queued_items`).
    """
    pending = [pod for pod in pods if pod["status"].get("phase") == "Pending" and not pod["spec"].get("nodeName")]
    waiting = [pod for pod in pending if not pod["spec"].get("schedulingGates")]
    taken = usage(pods)
    return [
        {
            "pending": _path(pod),
            "asks": ", ".join(f"{units} {name}" for name, units in sorted(requests(pod).items())) or "no devices",
            "why": why_pending(pod, nodes, taken),
            "source": "scheduler",
            "scheduler": _scheduler_says(pod),
        }
        for pod in waiting
    ]


def queued_items(workloads: Iterable[Object]) -> list[dict[str, Any]]:
    """An item a workload that Kueue has not admitted: what all its pods ask for, and Kueue's own words why."""
    return [
        {"pending": owner(workload), "asks": _all_ask(workload), "why": why_queued(workload), "source": "Kueue"}
        for workload in workloads
        if not any(_condition(workload, kind, "True") for kind in ("Admitted", "Finished"))
    ]


def why_queued(workload: Object) -> str:
    """The message of the condition that keeps the workload: quota first, then checks of its admission."""
    if workload["spec"].get("active") is False:
        return "deactivated"
    for kind in ("QuotaReserved", "Admitted"):
        condition = _condition(workload, kind, "False")
        if condition:
            return str(condition["message"])
    return "waits for Kueue to look at it"


def failing_items(pods: Iterable[Object]) -> list[dict[str, Any]]:
    """An item a pod that has a node and cannot start or stay up there, with the kubelet's words why."""
    found = {_path(pod): _why_failing(pod) for pod in pods}
    return [{"failing": name, "why": why} for name, why in found.items() if why]


def _path(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def _why_failing(pod: Object) -> str | None:
    status = pod["status"]
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = container["state"].get("waiting", {})
        if waiting.get("reason") not in {None, "ContainerCreating", "PodInitializing"}:
            why = waiting.get("message") or container.get("lastState", {}).get("terminated", {}).get("reason", "")
            return f"{container['name']}: {waiting['reason']}: {why}".removesuffix(": ")
    return None


def refused_items(events: Iterable[Object]) -> list[dict[str, Any]]:
    """An item a workload whose pods the API server refuses to create (a quota, an admission rule)."""
    newest_last = sorted(events, key=lambda event: event.get("lastTimestamp") or "")
    refused = {_about(event): event["message"] for event in newest_last if event.get("reason") == "FailedCreate"}
    return [{"refused": name, "why": message} for name, message in refused.items()]


def why_pending(pod: Object, nodes: Sequence[Object], taken: Usage) -> str:
    """One sentence for the first reason that keeps the pod from every node, in the order in which to mend it."""
    candidates = [node for node in nodes if _selected(pod, node)]
    if not candidates:
        selector = ", ".join(f"{key}={value}" for key, value in pod["spec"].get("nodeSelector", {}).items())
        return f"no node has {selector}; pools: {', '.join(pool.name for pool in pools(nodes)) or 'none'}"
    for resource, units in sorted(requests(pod).items()):
        fitting = pools(candidates)
        largest = max(fitting, key=lambda pool: pool.largest(resource))
        if largest.largest(resource) == 0:
            offered = sorted({name for pool in fitting for name in pool.devices()})
            return f"none of its nodes offers {resource}; they offer {', '.join(offered) or 'no devices'}"
        if units > largest.largest(resource):
            return (
                f"asks for {units} {resource} on one node; "
                f"the largest, in pool {largest.name}, has {largest.largest(resource)}"
            )
        candidates = [node for node in candidates if _units(node, resource) >= units]
    tolerated = [node for node in candidates if not _untolerated(pod, node)]
    if not tolerated:
        missing = sorted({taint for node in candidates for taint in _untolerated(pod, node)})
        return f"does not tolerate {', '.join(missing)}"
    for resource in sorted(requests(pod)):
        free = max(_units(node, resource) - taken[_name(node), resource] for node in tolerated)
        return f"waits for room: at most {free} {resource} are free on one node"
    return "waits for room"


def usage(pods: Iterable[Object]) -> Usage:
    """What the pods that are not finished hold of each device on each node, by (node, resource)."""
    taken: Usage = Counter()
    for pod in pods:
        if pod["spec"].get("nodeName") and not _finished(pod):
            taken.update({(pod["spec"]["nodeName"], name): units for name, units in requests(pod).items()})
    return taken


def requests(pod: Object) -> dict[str, int]:
    """What the pod's containers ask for of NVIDIA devices (init containers run before, so the larger counts)."""
    spec = pod["spec"]
    running = _sum_devices(spec.get("containers", []))
    for container in spec.get("initContainers", []):
        for name, units in _sum_devices([container]).items():
            running[name] = max(running.get(name, 0), units)
    return running


def _all_ask(workload: Object) -> str:
    total: Counter[str] = Counter()
    for pods in workload["spec"]["podSets"]:
        of_one = requests(pods["template"])
        total.update({name: units * pods.get("count", 1) for name, units in of_one.items()})
    return ", ".join(f"{units} {name}" for name, units in sorted(total.items())) or "no devices"


def owner(workload: Object) -> str:
    """What the workload is made of (a Job, say), or itself where nothing owns it."""
    metadata = workload["metadata"]
    owner = next(iter(metadata.get("ownerReferences", [])), {"kind": "Workload", "name": metadata["name"]})
    return f"{owner['kind']} {metadata['namespace']}/{owner['name']}"


def _condition(workload: Object, kind: str, status: str) -> Object | None:
    conditions = workload.get("status", {}).get("conditions", [])
    return next((each for each in conditions if (each["type"], each["status"]) == (kind, status)), None)


def _about(event: Object) -> str:
    about = event["involvedObject"]
    return f"{about['kind']} {about.get('namespace')}/{about['name']}"


def _sum_devices(containers: Iterable[Object]) -> dict[str, int]:
    total: dict[str, int] = {}
    for container in containers:
        resources = container.get("resources", {})
        for name, units in {**resources.get("limits", {}), **resources.get("requests", {})}.items():
            if name.startswith(_DEVICES):
                total[name] = total.get(name, 0) + int(units)
    return total


def _name(node: Object) -> str:
    return str(node["metadata"]["name"])


def _units(node: Object, resource: str) -> int:
    return int(node["status"].get("allocatable", {}).get(resource, 0))


def _selected(pod: Object, node: Object) -> bool:
    have = node["metadata"]["labels"]
    return all(have.get(key) == value for key, value in pod["spec"].get("nodeSelector", {}).items())


def _untolerated(pod: Object, node: Object) -> list[str]:
    return [
        f"{taint['key']}={taint.get('value', '')}:{taint['effect']}"
        for taint in node["spec"].get("taints", [])
        if taint["effect"] != "PreferNoSchedule"
        and not any(_tolerates(toleration, taint) for toleration in pod["spec"].get("tolerations", []))
    ]


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return bool((toleration.get("key"), toleration.get("value", "")) == (taint["key"], taint.get("value", "")))


def _ready(node: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", []))


def _simulated(node: Object) -> bool:
    return bool(node["metadata"]["labels"].get(SIMULATED) == "true")


def _finished(pod: Object) -> bool:
    return pod["status"].get("phase") in ("Succeeded", "Failed")


def _scheduler_says(pod: Object) -> str | None:
    for condition in pod["status"].get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message", condition.get("reason", "")))
    return None
