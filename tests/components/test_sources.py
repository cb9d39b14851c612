"""Where a pool's nodes come from: what is refused, and what Karpenter and Cluster API are told of a pool."""

import dataclasses as dc
from collections.abc import Mapping
from typing import Any

import pytest

from components import _cluster_api, _karpenter
from components._pools import given_labels, machines, node_labels, node_taints
from components._provisioning import manifests
from components._quantities import count
from components.gpu_node_pools import (
    ClusterApi,
    Existing,
    GpuPool,
    Karpenter,
    NodeClass,
    Ref,
    Simulated,
    Source,
    Taint,
    flavors,
)
from components.tenancy import Queueing, TenancyArgs, cohort
from tests.components.any_pools import A100, CLUSTER_API, KARPENTER, pools

GOOD: dict[str, Any] = {
    "name": "a100",
    "accelerator": A100,
    "min_nodes": 0,
    "max_nodes": 4,
    "gpus_per_node": 8,
    "source": Karpenter(**KARPENTER),
}


def pool(**change: Any) -> GpuPool:  # noqa: ANN401 - a pool's values
    """Return a pool of Karpenter's, but for what is changed."""
    return GpuPool(**(GOOD | change))


def made(of: GpuPool) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Return what is rendered for a pool, by kind and name; each of which is there once."""
    found = manifests(machines(of))
    by: dict[tuple[str, str], Mapping[str, Any]] = {(each["kind"], each["metadata"]["name"]): each for each in found}
    assert len(by) == len(found)
    return by


def spec(of: GpuPool, kind: str, name: str = "a100") -> Any:  # noqa: ANN401 - YAML
    """Return one object's spec."""
    return made(of)[kind, name]["spec"]


@pytest.mark.parametrize(
    ("make", "given", "accepted"),
    [
        (lambda: Ref(group="", kind="A", name="a"), "Ref: group=''", "an API group, without a version"),
        (lambda: Ref(group="a.b/v1", kind="A", name="a"), "Ref: group='a.b/v1'", "without a version"),
        (lambda: NodeClass(group="a.b", kind="", name="a"), "NodeClass: kind=''", "a kind"),
        (lambda: NodeClass(group="a.b", kind="A", name="A b"), "NodeClass: name='A b'", "an object's name"),
        (lambda: Karpenter(**KARPENTER | {"node_class": None}), "node_class=None", "NodeClass(group="),
        (lambda: Karpenter(**KARPENTER | {"instance_types": ()}), "instance_types=()", "at least one"),
        (lambda: Karpenter(**KARPENTER | {"instance_types": "g6"}), "instance_types='g6'", "a tuple"),
        (lambda: Karpenter(**KARPENTER | {"idle_seconds": -1}), "idle_seconds=-1", "0 to 86400"),
        (lambda: ClusterApi(**CLUSTER_API | {"cluster": ""}), "cluster=''", "an object's name"),
        (lambda: ClusterApi(**CLUSTER_API | {"version": "1.36"}), "version='1.36'", "v1.36.1"),
        (lambda: ClusterApi(**CLUSTER_API | {"bootstrap": "gpu"}), "bootstrap='gpu'", "Ref(group="),
        (
            lambda: ClusterApi(**CLUSTER_API | {"failure_domains": ("a", "a")}),
            "failure_domains=('a', 'a')",
            "each once",
        ),
        (lambda: ClusterApi(**CLUSTER_API | {"failure_domains": ("A b",)}), "failure_domains='A b'", "lower-case"),
        (lambda: ClusterApi(**CLUSTER_API | {"idle_seconds": 90000}), "idle_seconds=90000", "0 to 86400"),
        (lambda: pool(source=None), "source=None", "one source, of Existing(...), Simulated(...), Karpenter(...)"),
        (lambda: pool(source=(Existing(), Karpenter(**KARPENTER))), "source=(Existing()", "one source, of"),
        (lambda: pool(min_nodes=1), "pool 'a100': min_nodes=1", "0 with a max_nodes where Karpenter makes the nodes"),
        (lambda: pool(min_nodes=None, max_nodes=None, nodes=2), "min_nodes=2", "0 with a max_nodes"),
        (lambda: pool(labels={"topology.kubernetes.io/zone": "a"}), "zone'", "said by source.zones"),
        (lambda: pool(labels={"karpenter.sh/initialized": "true"}), "initialized'", "this one is Karpenter's"),
        (lambda: pool(taints=(Taint(key="nvidia.com/gpu", value="a"),)), "taints='nvidia.com/gpu'", "a key once"),
        (
            lambda: pool(source=ClusterApi(**CLUSTER_API, failure_domains=("a", "b")), max_nodes=1),
            "source.failure_domains=('a', 'b')",
            "at most 1, as many as the pool has nodes",
        ),
        (
            lambda: pool(source=ClusterApi(**CLUSTER_API), time_slices=4),
            "source='ClusterApi(...)'",
            "nodes=COUNT for sliced devices",
        ),
    ],
)
def test_what_a_source_cannot_do_is_refused(make: Any, given: str, accepted: str) -> None:  # noqa: ANN401 - a lambda
    """In one line, with the value and what is accepted."""
    with pytest.raises(ValueError, match="accepted") as refusal:
        make()
    line = str(refusal.value)
    assert given in line
    assert accepted in line
    assert "\n" not in line


