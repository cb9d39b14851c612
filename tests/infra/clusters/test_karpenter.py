"""Karpenter beside an embedded cluster, as far as it is data: what it can make, what it may do, when it runs."""

import dataclasses as dc
import json
from pathlib import Path
from typing import Any

import pytest

from components.gpu_node_pools import GpuPool, Karpenter, NodeClass
from infra.clusters import embedded
from infra.clusters.embedded import karpenter, parts, pki, record
from infra.clusters.embedded.layout import Layout
from infra.clusters.embedded.network import Loopback
from infra.clusters.embedded.record import Record
from infra.clusters.instance_types import instance_types
from infra.clusters.nodes import Nodes, devices, manifests
from stacks._schema import SystemNodes

KWOK = NodeClass(group="karpenter.kwok.sh", kind="KWOKNodeClass", name="default")
A100 = GpuPool(
    name="a100",
    accelerator="NVIDIA-A100-SXM4-80GB",
    gpus_per_node=8,
    min_nodes=0,
    max_nodes=4,
    cpu=96,
    memory_gib=1100,
    source=Karpenter(node_class=KWOK, instance_types=("p4de.24xlarge",)),
)
SPOT = dc.replace(
    A100,
    name="spot",
    spot=True,
    memory_gib=1000,
    source=Karpenter(node_class=KWOK, instance_types=("p4de.24xlarge", "p4d.24xlarge"), zones=("z1", "z2")),
)
FIXED = GpuPool(name="fixed", accelerator="Tesla-T4", gpus_per_node=1, nodes=1)
NETWORK = Loopback(ports={"kube-apiserver": 20001, "etcd": 20002, "etcd-peer": 20003})
AT = Layout(folder=Path("/c"), network=NETWORK, services="10.96.0.0/16", pods="10.244.0.0/16")
PLAIN = Record(id="x", network=NETWORK, services=AT.services, pods=AT.pods)


def offers(kind: dict[str, Any]) -> set[tuple[str, str]]:
    """Return capacity type and zone of each of an instance type's offers."""
    labels = [{one["key"]: one["values"][0] for one in offer["Requirements"]} for offer in kind["offerings"]]
    assert all(each["kiban.dev/simulated"] == "true" for each in labels)
    return {(each["karpenter.sh/capacity-type"], each["topology.kubernetes.io/zone"]) for each in labels}


def test_a_machine_has_what_its_pool_says_after_the_kubelets_part() -> None:
    """Whole devices; of processors and memory as much more as the provider takes off each machine."""
    (kind,) = instance_types((A100, FIXED))
    assert kind["name"] == "p4de.24xlarge"
    assert kind["resources"] == {
        "cpu": "96100m",
        "memory": f"{1100 * 1024 + 10}Mi",
        "ephemeral-storage": "1Ti",
        "pods": "110",
        "nvidia.com/gpu": "8",
    }
    assert offers(kind) == {("on-demand", f"simulated-{zone}") for zone in "abc"}


def test_pools_that_name_one_type_share_it() -> None:
    """A type is listed once, as large as the largest of its pools, and offered to each as that asks for it."""
    both, own = instance_types((A100, SPOT))
    assert (both["name"], own["name"]) == ("p4de.24xlarge", "p4d.24xlarge")
    assert both["resources"]["memory"] == f"{1100 * 1024 + 10}Mi"
    assert offers(both) == {("on-demand", f"simulated-{zone}") for zone in "abc"} | {("spot", "z1"), ("spot", "z2")}
    assert offers(own) == {("spot", "z1"), ("spot", "z2")}


def test_slices_are_not_the_clouds_to_list() -> None:
    """An instance type has whole devices however they are cut; the device plugin registers the slices alone."""
    cut = dc.replace(A100, mig_profile="3g.40gb")
    (kind,) = instance_types((cut,))
    assert {name for name in kind["resources"] if name.startswith("nvidia.com/")} == {"nvidia.com/gpu"}
    assert devices(cut) == {"nvidia.com/gpu": "0", "nvidia.com/mig-3g.40gb": "16"}
    assert devices(dc.replace(A100, time_slices=4)) == {"nvidia.com/gpu": "0", "nvidia.com/gpu.shared": "32"}
    assert devices(A100) == {"nvidia.com/gpu": "8"}


