"""Cluster API beside an embedded cluster: what runs and which kinds there are, and what the simulated provider does."""

import base64
import http.client
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.clusters.embedded import clusterapi, parts
from infra.clusters.embedded.api import Object, Refused
from infra.clusters.embedded.layout import Layout
from infra.clusters.embedded.network import Loopback
from infra.clusters.embedded.provider import Provider
from infra.clusters.embedded.record import Record

NETWORK = Loopback(ports={"etcd": 1, "etcd-peer": 2, "kube-apiserver": 3, "cluster-api": 4})
AT = Layout(folder=Path("/c"), network=NETWORK, services="10.96.0.0/16", pods="10.244.0.0/16")
CORE = "/apis/cluster.x-k8s.io/v1beta2/namespaces/default"
INFRASTRUCTURE = "/apis/infrastructure.cluster.x-k8s.io/v1alpha1"
BOOTSTRAP = "/apis/bootstrap.cluster.x-k8s.io/v1alpha1"
CONTROL_PLANE = "/apis/controlplane.cluster.x-k8s.io/v1alpha1"
LEADING = "/api/v1/namespaces/default/secrets/lab-kubeconfig"
OF_LAB = {"cluster.x-k8s.io/cluster-name": "lab"}


def test_it_runs_where_the_record_says_so() -> None:
    """Upstream's controllers and the provider, after all others; a cluster without them has neither."""
    known = Record(id="1", network=NETWORK, services="", pods="")
    assert "cluster-api" not in parts.names(known)
    managing = Record(id="1", network=NETWORK, services="", pods="", cluster_api=True)
    assert parts.names(managing)[-2:] == clusterapi.NAMES
    assert tuple(parts.processes(AT, managing)) == parts.names(managing)


def test_a_moved_cluster_shows_in_both() -> None:
    """The port of the webhooks and the API server's address are among the arguments, so a changed one restarts them."""
    found = clusterapi.processes(AT)
    assert "--webhook-port=4" in found["cluster-api"].arguments
    assert AT.server in found["simulated-provider"].arguments


def test_the_kinds_are_named_and_labelled_as_the_contract_asks() -> None:
    """PLURAL.GROUP, with the version that is of contract v1beta2, and what clusterctl knows them by."""
    kinds = {kind["metadata"]["name"]: kind for kind in clusterapi.simulated_kinds()}
    assert "simulatedmachinetemplates.infrastructure.cluster.x-k8s.io" in kinds
    for name, kind in kinds.items():
        assert name == f"{kind['spec']['names']['plural']}.{kind['spec']['group']}"
        assert kind["metadata"]["labels"]["cluster.x-k8s.io/v1beta2"] == kind["spec"]["versions"][0]["name"]
        assert "clusterctl.cluster.x-k8s.io" in kind["metadata"]["labels"]