@pytest.mark.parametrize("source", [Existing(), Simulated()])
def test_kiban_makes_nothing_of_nodes_that_are_there(source: Source) -> None:
    """They are the business of who made them."""
    assert made(pool(source=source)) == {}
    assert GpuPool(name="a", accelerator=A100, nodes=1, gpus_per_node=8).source == Existing()
    assert pool().standing_in() == pool(source=Simulated())


def test_karpenter_makes_as_many_nodes_as_there_is_quota() -> None:
    """Its limits are the pool's largest: in nodes, and in the resource that Kueue counts."""
    assert spec(pool(), "NodePool")["limits"] == {"nodes": "4", "nvidia.com/gpu": "32"}
    assert spec(pool(time_slices=4), "NodePool")["limits"] == {"nodes": "4", "nvidia.com/gpu.shared": "128"}
    sliced = spec(pool(mig_profile="3g.40gb"), "NodePool")["limits"]
    assert sliced == {"nodes": "4", "nvidia.com/mig-3g.40gb": "64"}


def test_karpenter_leaves_a_node_on_which_something_runs() -> None:
    """Only the empty are ended, after a while; no drift, no age and no cheaper machine is a reason."""
    wanted = spec(pool(source=Karpenter(**KARPENTER, idle_seconds=90)), "NodePool")
    assert wanted["disruption"] == {
        "consolidationPolicy": "WhenEmpty",
        "consolidateAfter": "90s",
        "budgets": [{"nodes": "0", "reasons": ["Drifted", "Underutilized"]}],
    }
    template = wanted["template"]["spec"]
    assert template["expireAfter"] == "Never"
    assert "terminationGracePeriod" not in template  # it would end pods that say do-not-disrupt


def test_karpenter_knows_the_nodes_before_there_is_one() -> None:
    """All labels and taints, so that it can tell whether a pod that waits would fit."""
    of = pool(taints=(Taint(key="kiban.dev/batch"),), labels={"example.com/purpose": "batch"})
    template = spec(of, "NodePool")["template"]
    assert template["metadata"]["labels"] == node_labels(of)
    assert [taint["key"] for taint in template["spec"]["taints"]] == [taint.key for taint in node_taints(of)]
    assert template["spec"]["nodeClassRef"] == {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "gpu"}


@pytest.mark.parametrize(("spot", "bought"), [(True, ["spot"]), (False, ["reserved", "on-demand"])])
def test_karpenter_takes_the_machines_that_the_data_names(spot: bool, bought: list[str]) -> None:  # noqa: FBT001
    """By instance type, zone and how they are paid for."""
    of = pool(spot=spot, source=Karpenter(**KARPENTER, zones=("a", "b")))
    wanted = {each["key"]: each["values"] for each in spec(of, "NodePool")["template"]["spec"]["requirements"]}
    assert wanted == {
        "kubernetes.io/arch": ["amd64"],
        "kubernetes.io/os": ["linux"],
        "karpenter.sh/capacity-type": bought,
        "node.kubernetes.io/instance-type": ["p4de.24xlarge"],
        "topology.kubernetes.io/zone": ["a", "b"],
    }


