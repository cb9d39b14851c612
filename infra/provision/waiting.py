"""What a cluster that is being made, or deleted, waits for, in one line. Pure."""

from collections.abc import Iterable
from typing import Any

Object = dict[str, Any]


def available(cluster: Object) -> bool:
    """Whether Cluster API calls all of it available, as its spec is now."""
    condition = _conditions(cluster).get("Available", {})
    return bool(condition.get("status") == "True" and _seen(condition, cluster))


def waits_for(cluster: Object, events: Iterable[Object]) -> str:
    """Its conditions that do not hold with what they say, its machines that are ready, and the last event."""
    return "; ".join(part for part in (_missing(cluster), _counted(cluster), _last(events)) if part)


def _counted(cluster: Object) -> str:
    """Machines of control plane and workers, where Cluster API counts any."""
    status = cluster.get("status", {})
    counts = [status.get(part, {}) for part in ("controlPlane", "workers")]
    wanted, ready = (sum(each.get(field) or 0 for each in counts) for field in ("desiredReplicas", "readyReplicas"))
    return f"machines: {ready} of {wanted} ready" if wanted else ""


def _missing(cluster: Object) -> str:
    """Not `Available`, which says what the others say."""
    conditions = _conditions(cluster)
    if not conditions:
        return "no controller has looked at it yet"
    wanted = (
        "InfrastructureReady",
        "ControlPlaneInitialized",
        "ControlPlaneAvailable",
        "WorkersAvailable",
        "RemoteConnectionProbe",
    )
    lacking = [conditions[name] for name in wanted if conditions.get(name, {"status": "True"})["status"] != "True"]
    return ", ".join(_said(each) for each in lacking)


def _said(condition: Object) -> str:
    message = " ".join(str(condition.get("message") or condition.get("reason", "")).split())
    return f"{condition['type']}: {message}" if message else str(condition["type"])


def _last(events: Iterable[Object]) -> str:
    """The newest one (events.k8s.io/v1) of Cluster API's and its providers' objects."""
    theirs = [each for each in events if "cluster.x-k8s.io/" in each["regarding"].get("apiVersion", "")]
    newest = max(theirs, key=lambda each: str(each["metadata"]["creationTimestamp"]), default=None)
    if newest is None:
        return ""
    about = newest["regarding"]
    return f"last: {about['kind']} {about['name']}: {' '.join(str(newest.get('note', '')).split())}"


def _conditions(each: Object) -> dict[str, Object]:
    return {one["type"]: one for one in each.get("status", {}).get("conditions") or ()}


def _seen(condition: Object, cluster: Object) -> bool:
    generation = cluster["metadata"].get("generation", 0)
    return bool(condition.get("observedGeneration", generation) >= generation)
