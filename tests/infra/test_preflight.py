"""Volumes that a cluster could not make, or not change to what an environment wants, are refused before anything is."""

from typing import Any

import pytest

from components.gpu_node_pools import GpuPool
from components.metadata_store import ExternalDatabase, InCluster, MetadataStoreArgs
from infra.errors import BadInput
from infra.preflight import gib, refuse_levels, refuse_volumes


def storage_class(name: str, *, default: bool = False, expands: bool = False) -> dict[str, Any]:
    """A StorageClass as the API server gives it."""
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    return {"metadata": {"name": name, "annotations": annotations}, "allowVolumeExpansion": expands}


def claim(size: str, of: str | None = "fast") -> dict[str, Any]:
    """The PersistentVolumeClaim of PostgreSQL as the API server gives it."""
    spec = {"storageClassName": of, "resources": {"requests": {"storage": size}}}
    return {"metadata": {"name": "postgres"}, "spec": spec}


CLASSES = [storage_class("fast", default=True), storage_class("wide", expands=True)]


@pytest.mark.parametrize(
    ("wanted", "existing", "classes", "given", "accepted"),
    [
        (InCluster(storage_gib=1), [], [storage_class("fast")], "postgres.storage_class=None", "accepted: fast"),
        (InCluster(storage_gib=1), [], [], "postgres.storage_class=None", "none, the cluster has no storage class"),
        (InCluster(storage_gib=1, storage_class="slow"), [], CLASSES, "storage_class='slow'", "accepted: fast, wide"),
        (InCluster(storage_gib=9), [claim("10Gi")], CLASSES, "postgres.storage_gib=9", "accepted: 10 or more"),
        (InCluster(storage_gib=11), [claim("10Gi")], CLASSES, "storage_gib=11", "cannot expand volumes; accepted: 10"),
        (InCluster(storage_gib=10, storage_class="wide"), [claim("10Gi")], CLASSES, "'wide'", "accepted: 'fast'"),
    ],
)
def test_a_volume_that_cannot_be_made_is_refused(
    wanted: InCluster, existing: list[dict[str, Any]], classes: list[dict[str, Any]], given: str, accepted: str
) -> None:
    """One line says what was given, what the cluster has, and that nothing was changed."""
    with pytest.raises(BadInput) as refusal:
        refuse_volumes({"postgres": wanted}, existing=existing, classes=classes)
    line = str(refusal.value)
    assert line.startswith("metadata: ")
    assert given in line
    assert accepted in line
    assert line.endswith("nothing was changed")
    assert "\n" not in line


@pytest.mark.parametrize(
    ("wanted", "existing"),
    [
        (InCluster(storage_gib=10), []),
        (InCluster(storage_gib=10, storage_class="wide"), []),
        (InCluster(storage_gib=10), [claim("10Gi")]),
        (InCluster(storage_gib=10), [claim("10Gi", "gone")]),
        (InCluster(storage_gib=20), [claim("10240Mi", "wide")]),
    ],
)
def test_a_volume_that_can_be_made_passes(wanted: InCluster, existing: list[dict[str, Any]]) -> None:
    """A new one of a known class, one that stays as it is, and one that grows where its class lets it."""
    refuse_volumes({"postgres": wanted}, existing=existing, classes=CLASSES)


def pool(*topology: str) -> GpuPool:
    """Return a pool with these levels."""
    return GpuPool(name="near", accelerator="NVIDIA-L4", gpus_per_node=8, nodes=2, topology=topology)


NEAR = [{"metadata": {"name": "near"}, "spec": {"levels": [{"nodeLabel": "rack"}, {"nodeLabel": "host"}]}}]


@pytest.mark.parametrize("topology", [(), ("host",), ("block", "rack", "host")])
def test_levels_that_kueue_has_otherwise_are_refused(topology: tuple[str, ...]) -> None:
    """It would say so itself, in the middle of an `up`."""
    with pytest.raises(BadInput) as refusal:
        refuse_levels([pool(*topology)], existing=NEAR)
    line = str(refusal.value)
    assert line.startswith(f"pool 'near': topology={topology!r}, but Kueue has ('rack', 'host')")
    assert "accepted: " in line
    assert line.endswith("nothing was changed")
    assert "\n" not in line


def test_levels_that_kueue_has_or_hears_of_first_pass() -> None:
    """The same ones; those of a pool that had none; and what other pools had does not matter."""
    refuse_levels([pool("rack", "host")], existing=NEAR)
    refuse_levels([pool("rack", "host")], existing=[])
    refuse_levels([], existing=NEAR)


def test_what_is_outside_the_cluster_needs_no_volume() -> None:
    """Of an external database and an object store in the cluster, only the latter is looked at."""
    external = ExternalDatabase(host="db.example.com", port=5432, name="mlflow", user="mlflow")
    assert set(MetadataStoreArgs(postgres=external).claims) == {"object-store"}


@pytest.mark.parametrize(
    ("quantity", "size"), [("10Gi", 10), ("512Mi", 0.5), ("2Ti", 2048), ("1073741824", 1), ("1.5Gi", 1.5)]
)
def test_a_quantity_is_read_as_kubernetes_writes_it(quantity: str, size: float) -> None:
    """Whatever its unit."""
    assert gib(quantity) == size
