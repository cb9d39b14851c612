"""GPU pools as data: what is refused, and what follows from a pool for its nodes and for Kueue."""

import dataclasses as dc
from fractions import Fraction
from typing import Any

import pytest
import yaml

from components._pools import node_labels, node_taints, shares
from components.gpu_node_pools import (
    GpuNodePoolsArgs,
    GpuPool,
    Taint,
    device_plugin_config,
    flavors,
    kueue_values,
    mig_partitions,
    topologies,
)

A100 = "NVIDIA-A100-SXM4-80GB"
LEVELS = ("block", "rack", "kubernetes.io/hostname")
GOOD: dict[str, Any] = {"name": "a100", "accelerator": A100, "nodes": 2, "gpus_per_node": 8}


@pytest.mark.parametrize(
    ("change", "given", "accepted"),
    [
        ({"nodes": -1}, "nodes=-1", "0 to 5000"),
        ({"nodes": None, "min_nodes": 3, "max_nodes": 2}, "max_nodes=2", "min_nodes=3 or more"),
        ({"nodes": None}, "nodes=None", "min_nodes and max_nodes"),
        ({"nodes": None, "min_nodes": 1}, "nodes=None", "both min_nodes and max_nodes"),
        ({"min_nodes": 1, "max_nodes": 2}, "nodes=2", "either nodes, or min_nodes and max_nodes"),
        ({"accelerator": "NVIDIA-H999"}, "accelerator='NVIDIA-H999'", A100),
        ({"mig_profile": "9g.90gb"}, "mig_profile='9g.90gb'", "1g.10gb, 1g.20gb"),
        ({"accelerator": "NVIDIA-L4", "mig_profile": "1g.10gb"}, "mig_profile='1g.10gb'", "NVIDIA-L4 has no MIG"),
        ({"mig_profile": "1g.10gb", "time_slices": 2}, "time_slices=2", "1 where mig_profile is set"),
        ({"mig": {"3g.40gb": 1, "3g.99gb": 1}}, "mig['3g.99gb']=1", "1g.10gb, 1g.20gb"),
        ({"accelerator": "Tesla-T4", "mig": {"1g.10gb": 1}}, "mig['1g.10gb']=1", "none: Tesla-T4 has no MIG"),
        ({"mig": {"1g.10gb": 0}}, "mig['1g.10gb']=0", "1 to 7"),
        (
            {"mig": {"3g.40gb": 2, "1g.10gb": 1}},
            "mig={'3g.40gb': 2, '1g.10gb': 1}",
            "such as {'3g.40gb': 2} or {'3g.40gb': 1, '1g.10gb': 4} or",
        ),
        ({"mig": {"4g.40gb": 2}}, "mig={'4g.40gb': 2}", "such as {'4g.40gb': 1}"),
        ({"mig_profile": "1g.10gb", "mig": {"3g.40gb": 1}}, "mig_profile='1g.10gb'", "none where mig is set"),
        ({"mig": {"3g.40gb": 1}, "time_slices": 2}, "time_slices=2", "1 where mig is set"),
        ({"gpus_per_node": 0}, "gpus_per_node=0", "1 to 16"),
        ({"time_slices": 0}, "time_slices=0", "1 to 48"),
        ({"cpu": 0}, "cpu=0", "1 to 1024"),
        ({"name": "A100"}, "'A100'", "lower-case"),
        ({"name": "system"}, "'system'", "another name"),
        (
            {"nodes": None, "min_nodes": 0, "max_nodes": 2, "topology": ("kubernetes.io/hostname",)},
            "topology=('kubernetes.io/hostname',)",
            "none where the pool grows",
        ),
        ({"topology": ("x", "x")}, "topology=('x', 'x')", "each label once"),
        ({"topology": ("kubernetes.io/hostname", "x")}, "topology=", "kubernetes.io/hostname as the last"),
        ({"topology": LEVELS, "domains": (8,)}, "domains=(8,)", "a number for each of block, rack"),
        ({"topology": LEVELS, "domains": (8, 3)}, "domains=(8, 3)", "each a multiple of the next"),
        ({"topology": LEVELS, "domains": (4, 8)}, "domains=(4, 8)", "each a multiple of the next"),
        ({"topology": LEVELS, "domains": (0, 1)}, "domains=(0, 1)", "1 or more"),
        ({"topology": LEVELS[2:], "domains": (1,)}, "domains=(1,)", "none"),
        ({"domains": (4,)}, "domains=(4,)", "none"),
    ],
)
def test_a_bad_pool_is_refused_with_what_was_given_and_what_is_accepted(
    change: dict[str, Any], given: str, accepted: str
) -> None:
    """Every bound of a pool is checked, and the one-line message names the value and the bound."""
    with pytest.raises(ValueError, match="accepted") as refusal:
        GpuPool(**(GOOD | change))
    message = str(refusal.value)
    assert given in message
    assert accepted in message
    assert "\n" not in message


