"""Teams as data, and what follows for Kueue: what each is promised, may borrow, and may end for it."""

from typing import Any

import pytest

from components._quantities import count, mebibytes, millicores
from components.gpu_node_pools import GpuPool
from components.tenancy import Queueing, Team, TenancyArgs, cluster_queue, cohort, quota

GPU = "nvidia.com/gpu"
MIG = "nvidia.com/mig-1g.10gb"
A100 = GpuPool(
    name="a100", accelerator="NVIDIA-A100-SXM4-80GB", nodes=2, gpus_per_node=8, cpu=96, memory_gib=1024
)  # 16 units
CUT = GpuPool(
    name="cut",
    accelerator="NVIDIA-A100-SXM4-80GB",
    nodes=1,
    gpus_per_node=8,
    mig_profile="1g.10gb",
    cpu=112,
    memory_gib=56,
)  # 56 units of 2 cores and 1 GiB
VISION = Team(name="vision", owner="o", gpus={"a100": 4, "cut": 14}, borrows={"a100": 8})
LANGUAGE = Team(name="language", owner="o", gpus={"a100": 8}, borrows={"cut": 7})
QUEUEING = Queueing(cpu=8, memory_gib=32, reclaim="Any", within_team="LowerPriority")
ARGS = TenancyArgs(teams=(VISION, LANGUAGE), pools=(A100, CUT), queueing=QUEUEING)


def quotas(spec: dict[str, Any]) -> dict[str, dict[str, dict[str, str]]]:
    """Flavor to resource to its quotas, out of a spec."""
    (group,) = spec["resourceGroups"]
    return {
        flavor["name"]: {
            resource["name"]: {key: value for key, value in resource.items() if key != "name"}
            for resource in flavor["resources"]
        }
        for flavor in group["flavors"]
    }


def test_two_teams_of_one_name_are_refused() -> None:
    """A team's name is used once."""
    with pytest.raises(ValueError, match="'vision' is the name of two teams"):
        TenancyArgs(teams=(VISION, VISION), pools=(A100, CUT))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"gpus": {"a100": 17}}, r"gpus\['a100'\]=17; accepted: 0 to 16"),
        ({"gpus": {"a100": -1}}, r"gpus\['a100'\]=-1; accepted: 0 to 16"),
        ({"gpus": {"h100": 1}}, r"gpus\['h100'\]; accepted: a100, cut"),
        ({"borrows": {"h100": 1}}, r"borrows\['h100'\]; accepted: a100, cut"),
        ({"gpus": {"a100": 10}, "borrows": {"a100": 7}}, r"borrows\['a100'\]=7; accepted: 0 to 6"),
        ({"borrows": {"a100": -1}}, r"borrows\['a100'\]=-1; accepted: 0 to 16"),
    ],
)
def test_more_than_a_pool_has_is_refused(parts: dict[str, Any], message: str) -> None:
    """A team has no part of a pool that is not there, and no more than it has at its largest, borrowed or not."""
    with pytest.raises(ValueError, match=message):
        TenancyArgs(teams=(Team(name="x", owner="o", **parts),), pools=(A100, CUT))


MIXED = GpuPool(
    name="mixed",
    accelerator="NVIDIA-A100-SXM4-80GB",
    nodes=2,
    gpus_per_node=8,
    mig={"3g.40gb": 1, "1g.10gb": 4},
    cpu=112,
    memory_gib=56,
)  # 16 units of 6 cores and 3 GiB, 64 of 2 cores and 1 GiB
HALF = "nvidia.com/mig-3g.40gb"