def test_a_pool_of_karpenters_has_no_node_from_the_start() -> None:
    """Nodes that come with the pods are left out; all others are simulated."""
    nodes = manifests(Nodes(system=SystemNodes(count=1), gpu_pools=(A100, FIXED)))
    assert [node["metadata"]["name"] for node in nodes] == ["system-0", "fixed-0"]


@pytest.mark.parametrize("real", [True, False])
def test_it_runs_beside_clusters_that_have_its_pools_alone(real: bool) -> None:  # noqa: FBT001 - a parameter
    """Names and processes agree; without its pools nothing of it is started."""
    plain = dc.replace(PLAIN, real=real)
    asked = dc.replace(plain, instance_types="instance-types-0.json")
    assert parts.names(asked) == (*parts.names(plain), karpenter.NAME)
    assert tuple(parts.processes(AT, asked)) == parts.names(asked)
    assert karpenter.NAME not in parts.names(plain)
    flags = parts.processes(AT, asked)[karpenter.NAME].arguments
    assert "--instance-types-file-path=/c/instance-types-0.json" in flags
    assert "--feature-gates=NodeOverlay=true,NodeRepair=true" in flags


def test_a_moved_api_server_restarts_it() -> None:
    """The API server's address is among its arguments, by which a process that runs is told from the wanted one."""
    asked = dc.replace(PLAIN, instance_types="i.json")
    moved = dc.replace(AT, network=Loopback(ports={**NETWORK.ports, "kube-apiserver": 20009}))
    before, after = (parts.processes(at, asked)[karpenter.NAME].arguments for at in (AT, moved))
    assert before != after


def test_its_tool_is_asked_for_where_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`up` builds it for pools of its own, and for a cluster that has it already; for no other."""
    monkeypatch.setenv("KIBAN_HOME", str(tmp_path))
    monkeypatch.setenv("KIBAN_REAL_NODE", "0")
    assert karpenter.NAME not in embedded.tools("one")
    assert karpenter.NAME not in embedded.tools("one", Nodes(gpu_pools=(FIXED,)))
    assert karpenter.NAME in embedded.tools("one", Nodes(gpu_pools=(FIXED, A100)))
    embedded.folder("one").mkdir(parents=True)
    record.save(embedded.folder("one"), dc.replace(PLAIN, instance_types="i.json"))
    assert karpenter.NAME in embedded.tools("one")
    assert karpenter.NAME not in embedded.tools("one", Nodes(gpu_pools=(FIXED,)))


def test_it_is_known_by_a_certificate_of_its_own_and_may_do_its_part_alone() -> None:
    """One user, one role: no wildcard, no secrets, no roles, nothing of admission; of pods it deletes and evicts."""
    assert pki.CLIENTS[karpenter.NAME] == (karpenter.USER, None)
    role, binding = karpenter.permissions().values()
    assert binding["subjects"] == [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": karpenter.USER}]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    granted = {
        (group, kind, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for kind in rule["resources"]
        for verb in rule["verbs"]
    }
    assert not any("*" in each for each in granted)
    written = {(group, kind) for group, kind, verb in granted if verb not in {"get", "list", "watch"}}
    assert {group for group, _ in written} == {"", "karpenter.sh", "karpenter.kwok.sh"}
    assert {kind for group, kind in written if not group} == {"nodes", "pods", "pods/eviction", "events"}
    assert {verb for group, kind, verb in granted if (group, kind) == ("", "pods")} == {
        "get", "list", "watch", "delete"
    }  # fmt: skip


def test_the_stand_in_for_device_plugins_knows_each_pool() -> None:
    """The policy is for nodes that Karpenter makes, and holds what each pool's nodes have."""
    made = karpenter.device_plugin({"a100": {"nvidia.com/gpu": "0", "nvidia.com/mig-3g.40gb": "16"}})
    policy, binding = made.values()
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
    (condition,) = policy["spec"]["matchConditions"]
    assert "karpenter.sh/nodepool" in condition["expression"]
    (variable,) = policy["spec"]["variables"]
    held, _ = json.JSONDecoder().raw_decode(variable["expression"])
    assert held == {"a100": {"nvidia.com/gpu": "0", "nvidia.com/mig-3g.40gb": "16"}}
