"""What an environment's data cannot know and its cluster can refuse: asked before anything is changed.

Read only. Whether an external database lets the platform in is asked from within the cluster, whose network is another
than this machine's: a Job that components/metadata_store.py declares before all that needs the database.
"""

from collections.abc import Mapping, Sequence

from components.metadata_store import NAMESPACE, InCluster, MetadataStoreArgs
from infra.errors import BadInput
from infra.kubectl import Kubectl, Object
from infra.quantities import amount

_DEFAULT = "storageclass.kubernetes.io/is-default-class"


def check(environment_args: MetadataStoreArgs, kubectl: Kubectl) -> None:
    """Raise BadInput, in one line, for volumes that the cluster could not make, or not change to what is wanted."""
    found = kubectl.get("persistentvolumeclaims,storageclasses", namespace=NAMESPACE)
    refuse_volumes(
        environment_args.claims,
        existing=[each for each in found if each["kind"] == "PersistentVolumeClaim"],
        classes=[each for each in found if each["kind"] == "StorageClass"],
    )


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


def gib(quantity: str) -> float:
    """A quantity of storage, as Kubernetes writes it, in GiB."""
    return float(amount(quantity) / 1024**3)