def test_two_pools_of_one_name_are_refused() -> None:
    """A pool's name is used once."""
    with pytest.raises(ValueError, match="'a100' is the name of two pools"):
        GpuNodePoolsArgs(pools=(GpuPool(**GOOD), GpuPool(**GOOD)))


@pytest.mark.parametrize(
    ("change", "resource", "per_node"),
    [
        ({}, "nvidia.com/gpu", 8),
        ({"mig_profile": "1g.10gb"}, "nvidia.com/mig-1g.10gb", 56),
        ({"mig_profile": "3g.40gb"}, "nvidia.com/mig-3g.40gb", 16),
        ({"mig_profile": "1g.10gb+me"}, "nvidia.com/mig-1g.10gb.me", 8),
        ({"mig": {"1g.10gb": 5}}, "nvidia.com/mig-1g.10gb", 40),
        ({"time_slices": 4}, "nvidia.com/gpu.shared", 32),
    ],
)
def test_what_a_pool_offers_follows_from_how_it_is_shared(change: dict[str, Any], resource: str, per_node: int) -> None:
    """Whole devices, MIG instances and time slices are different resources, counted a node."""
    pool = GpuPool(**(GOOD | change))
    (share,) = pool.shares
    assert (share.name, share.resource, share.units_per_node, share.units) == ("a100", resource, per_node, 2 * per_node)


def test_a_mix_offers_each_profile_under_a_name_of_its_own() -> None:
    """And of a node's cores and memory each instance has a part by its slices of compute, all of them together all."""
    pool = GpuPool(**(GOOD | {"mig": {"3g.40gb": 1, "1g.10gb": 3, "1g.10gb+me": 1}}))
    assert [(each.name, each.resource, each.units_per_node, each.units) for each in pool.shares] == [
        ("a100/3g.40gb", "nvidia.com/mig-3g.40gb", 8, 16),
        ("a100/1g.10gb", "nvidia.com/mig-1g.10gb", 24, 48),
        ("a100/1g.10gb+me", "nvidia.com/mig-1g.10gb.me", 8, 16),
    ]
    assert [each.part for each in pool.shares] == [Fraction(3, 56), Fraction(1, 56), Fraction(1, 56)]
    assert sum(each.part * each.units_per_node for each in pool.shares) == 1
    assert shares([pool]) == {each.name: each for each in pool.shares}


def test_a_profile_alone_in_a_mix_is_what_the_pool_offers() -> None:
    """As many as a device holds, said either way, are the same pool to teams, nodes and Kueue."""
    said, counted = (GpuPool(**(GOOD | how)) for how in ({"mig_profile": "3g.40gb"}, {"mig": {"3g.40gb": 2}}))
    assert said.cuts == counted.cuts
    assert [dc.replace(each, pool=said) for each in counted.shares] == list(said.shares)
    assert node_labels(said) == node_labels(counted)
    assert mig_partitions((said,)) == mig_partitions((counted,))


def test_an_elastic_pool_counts_at_its_largest() -> None:
    """Quotas and simulated nodes take the maximum, so that what is promised can be had."""
    pool = GpuPool(**(GOOD | {"nodes": None, "min_nodes": 1, "max_nodes": 5}))
    assert (pool.minimum, pool.maximum, pool.shares[0].units) == (1, 5, 40)


