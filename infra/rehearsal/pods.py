"""The pods of a cluster: those that run, and those that something there would make."""

import dataclasses as dc
from collections.abc import Callable, Iterator, Mapping

from infra.rehearsal.snapshot import Object, Snapshot, ended


@dc.dataclass(frozen=True, kw_only=True)
class Pod:
    """A pod, or a template of one.

    of: what it is reported as: what has the template, or for a pod what made it first (of a ReplicaSet's the
        Deployment), or the pod itself.
    """

    of: Object
    namespace: str
    labels: Mapping[str, str]
    spec: Object

    @property
    def containers(self) -> list[Object]:
        """All containers, those that run first included."""
        kinds = ("initContainers", "containers", "ephemeralContainers")
        return [each for kind in kinds for each in self.spec.get(kind) or ()]


def pods(now: Snapshot) -> Iterator[Pod]:
    """Every pod that has not ended, then every template of pods that are yet to be."""
    first = first_maker(now)
    for each in now.all("Pod"):
        if not ended(each) and "deletionTimestamp" not in each["metadata"]:
            yield _pod(first(each), each)
    for owner, template in now.templates():
        conditions = owner.get("status", {}).get("conditions") or ()
        over = owner["kind"] == "Job" and any(
            each["type"] in ("Complete", "Failed") and each["status"] == "True" for each in conditions
        )
        if not over:
            yield _pod(owner, template, owner["metadata"]["namespace"])


def _pod(of: Object, pod: Object, namespace: str | None = None) -> Pod:
    metadata = pod.get("metadata") or {}
    return Pod(
        of=of,
        namespace=namespace or metadata["namespace"],
        labels=metadata.get("labels") or {},
        spec=pod["spec"],
    )


def first_maker(now: Snapshot) -> Callable[[Object], Object]:
    """What tells of an object what made it first, of what is still there; itself where nothing did."""
    by_uid = {each["metadata"].get("uid"): each for objects in now.objects.values() for each in objects}

    def first(each: Object) -> Object:
        owners = each["metadata"].get("ownerReferences") or ()
        maker = next((by_uid.get(one["uid"]) for one in owners if one.get("controller")), None)
        return first(maker) if maker else each

    return first