def test_of_a_mix_a_team_has_so_much_of_each_profile() -> None:
    """One flavor with both resources; each with a borrowing limit, since without one all that is idle can be had."""
    team = Team(name="vision", owner="o", gpus={"mixed/3g.40gb": 4, "cut": 7}, borrows={"mixed/3g.40gb": 2})
    other = Team(name="language", owner="o", gpus={"mixed/1g.10gb": 60, "mixed/3g.40gb": 10})
    args = TenancyArgs(teams=(team, other), pools=(CUT, MIXED), queueing=QUEUEING)
    assert quotas(cluster_queue(team, args, QUEUEING))["mixed"] == {
        "cpu": {"nominalQuota": "24"},
        "memory": {"nominalQuota": "12Gi"},
        MIG: {"nominalQuota": "0", "borrowingLimit": "0"},
        HALF: {"nominalQuota": "4", "borrowingLimit": "2"},
    }
    assert quotas(cluster_queue(other, args, QUEUEING))["mixed"]["cpu"] == {"nominalQuota": "180"}
    assert quotas(cohort(args, QUEUEING))["mixed"] == {
        "cpu": {"nominalQuota": "20"},
        "memory": {"nominalQuota": "10Gi"},
        MIG: {"nominalQuota": "4"},
        HALF: {"nominalQuota": "2"},
    }
    assert quota(team, args) == {f"requests.{MIG}": "7", f"requests.{HALF}": "6"}
    assert quota(other, args) == {f"requests.{MIG}": "60", f"requests.{HALF}": "10"}


@pytest.mark.parametrize(
    ("gpus", "message"),
    [
        ({"mixed": 1}, r"gpus\['mixed'\]; accepted: cut, mixed/3g.40gb, mixed/1g.10gb"),
        ({"mixed/7g.80gb": 1}, r"gpus\['mixed/7g.80gb'\]; accepted: cut, mixed/3g.40gb, mixed/1g.10gb"),
        ({"mixed/3g.40gb": 17}, r"gpus\['mixed/3g.40gb'\]=17; accepted: 0 to 16, the nvidia.com/mig-3g.40gb"),
    ],
)
def test_of_a_mix_the_profile_is_to_be_said(gpus: dict[str, int], message: str) -> None:
    """The pool's name alone would not say of what; what can be said is."""
    with pytest.raises(ValueError, match=message):
        TenancyArgs(teams=(Team(name="x", owner="o", gpus=gpus),), pools=(CUT, MIXED))


def test_what_is_promised_twice_is_refused_where_it_is_guaranteed() -> None:
    """Kueue gives every team its own at any time; without it the numbers are only the most that a team may take."""
    teams = (VISION, Team(name="greedy", owner="o", gpus={"a100": 16}))
    with pytest.raises(ValueError, match=r"gpus\['a100'\] add up to 20; accepted: up to 16, the nvidia.com/gpu"):
        TenancyArgs(teams=teams, pools=(A100, CUT), queueing=QUEUEING)
    assert TenancyArgs(teams=teams, pools=(A100, CUT))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reclaim": "Always"}, "reclaim='Always'; accepted: Never, LowerPriority, Any"),
        ({"within_team": "Any"}, "within_team='Any'; accepted: Never, LowerPriority, LowerOrNewerEqualPriority"),
        ({"cpu": 0}, "cpu=0; accepted: 1 or more"),
        ({"memory_gib": -1}, "memory_gib=-1; accepted: 1 or more"),
    ],
)
def test_a_policy_that_kueue_does_not_have_is_refused(change: dict[str, Any], message: str) -> None:
    """The words are Kueue's own, so that its documentation holds."""
    with pytest.raises(ValueError, match=message):
        Queueing(**change)


@pytest.mark.parametrize("owner", ["", "a b", "x" * 64])
def test_an_owner_that_is_no_label_value_is_refused(owner: str) -> None:
    """The owner is a label, so it must be one that the API server takes."""
    with pytest.raises(ValueError, match="label value"):
        Team(name="vision", owner=owner)


def test_a_quota_is_the_most_that_a_team_can_have() -> None:
    """It names every resource, so that a missing entry is zero; with Kueue it leaves room for what is borrowed."""
    assert quota(VISION, ARGS) == {f"requests.{GPU}": "12", f"requests.{MIG}": "14"}
    assert quota(LANGUAGE, ARGS) == {f"requests.{GPU}": "8", f"requests.{MIG}": "7"}
    without = TenancyArgs(teams=(VISION,), pools=(A100, CUT))
    assert quota(VISION, without) == {f"requests.{GPU}": "4", f"requests.{MIG}": "14"}