def test_device_plugin_and_mig_manager_are_told_how_to_cut() -> None:
    """A pool's node selects its own key, and the key says what the pool's data says."""
    pools = (
        GpuPool(**(GOOD | {"name": "mig", "mig_profile": "1g.10gb"})),
        GpuPool(**(GOOD | {"name": "shared", "time_slices": 4})),
    )
    plugin = {key: yaml.safe_load(text) for key, text in device_plugin_config(pools).items()}
    assert plugin["mig"]["flags"]["migStrategy"] == "mixed"
    assert plugin["shared"]["sharing"]["timeSlicing"]["resources"] == [{"name": "nvidia.com/gpu", "replicas": 4}]
    cuts = yaml.safe_load(mig_partitions(pools))["mig-configs"]
    assert cuts["mig"][0]["mig-devices"] == {"1g.10gb": 7}
    assert "shared" not in cuts
    assert node_labels(pools[0])["nvidia.com/mig.config"] == "mig"
    assert {node_labels(pool)["nvidia.com/device-plugin.config"] for pool in pools} == {"mig", "shared"}


def test_a_mix_is_told_to_the_mig_manager_as_it_is() -> None:
    """By the profiles' own names, also where a resource is called otherwise."""
    pool = GpuPool(**(GOOD | {"mig": {"3g.40gb": 1, "1g.10gb+me": 1}}))
    (told,) = yaml.safe_load(mig_partitions((pool,)))["mig-configs"]["a100"]
    assert told == {"devices": "all", "mig-enabled": True, "mig-devices": {"3g.40gb": 1, "1g.10gb+me": 1}}
    assert yaml.safe_load(device_plugin_config((pool,))["a100"])["flags"] == {"migStrategy": "mixed"}


def test_labels_are_those_of_feature_discovery() -> None:
    """Whole devices, in turn, cut: the product's name stays, a cut device has no replicas but each profile has."""

    def labels(**change: Any) -> dict[str, str]:  # noqa: ANN401
        found = node_labels(GpuPool(**(GOOD | change)))
        return {key.removeprefix("nvidia.com/"): value for key, value in found.items() if key.startswith("nvidia.com/")}

    whole = labels()
    assert whole == {
        "gpu.product": A100,
        "gpu.family": "ampere",
        "gpu.memory": "81920",
        "gpu.count": "8",
        "gpu.replicas": "1",
        "gpu.sharing-strategy": "none",
        "gpu.present": "true",
        "mig.capable": "true",
        "mps.capable": "false",
        "device-plugin.config": "a100",
    }
    in_turn = labels(time_slices=4)
    assert in_turn == whole | {"gpu.replicas": "4", "gpu.sharing-strategy": "time-slicing"}
    assert labels(mig={"3g.40gb": 1, "1g.10gb+me": 1}) == whole | {
        "gpu.replicas": "0",
        "mig.strategy": "mixed",
        "mig.config": "a100",
        "mig-3g.40gb.product": f"{A100}-MIG-3g.40gb",
        "mig-3g.40gb.count": "8",
        "mig-3g.40gb.replicas": "1",
        "mig-3g.40gb.sharing-strategy": "none",
        "mig-3g.40gb.slices.gi": "3",
        "mig-3g.40gb.slices.ci": "3",
        "mig-1g.10gb.me.product": f"{A100}-MIG-1g.10gb.me",
        "mig-1g.10gb.me.count": "8",
        "mig-1g.10gb.me.replicas": "1",
        "mig-1g.10gb.me.sharing-strategy": "none",
        "mig-1g.10gb.me.slices.gi": "1",
        "mig-1g.10gb.me.slices.ci": "1",
    }


def test_spot_nodes_and_a_pools_own_taints_keep_other_pods_away() -> None:
    """Every GPU node repels pods that want none; spot and own taints come on top."""
    pool = GpuPool(**(GOOD | {"spot": True, "taints": (Taint(key="kiban.dev/batch", value="true"),)}))
    assert [taint.key for taint in node_taints(pool)] == ["nvidia.com/gpu", "kiban.dev/spot", "kiban.dev/batch"]
    assert [taint.key for taint in node_taints(dc.replace(pool, spot=False, taints=()))] == ["nvidia.com/gpu"]


