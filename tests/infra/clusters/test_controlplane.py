"""The flags of an embedded cluster's processes, as far as they are decisions."""

from pathlib import Path

import pytest
import yaml

from infra.clusters.embedded import controlplane
from infra.clusters.embedded.layout import Layout
from infra.clusters.embedded.network import Loopback, Namespace, Network

LOOPBACK = Loopback(ports={"kube-apiserver": 20001, "etcd": 20002, "etcd-peer": 20003})
NAMESPACE = Namespace(path=Path("/run/kiban/one-0a"), link="kiban0a", host="198.19.0.1", address="198.19.0.2")


def layout(network: Network) -> Layout:
    """Return where a cluster with this network is."""
    return Layout(folder=Path("/c"), network=network, services="10.64.0.0/17", pods="10.64.128.0/17")


def arguments(network: Network, process: str) -> dict[str, str]:
    """Return flag to value of a process."""
    found = controlplane.processes(layout(network), pods=False)[process].arguments
    return dict(argument.removeprefix("--").split("=", 1) for argument in found)


def test_the_api_server_authorizes_nodes_and_roles_and_no_stranger() -> None:
    """RBAC and Node authorization with NodeRestriction, nobody anonymous, its range the cluster's own."""
    flags = arguments(NAMESPACE, "kube-apiserver")
    assert flags["authorization-mode"] == "Node,RBAC"
    assert "NodeRestriction" in flags["enable-admission-plugins"]
    assert flags["anonymous-auth"] == "false"
    assert flags["service-cluster-ip-range"] == "10.64.0.0/17"


@pytest.mark.parametrize("network", [LOOPBACK, NAMESPACE], ids=["loopback", "namespace"])
def test_etcd_serves_its_own_host_and_known_clients_only(network: Network) -> None:
    """Etcd listens on loopback, on both its ports to clients with a certificate of its authority alone."""
    flags = arguments(network, "etcd")
    for listener in ("listen-client-urls", "listen-peer-urls"):
        assert flags[listener].startswith("https://127.0.0.1:")
    assert flags["client-cert-auth"] == flags["peer-client-cert-auth"] == "true"


def test_a_moved_api_server_shows_in_every_client_of_it() -> None:
    """Whoever connects to the API server has its address among the flags, so a changed one restarts it."""
    for process in ("kube-controller-manager", "kube-scheduler", "kwok"):
        assert arguments(LOOPBACK, process)["master"] == "https://127.0.0.1:20001"
        assert arguments(NAMESPACE, process)["master"] == "https://198.19.0.2:6443"


@pytest.mark.parametrize("process", controlplane.NAMES)
def test_only_a_control_plane_without_real_pods_saves_memory(process: str) -> None:
    """Where a platform lives on it, Go's collector runs at its default: more often it takes most of the processor."""
    assert "GOGC" not in controlplane.processes(layout(NAMESPACE), pods=True)[process].environment
    assert int(controlplane.processes(layout(NAMESPACE), pods=False)[process].environment["GOGC"]) < 100


def test_another_checkout_with_the_same_stages_restarts_nothing() -> None:
    """They are in the cluster's folder, under a name that says what is in them."""
    named = Path(arguments(LOOPBACK, "kwok")["config"])
    assert named.parent == Path("/c")
    assert named.name.startswith("stages-")


def test_stages_are_well_formed_and_complete() -> None:
    """Every stage is of kwok's kind, names what it selects, and does something; the needed ones are there."""
    stages = list(yaml.safe_load_all(controlplane.STAGES))
    for stage in stages:
        assert (stage["apiVersion"], stage["kind"]) == ("kwok.x-k8s.io/v1alpha1", "Stage")
        assert stage["spec"]["resourceRef"]["kind"] in {"Node", "Pod"}
        assert stage["spec"]["selector"]["matchExpressions"]
        assert stage["spec"]["steps"]
    assert {stage["metadata"]["name"] for stage in stages} == {
        "node-ready",
        "node-fail",
        "node-heartbeat",
        "pod-ready",
        "pod-complete",
        "pod-fail",
        "pod-crash-loop",
        "pod-end",
        "pod-delete",
    }