def test_every_flavor_names_every_resource_in_one_order() -> None:
    """Kueue refuses a flavor that does not, and a pod takes all its resources from one flavor of one group."""
    for spec in (cluster_queue(VISION, ARGS, QUEUEING), cohort(ARGS, QUEUEING)):
        (group,) = spec["resourceGroups"]
        assert group["coveredResources"] == ["cpu", "memory", GPU, MIG]
        assert group["flavors"][0]["name"] == "system"
        for flavor in group["flavors"]:
            assert [resource["name"] for resource in flavor["resources"]] == group["coveredResources"]


def test_a_team_is_promised_its_part_and_what_of_the_nodes_belongs_to_it() -> None:
    """A quarter of a pool's devices comes with a quarter of its cores and memory; borrowing is bound by devices."""
    vision = quotas(cluster_queue(VISION, ARGS, QUEUEING))
    assert vision["a100"] == {
        "cpu": {"nominalQuota": "48"},
        "memory": {"nominalQuota": "512Gi"},
        GPU: {"nominalQuota": "4", "borrowingLimit": "8"},
        MIG: {"nominalQuota": "0"},
    }
    assert vision["cut"] == {
        "cpu": {"nominalQuota": "28"},
        "memory": {"nominalQuota": "14Gi"},
        GPU: {"nominalQuota": "0"},
        MIG: {"nominalQuota": "14", "borrowingLimit": "0"},
    }
    assert quotas(cluster_queue(LANGUAGE, ARGS, QUEUEING))["cut"][MIG] == {"nominalQuota": "0", "borrowingLimit": "7"}


def test_a_pool_that_a_team_has_no_part_in_is_no_flavor_of_its_queue() -> None:
    """Its cores are not for the team's Jobs either."""
    team = Team(name="ranking", owner="o", gpus={"cut": 1})
    args = TenancyArgs(teams=(team,), pools=(A100, CUT), queueing=QUEUEING)
    assert list(quotas(cluster_queue(team, args, QUEUEING))) == ["system", "cut"]


def test_every_queue_has_room_for_a_job_without_devices() -> None:
    """The nodes without devices are shared in equal parts, and nothing bounds what is borrowed of them."""
    for team in ARGS.teams:
        assert quotas(cluster_queue(team, ARGS, QUEUEING))["system"] == {
            "cpu": {"nominalQuota": "4"},
            "memory": {"nominalQuota": "16Gi"},
            GPU: {"nominalQuota": "0"},
            MIG: {"nominalQuota": "0"},
        }


def test_the_cohort_has_what_no_team_was_promised() -> None:
    """So it can be borrowed too, and all quotas together are what the pools have."""
    left = quotas(cohort(ARGS, QUEUEING))
    assert (left["a100"][GPU], left["cut"][MIG]) == ({"nominalQuota": "4"}, {"nominalQuota": "42"})
    assert left["a100"]["cpu"] == {"nominalQuota": "48"}
    nobody = TenancyArgs(pools=(A100,), queueing=QUEUEING)
    assert quotas(cohort(nobody, QUEUEING))["system"]["cpu"] == {"nominalQuota": "8"}


def test_a_queue_takes_its_teams_namespace_and_ends_whom_the_data_says() -> None:
    """The namespace is found by its team's label; preemption is data."""
    spec = cluster_queue(VISION, ARGS, Queueing(reclaim="LowerPriority", within_team="Never"))
    assert spec["namespaceSelector"] == {"matchLabels": {"kiban.dev/team": "vision"}}
    assert spec["preemption"] == {"reclaimWithinCohort": "LowerPriority", "withinClusterQueue": "Never"}
    assert spec["cohortName"] == "kiban"


@pytest.mark.parametrize(
    ("made", "form"),
    [
        (count(0), "0"),
        (count(12), "12"),
        (count(3000), "3k"),
        (millicores(1500), "1500m"),
        (millicores(48_000), "48"),
        (millicores(4_000_000), "4k"),
        (mebibytes(1536), "1536Mi"),
        (mebibytes(2048), "2Gi"),
        (mebibytes(2 * 1024 * 1024), "2Ti"),
    ],
)
def test_quantities_are_in_the_form_that_kubernetes_writes(made: str, form: str) -> None:
    """Kueue writes its objects back; in another form each would seem to be its change."""
    assert made == form
