"""The flags and files of a real node, as far as they are decisions."""

import json
import tomllib
from pathlib import Path

import yaml

from infra.clusters.embedded import addons, node, parts, placement
from infra.clusters.embedded.layout import Layout
from infra.clusters.embedded.network import Namespace
from infra.clusters.embedded.record import Record

NETWORK = Namespace(path=Path("/run/kiban/one-0a"), link="kiban0a", host="198.19.0.1", address="198.19.0.2")
AT = Layout(folder=Path("/c"), network=NETWORK, services="10.96.0.0/16", pods="10.244.0.0/16")
FILES = {path.name: content for path, content in node.files(AT, Path("/usr/lib/cni"), measured=True).items()}


def test_containerd_finds_the_pinned_shim_and_keeps_to_its_places() -> None:
    """It looks for its shim where the pinned one is linked, and its sandbox image is one that every node has."""
    config = tomllib.loads(FILES["containerd.toml"])
    assert config["version"] == 3
    runtime = config["plugins"]["io.containerd.cri.v1.runtime"]
    assert node.processes(AT)["containerd"].environment["PATH"].startswith("/c/node/bin:")
    assert runtime["cni"] == {"bin_dirs": ["/usr/lib/cni"], "conf_dir": "/c/node/etc/net.d"}
    assert config["plugins"]["io.containerd.cri.v1.images"]["pinned_images"]["sandbox"] == node.PAUSE
    assert config["grpc"]["address"] == node.SOCKET


def test_the_kubelet_lets_nobody_in_unasked_and_has_a_cgroup_of_its_own() -> None:
    """Anonymous requests are refused, others asked of the API server; two clusters' pods are in different cgroups."""
    config = yaml.safe_load(FILES["kubelet.yaml"])
    assert config["authentication"]["anonymous"] == {"enabled": False}
    assert config["authorization"] == {"mode": "Webhook"}
    assert config["cgroupRoot"] == f"/{node.cgroup(Path('/c'))}" != f"/{node.cgroup(Path('/d'))}"
    assert config["clusterDNS"] == ["10.96.0.10"]


def test_real_and_simulated_pods_have_addresses_apart() -> None:
    """The bridge gives addresses of the half of the range that kwok does not."""
    (bridge, _) = json.loads(FILES["10-kiban.conflist"])["plugins"]
    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.244.128.0/17"}]]
    kwok = parts.processes(AT, record(real=True))["kwok"].arguments
    assert "--cidr=10.244.0.0/17" in kwok


def record(*, real: bool) -> Record:
    """Return a cluster's record."""
    return Record(id="x", network=NETWORK, services=AT.services, pods=AT.pods, real=real)


def test_a_cluster_without_a_real_node_has_no_process_of_one() -> None:
    """Names and processes agree, with a real node and without."""
    for real in (True, False):
        known = record(real=real)
        assert tuple(parts.processes(AT, known)) == parts.names(known)
        assert ("kubelet" in parts.names(known)) == real


def test_an_image_of_docker_hub_is_known_by_every_name() -> None:
    """What a manifest may leave out is no other image; elsewhere nothing may be left out."""
    assert set(placement.spellings("docker.io/library/busybox:1")) == {
        "docker.io/library/busybox:1",
        "library/busybox:1",
        "busybox:1",
    }
    assert placement.spellings("quay.io/a/b:1") == ("quay.io/a/b:1",)


def test_every_permission_has_its_holder() -> None:
    """A binding for each role, and the DNS address that the kubelet gives to pods."""
    made = addons.permissions() | addons.workloads(AT)
    roles = {path.rpartition("/")[2] for path in made if "/clusterroles/" in path}
    bound = {manifest["roleRef"]["name"] for manifest in made.values() if manifest["kind"] == "ClusterRoleBinding"}
    assert roles == bound
    (service,) = [manifest for manifest in made.values() if manifest["kind"] == "Service"]
    assert service["spec"]["clusterIP"] == AT.dns
