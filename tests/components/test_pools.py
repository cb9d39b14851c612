"""GPU pools and teams as data: what is refused, and what follows from a pool."""

import dataclasses as dc
from typing import Any

import pytest
import yaml

from components.gpu_node_pools import (
    GpuNodePoolsArgs,
    GpuPool,
    Taint,
    device_plugin_config,
    mig_partitions,
    node_labels,
    node_taints,
    quota,
)
from components.tenancy import Team, TenancyArgs

A100 = "NVIDIA-A100-SXM4-80GB"
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
        ({"gpus_per_node": 0}, "gpus_per_node=0", "1 to 16"),
        ({"time_slices": 0}, "time_slices=0", "1 to 48"),
        ({"cpu": 0}, "cpu=0", "1 to 1024"),
        ({"name": "A100"}, "'A100'", "lower-case"),
        ({"name": "system"}, "'system'", "another name"),
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


def test_two_teams_of_one_name_are_refused() -> None:
    """A team's name is used once."""
    team = Team(name="vision", owner="vision-oncall")
    with pytest.raises(ValueError, match="'vision' is the name of two teams"):
        TenancyArgs(teams=(team, team))


@pytest.mark.parametrize(
    ("gpus", "message"),
    [
        ({"a100": 17}, r"gpus\['a100'\]=17; accepted: 0 to 16"),
        ({"a100": -1}, r"gpus\['a100'\]=-1; accepted: 0 to 16"),
        ({"h100": 1}, r"gpus\['h100'\]; accepted: a100"),
    ],
)
def test_a_quota_beyond_the_pool_is_refused(gpus: dict[str, int], message: str) -> None:
    """A team cannot be promised more than a pool has at its largest, nor anything of a pool that is not there."""
    team = Team(name="vision", owner="vision-oncall", gpus=gpus)
    with pytest.raises(ValueError, match=message):
        GpuNodePoolsArgs(pools=(GpuPool(**GOOD),), teams=(team,))


@pytest.mark.parametrize("owner", ["", "a b", "x" * 64])
def test_an_owner_that_is_no_label_value_is_refused(owner: str) -> None:
    """The owner is a label, so it must be one that the API server takes."""
    with pytest.raises(ValueError, match="label value"):
        Team(name="vision", owner=owner)


@pytest.mark.parametrize(
    ("change", "resource", "per_node"),
    [
        ({}, "nvidia.com/gpu", 8),
        ({"mig_profile": "1g.10gb"}, "nvidia.com/mig-1g.10gb", 56),
        ({"mig_profile": "3g.40gb"}, "nvidia.com/mig-3g.40gb", 16),
        ({"time_slices": 4}, "nvidia.com/gpu.shared", 32),
    ],
)
def test_what_a_pool_offers_follows_from_how_it_is_shared(change: dict[str, Any], resource: str, per_node: int) -> None:
    """Whole devices, MIG instances and time slices are different resources, counted a node."""
    pool = GpuPool(**(GOOD | change))
    assert (pool.resource, pool.units_per_node, pool.units) == (resource, per_node, 2 * per_node)


def test_an_elastic_pool_counts_at_its_largest() -> None:
    """Quotas and simulated nodes take the maximum, so that what is promised can be had."""
    pool = GpuPool(**(GOOD | {"nodes": None, "min_nodes": 1, "max_nodes": 5}))
    assert (pool.minimum, pool.maximum, pool.units) == (1, 5, 40)


def test_a_team_gets_nothing_of_what_it_was_not_given() -> None:
    """A quota names every resource that exists, so that a missing entry is zero and not unlimited."""
    pools = (
        GpuPool(**GOOD),
        GpuPool(**(GOOD | {"name": "b"})),
        GpuPool(**(GOOD | {"name": "mig", "mig_profile": "1g.10gb"})),
    )
    team = Team(name="vision", owner="o", gpus={"a100": 3, "b": 4})
    assert quota(team, pools) == {"requests.nvidia.com/gpu": "7", "requests.nvidia.com/mig-1g.10gb": "0"}


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


def test_spot_nodes_and_a_pools_own_taints_keep_other_pods_away() -> None:
    """Every GPU node repels pods that want none; spot and own taints come on top."""
    pool = GpuPool(**(GOOD | {"spot": True, "taints": (Taint(key="kiban.dev/batch", value="true"),)}))
    assert [taint.key for taint in node_taints(pool)] == ["nvidia.com/gpu", "kiban.dev/spot", "kiban.dev/batch"]
    assert [taint.key for taint in node_taints(dc.replace(pool, spot=False, taints=()))] == ["nvidia.com/gpu"]


def test_a_taint_of_an_unknown_effect_is_refused() -> None:
    """The API server would refuse it at the node, much later."""
    with pytest.raises(ValueError, match="effect='Never'"):
        Taint(key="a", effect="Never")