def test_karpenter_is_told_what_sliced_devices_come_to() -> None:
    """A cloud lists whole devices, which such a node does not offer."""
    assert ("NodeOverlay", "a100") not in made(pool())
    assert spec(pool(mig_profile="3g.40gb"), "NodeOverlay") == {
        "requirements": [{"key": "karpenter.sh/nodepool", "operator": "In", "values": ["a100"]}],
        "capacity": {"nvidia.com/gpu": "0", "nvidia.com/mig-3g.40gb": "16"},
    }
    assert spec(pool(time_slices=2), "NodeOverlay")["capacity"] == {
        "nvidia.com/gpu": "0",
        "nvidia.com/gpu.shared": "16",
    }


FIXED = pool(source=ClusterApi(**CLUSTER_API), min_nodes=None, max_nodes=None, nodes=3)
ELASTIC = pool(source=ClusterApi(**CLUSTER_API), min_nodes=1, max_nodes=25)


def test_a_machine_deployment_has_the_templates_that_the_data_names() -> None:
    """And the pool's taints; what the cloud's part is, is said nowhere else."""
    wanted = spec(FIXED, "MachineDeployment")
    assert (wanted["clusterName"], wanted["replicas"]) == ("prod", 3)
    machine = wanted["template"]["spec"]
    assert machine["infrastructureRef"] == {
        "apiGroup": "infrastructure.cluster.x-k8s.io",
        "kind": "Metal3MachineTemplate",
        "name": "gpu",
    }
    assert machine["bootstrap"]["configRef"]["kind"] == "KubeadmConfigTemplate"
    assert (machine["clusterName"], machine["version"]) == ("prod", "v1.36.1")
    assert machine["taints"] == [
        {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule", "propagation": "Always"}
    ]
    assert wanted["selector"]["matchLabels"].items() <= wanted["template"]["metadata"]["labels"].items()
    assert made(FIXED)["MachineDeployment", "a100"]["metadata"]["namespace"] == "clusters"


def test_machines_are_given_the_labels_that_nothing_finds_out() -> None:
    """What Cluster API syncs it sets again and again, so it must not be what GPU feature discovery writes."""
    labels = spec(FIXED, "MachineDeployment")["template"]["metadata"]["labels"]
    assert given_labels(FIXED).items() <= labels.items()
    assert given_labels(FIXED).keys() == {"kiban.dev/pool", "kiban.dev/capacity", "nvidia.com/device-plugin.config"}
    assert not {"nvidia.com/gpu.product", "nvidia.com/gpu.memory"} & labels.keys()


def test_how_many_machines_an_elastic_pool_has_is_the_autoscalers_to_say() -> None:
    """The field is left out, so that an `up` never sets it back; the bounds are in the annotations."""
    assert "replicas" not in spec(ELASTIC, "MachineDeployment")
    annotations = made(ELASTIC)["MachineDeployment", "a100"]["metadata"]["annotations"]
    labels = annotations.pop("capacity.cluster-autoscaler.kubernetes.io/labels").split(",")
    assert annotations == {
        "cluster.x-k8s.io/cluster-api-autoscaler-node-group-min-size": "1",
        "cluster.x-k8s.io/cluster-api-autoscaler-node-group-max-size": "25",
        "cluster.x-k8s.io/autoscaling-options-scaledownunneededtime": "600s",
        "cluster.x-k8s.io/autoscaling-options-scaledowngpuutilizationthreshold": "0.001",
        "capacity.cluster-autoscaler.kubernetes.io/cpu": "96",
        "capacity.cluster-autoscaler.kubernetes.io/memory": "1024Gi",
        "capacity.cluster-autoscaler.kubernetes.io/gpu-type": "nvidia.com/gpu",
        "capacity.cluster-autoscaler.kubernetes.io/gpu-count": "8",
        "capacity.cluster-autoscaler.kubernetes.io/taints": "nvidia.com/gpu=present:NoSchedule",
    }
    assert {f"{key}={value}" for key, value in node_labels(ELASTIC).items()} < set(labels)
    assert "cluster-api/accelerator=a100" in labels
    assert "annotations" not in made(FIXED)["MachineDeployment", "a100"]["metadata"]


def test_a_machine_on_which_something_runs_is_not_replaced_for_its_template() -> None:
    """A changed template holds for machines that come; of broken ones one is replaced at a time."""
    wanted = spec(ELASTIC, "MachineDeployment")
    assert wanted["rollout"] == {"strategy": {"type": "OnDelete"}}
    assert wanted["remediation"] == {"maxInFlight": 1}


@pytest.mark.parametrize(("most", "sick"), [(1, 1), (19, 1), (25, 2), (100, 10)])
def test_many_machines_that_are_not_ready_at_once_are_left(most: int, sick: int) -> None:
    """Up to a tenth of the pool, and always one, is replaced; more is a network that is away."""
    of = dc.replace(ELASTIC, min_nodes=0, max_nodes=most)
    wanted = spec(of, "MachineHealthCheck")
    assert wanted["remediation"] == {"triggerIf": {"unhealthyLessThanOrEqualTo": sick}}
    labels = spec(of, "MachineDeployment")["template"]["metadata"]["labels"]
    assert wanted["selector"]["matchLabels"].items() <= labels.items()
    conditions = {(each["type"], each["status"]) for each in wanted["checks"]["unhealthyNodeConditions"]}
    assert conditions == {("Ready", "Unknown"), ("Ready", "False")}


def quotas(of: GpuPool) -> dict[str, str]:
    """Return what Kueue hands out of a pool's devices."""
    (group,) = cohort(TenancyArgs(pools=(of,)), Queueing())["resourceGroups"]
    (flavor,) = (each for each in group["flavors"] if each["name"] == of.name)
    return {each["name"]: each["nominalQuota"] for each in flavor["resources"] if "/" in each["name"]}


def sizes(of: GpuPool) -> list[tuple[int, int]]:
    """Return the smallest and largest size of each part of a pool of Cluster API's."""
    found = []
    for each in manifests(machines(of)):
        if each["kind"] == "MachineDeployment":
            fixed = each["spec"].get("replicas")
            said = each["metadata"].get("annotations", {})
            bounds = [said.get(f"{_cluster_api._SIZE}-{end}-size", fixed) for end in ("min", "max")]  # noqa: SLF001
            found.append((int(bounds[0]), int(bounds[1])))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_no_source_can_make_another_number_of_devices_than_the_quota_has(seed: int) -> None:
    """Whatever the pool: Karpenter's limits and the sizes of MachineDeployments add up to what Kueue hands out."""
    for of in pools(seed):
        if isinstance(of.source, Karpenter):
            limits = spec(of, "NodePool", of.name)["limits"]
            assert limits == {"nodes": count(of.maximum)} | quotas(of)
        else:
            parts = sizes(of)
            assert len(parts) == max(1, len(of.source.failure_domains))  # type: ignore[union-attr]
            assert (sum(least for least, _ in parts), sum(most for _, most in parts)) == (of.minimum, of.maximum)
            offered = {key: each for key, each in machines(of).devices.items() if each}
            assert quotas(of) == {key: count(each * of.maximum) for key, each in offered.items()}
            assert all(least <= most for least, most in parts)
            for end in zip(*parts, strict=True):
                assert max(end) - min(end) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_what_kueue_sends_to_a_pool_fits_the_nodes_that_would_be_made(seed: int) -> None:
    """Its flavor's labels are on them, and of taints there are those that the flavor says."""
    for of in pools(seed):
        flavor = flavors((of,))[of.name]
        asked = machines(of)
        assert flavor["nodeLabels"].items() <= asked.labels.items()
        assert flavor["nodeTaints"] == list(asked.taints)
        for (kind, _), each in made(of).items():
            if kind == "NodePool":
                assert flavor["nodeLabels"].items() <= each["spec"]["template"]["metadata"]["labels"].items()
            if kind == "MachineDeployment" and asked.elastic:
                said = each["metadata"]["annotations"]["capacity.cluster-autoscaler.kubernetes.io/labels"].split(",")
                assert {f"{key}={value}" for key, value in flavor["nodeLabels"].items()} <= set(said)


def test_a_priority_counts_for_nothing_from_where_it_takes_away_all_of_a_pods_cost() -> None:
    """One and the priority's 2^25th part, and not below nothing (Karpenter 1.14, EvictionCost)."""
    assert 1 + _karpenter.COUNTS_FOR_NOTHING / 2**25 == 0