def test_a_taint_of_an_unknown_effect_is_refused() -> None:
    """The API server would refuse it at the node, much later."""
    with pytest.raises(ValueError, match="effect='Never'"):
        Taint(key="a", effect="Never")


def test_flavors_are_plain_cpu_first_then_the_pools_in_their_order() -> None:
    """Kueue tries flavors in order, so a Job without devices must meet the nodes without devices first."""
    pools = (
        GpuPool(**(GOOD | {"name": "z"})),
        GpuPool(**(GOOD | {"name": "b"})),
        GpuPool(**(GOOD | {"name": "turns", "time_slices": 4})),
        GpuPool(**(GOOD | {"name": "mixed", "mig": {"3g.40gb": 1, "1g.10gb": 4}})),
    )
    made = flavors(pools)
    assert list(made) == ["system", "z", "b", "turns", "mixed"]
    assert made["system"] == {"nodeLabels": {"kiban.dev/pool": "system"}}
    for pool in pools:
        assert made[pool.name]["nodeLabels"].items() <= node_labels(pool).items()


def test_a_flavor_says_its_nodes_taints_and_tolerates_the_pools_own() -> None:
    """That it wants GPUs or bears a loss is for a workload to say; the pool's own taints are borne for it."""
    pool = GpuPool(**(GOOD | {"spot": True, "taints": (Taint(key="kiban.dev/batch", value="true"), Taint(key="x"))}))
    made = flavors((pool,))["a100"]
    assert [taint["key"] for taint in made["nodeTaints"]] == [taint.key for taint in node_taints(pool)]
    assert made["tolerations"] == [
        {"key": "kiban.dev/batch", "operator": "Equal", "value": "true", "effect": "NoSchedule"},
        {"key": "x", "operator": "Equal", "effect": "NoSchedule"},
    ]
    assert "tolerations" not in flavors((GpuPool(**GOOD),))["a100"]


def test_a_pool_with_levels_has_a_topology_of_its_own() -> None:
    """Its flavor names it; a pool without levels has neither, so that any Job can go there."""
    near = GpuPool(**(GOOD | {"name": "near", "topology": ("example.com/rack", "kubernetes.io/hostname")}))
    pools = (near, GpuPool(**GOOD))
    assert topologies(pools) == {
        "near": {"levels": [{"nodeLabel": "example.com/rack"}, {"nodeLabel": "kubernetes.io/hostname"}]}
    }
    assert flavors(pools)["near"]["topologyName"] == "near"
    assert "topologyName" not in flavors(pools)["a100"]


def test_kueue_sees_teams_namespaces_and_jobs_only() -> None:
    """The selector is also that of its webhooks, so the platform's own namespaces do not wait for Kueue."""
    values = kueue_values(version="1.2.3", priority="urgent")
    configuration = yaml.safe_load(values["managerConfig"]["controllerManagerConfigYaml"])
    assert configuration["managedJobsNamespaceSelector"] == {
        "matchExpressions": [{"key": "kiban.dev/team", "operator": "Exists"}]
    }
    assert configuration["integrations"]["frameworks"] == ["batch/job", "pod"]
    with_jobsets = kueue_values(version="1.2.3", priority="urgent", jobsets=True)["managerConfig"]
    known = yaml.safe_load(with_jobsets["controllerManagerConfigYaml"])["integrations"]["frameworks"]
    assert known == ["batch/job", "pod", "jobset.x-k8s.io/jobset"]
    assert "waitForPodsReady" not in configuration
    impatient = kueue_values(version="1.2.3", priority="urgent", requeue_minutes=30)["managerConfig"]
    patience = yaml.safe_load(impatient["controllerManagerConfigYaml"])["waitForPodsReady"]
    assert patience == {"timeout": "30m"}
    manager = values["controllerManager"]["manager"]
    assert manager["image"]["repository"] + ":" + manager["image"]["tag"] == "registry.k8s.io/kueue/kueue:v1.2.3"
    assert manager["priorityClassName"] == "urgent"
