"""What an environment's data cannot know and its cluster can refuse: asked before anything is changed.

Read only. Whether an external database lets the platform in is asked from within the cluster, whose network is another
than this machine's: a Job that components/metadata_store.py declares before all that needs the database.
"""

import json
from collections.abc import Mapping, Sequence

from components._metadata import NAMESPACE
from components.gpu_node_pools import KUEUE, GpuPool, topologies
from components.metadata_store import InCluster
from infra import sources
from infra.errors import BadInput, RunFailed
from infra.kubectl import Kubectl, Object
from infra.quantities import amount
from stacks._schema import Environment

_DEFAULT = "storageclass.kubernetes.io/is-default-class"


def check(environment: Environment, kubectl: Kubectl) -> None:
    """Raise BadInput, in one line, for volumes that the cluster could not make, or not change to what is wanted.

    And for pools whose nodes are not as their source says, or could not be made, or whose levels would change.
    """
    if environment.metadata:
        found = kubectl.get("persistentvolumeclaims,storageclasses", namespace=NAMESPACE)
        refuse_volumes(
            environment.metadata.claims,
            existing=[each for each in found if each["kind"] == "PersistentVolumeClaim"],
            classes=[each for each in found if each["kind"] == "StorageClass"],
        )
    sources.check(environment, kubectl)
    if environment.queueing and environment.gpu_pools:
        check_levels(environment.gpu_pools, kubectl)


def refuse_volumes(wanted: Mapping[str, InCluster], *, existing: Sequence[Object], classes: Sequence[Object]) -> None:
    """Raise BadInput for a volume that would shrink, move or has no class. wanted: claim to what it is to be."""
    there = {claim["metadata"]["name"]: claim for claim in existing}
    known = {each["metadata"]["name"]: each for each in classes}
    for name, part in wanted.items():
        if name in there:
            _refuse_change(name, part, there[name], known)
        else:
            _refuse_class(name, part, known)


def _refuse_class(name: str, part: InCluster, known: Mapping[str, Object]) -> None:
    names = ", ".join(sorted(known)) or "none, the cluster has no storage class"
    defaults = [each for each in known.values() if each["metadata"].get("annotations", {}).get(_DEFAULT) == "true"]
    if part.storage_class is None and not defaults:
        raise BadInput(
            f"metadata: {name.replace('-', '_')}.storage_class=None, and the cluster has no default storage class; "
            f"accepted: {names}; nothing was changed"
        )
    if part.storage_class is not None and part.storage_class not in known:
        raise BadInput(
            f"metadata: {name.replace('-', '_')}.storage_class={part.storage_class!r}; accepted: {names}; "
            "nothing was changed"
        )


def _refuse_change(name: str, part: InCluster, claim: Object, known: Mapping[str, Object]) -> None:
    field = f"metadata: {name.replace('-', '_')}"
    class_name = claim["spec"].get("storageClassName")
    if part.storage_class not in {None, class_name}:
        raise BadInput(
            f"{field}.storage_class={part.storage_class!r}, but the volume has {class_name!r} and cannot change it; "
            f"accepted: {class_name!r}, or a backup and a restore into a new volume; nothing was changed"
        )
    size = gib(claim["spec"]["resources"]["requests"]["storage"])
    if part.storage_gib < size:
        raise BadInput(
            f"{field}.storage_gib={part.storage_gib}, but the volume has {size:g} and cannot shrink; "
            f"accepted: {size:g} or more; nothing was changed"
        )
    if part.storage_gib > size and not known.get(class_name or "", {}).get("allowVolumeExpansion"):
        raise BadInput(
            f"{field}.storage_gib={part.storage_gib}, but the volume has {size:g} and its storage class "
            f"{class_name!r} cannot expand volumes; accepted: {size:g}; nothing was changed"
        )


def check_levels(pools: Sequence[GpuPool], kubectl: Kubectl) -> None:
    """Raise BadInput for a pool whose levels of topology are others than its cluster's Kueue has."""
    try:
        found = json.loads(kubectl.raw(f"/apis/{KUEUE}/topologies"))["items"]
    except RunFailed:  # no Kueue yet
        return
    refuse_levels(pools, existing=found)


def refuse_levels(pools: Sequence[GpuPool], *, existing: Sequence[Object]) -> None:
    """Raise BadInput for a pool whose levels would change: Kueue (0.19) never changes a flavor's."""
    wanted = topologies(tuple(pools))
    there = {each["metadata"]["name"]: each["spec"]["levels"] for each in existing}
    for pool in pools:
        if pool.name in there and there[pool.name] != wanted.get(pool.name, {}).get("levels"):
            levels = tuple(level["nodeLabel"] for level in there[pool.name])
            raise BadInput(
                f"pool {pool.name!r}: topology={pool.topology}, but Kueue has {levels} and cannot change it; accepted: "
                f"{levels}, or one `up` without the pool and another with it, when its queues are empty; "
                "nothing was changed"
            )


def gib(quantity: str) -> float:
    """A quantity of storage, as Kubernetes writes it, in GiB."""
    return float(amount(quantity) / 1024**3)