class Store:
    """An API server's objects, by path; what is written into them is kept apart from what is deleted."""

    def __init__(self, objects: dict[str, Object]) -> None:
        self.objects = objects
        self.deleted: list[str] = []

    def get(self, path: str) -> Object:
        """An object, or the list of those whose kind a path without a namespace names."""
        if path in self.objects:
            return self.objects[path]
        base, _, plural = path.rpartition("/")
        if base in (BOOTSTRAP, CONTROL_PLANE, INFRASTRUCTURE):
            found = [
                each for name, each in self.objects.items() if name.startswith(f"{base}/namespaces/default/{plural}/")
            ]
            return {"items": found}
        raise Refused(http.client.NOT_FOUND, path)

    def merge(self, path: str, patch: Object) -> None:
        """One level of a merge patch is enough here."""
        found = self.objects[path.removesuffix("/status")]
        for part, fields in patch.items():
            found[part] = {**found.get(part, {}), **fields}

    def apply(self, path: str, manifest: Object) -> None:
        """Keep it."""
        self.objects[path] = manifest

    def create(self, path: str, manifest: Object) -> None:
        """Keep it under its name."""
        self.objects[f"{path}/{manifest['metadata']['name']}"] = manifest

    def delete(self, path: str) -> None:
        """Remember it."""
        self.deleted.append(path)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a cluster that is its own machines', with one machine that has what it needs."""
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump({"clusters": [{"cluster": {"server": "https://a:1"}}]}))
    spec = {"labels": {"nvidia.com/gpu.present": "true"}, "capacity": {"cpu": "96", "nvidia.com/gpu": "8"}}
    told = {"labels": {"kiban.dev/pool": "a100"}, "taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]}
    owner = [{"kind": "MachineSet", "name": "s"}, {"kind": "Machine", "name": "m"}]
    return Store(
        {
            f"{CORE}/clusters/lab": {"spec": {}},
            f"{CORE}/machines/m": {
                "spec": {"bootstrap": {"dataSecretName": "m", "configRef": {"name": "c"}}, "failureDomain": "east"}
            },
            f"{BOOTSTRAP}/namespaces/default/simulatedconfigs/c": {
                "metadata": {"name": "c", "namespace": "default", "labels": OF_LAB},
                "spec": told,
                "status": {"initialization": {"dataSecretCreated": True}},
            },
            f"{INFRASTRUCTURE}/namespaces/default/simulatedmachines/m-1": {
                "metadata": {"name": "m-1", "namespace": "default", "labels": OF_LAB, "ownerReferences": owner},
                "spec": spec,
            },
            LEADING: {"data": {"value": base64.b64encode((tmp_path / "kubeconfig").read_bytes()).decode()}},
            "/version": {"gitVersion": "v1.36.3"},
        }
    )


@pytest.fixture
def work(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Return one look of the provider, which tells what it said."""
    monkeypatch.setattr("infra.clusters.embedded.provider._connected", lambda _: store)
    said: list[str] = []
    provider = Provider(store, tmp_path / "kubeconfig", said.append)  # type: ignore[arg-type]

    def look() -> list[str]:
        provider.work()
        return said

    return look


def machine(store: Store) -> dict[str, Any]:
    """Return the simulated machine."""
    return store.objects[f"{INFRASTRUCTURE}/namespaces/default/simulatedmachines/m-1"]


def test_a_machine_becomes_a_node(store: Store, work: Callable[[], list[str]]) -> None:
    """With what its template gives it, in its failure domain; the machine says by which identity it is known."""
    assert work() == []
    node = store.objects["/api/v1/nodes/m-1"]
    assert node["metadata"]["labels"]["kiban.dev/pool"] == "a100"
    assert node["metadata"]["labels"]["nvidia.com/gpu.present"] == "true"
    assert node["metadata"]["labels"]["topology.kubernetes.io/zone"] == "east"
    assert node["spec"]["taints"] == [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "8"
    assert node["spec"]["providerID"] == machine(store)["spec"]["providerID"] == "simulated://default/m-1"
    assert machine(store)["status"]["initialization"] == {"provisioned": True}
    assert machine(store)["metadata"]["finalizers"]


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (f"{CORE}/machines/m", {"spec": {"bootstrap": {}}}),
        (f"{CORE}/clusters/lab", {"spec": {"paused": True}}),
    ],
)
def test_a_machine_waits(store: Store, work: Callable[[], list[str]], path: str, change: Object) -> None:
    """For the data that it starts with, and while its cluster is paused, being moved say."""
    store.objects[path] = change
    work()
    assert "/api/v1/nodes/m-1" not in store.objects
    assert "status" not in machine(store)


def test_a_node_that_is_lost_is_not_made_again(store: Store, work: Callable[[], list[str]]) -> None:
    """Whether its machine is replaced is for a MachineHealthCheck to say."""
    work()
    del store.objects["/api/v1/nodes/m-1"]
    work()
    assert "/api/v1/nodes/m-1" not in store.objects


def test_a_machine_that_goes_takes_its_node_along(store: Store, work: Callable[[], list[str]]) -> None:
    """And lets itself go afterwards; also where the cluster that it was of is gone before."""
    work()
    machine(store)["metadata"] |= {"deletionTimestamp": "now", "resourceVersion": "1"}
    work()
    assert store.deleted == ["/api/v1/nodes/m-1"]
    assert machine(store)["metadata"]["finalizers"] == []


def test_a_control_plane_is_the_api_server_it_runs_beside(store: Store, work: Callable[[], list[str]]) -> None:
    """Its kubeconfig is written where there is none; a version that it does not have is said, once."""
    del store.objects[LEADING]
    meta = {"name": "lab", "namespace": "default", "labels": OF_LAB, "uid": "1"}
    plane = {"apiVersion": "a/v1", "kind": "K", "metadata": meta, "spec": {"version": "v1.99.0"}}
    store.objects[f"{CONTROL_PLANE}/namespaces/default/simulatedcontrolplanes/lab"] = plane
    assert work() == []
    assert store.objects[LEADING]["type"] == "cluster.x-k8s.io/secret"
    said = plane["status"]["conditions"]  # type: ignore[index]
    assert said[0]["message"] == "spec.version is v1.99.0; accepted: v1.36.3, which the API server has"
    work()
    assert plane["status"]["conditions"] is said  # type: ignore[index]
    plane["spec"] = {"version": "v1.36.3"}
    work()
    assert plane["status"]["initialization"] == {"controlPlaneInitialized": True}  # type: ignore[index]
