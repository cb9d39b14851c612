"""What no node holds is refused in data, with what is nearest to it."""

import pytest

from components._shapes import JobShape, candidates, check
from components.gpu_node_pools import GpuPool
from components.tenancy import Queueing, Team, TenancyArgs

BIG = GpuPool(name="big", accelerator="NVIDIA-A100-SXM4-80GB", nodes=2, gpus_per_node=8, cpu=96, memory_gib=1024)
ONES = GpuPool(name="ones", accelerator="Tesla-T4", nodes=16, gpus_per_node=1, cpu=8, memory_gib=32)
SPOT = GpuPool(name="spot", accelerator="NVIDIA-L4", nodes=2, gpus_per_node=4, spot=True)
NEAR = GpuPool(
    name="near",
    accelerator="NVIDIA-H200",
    nodes=4,
    gpus_per_node=8,
    topology=("rack", "kubernetes.io/hostname"),
    domains=(2,),
)
MIXED = GpuPool(
    name="mixed", accelerator="NVIDIA-A100-SXM4-80GB", nodes=1, gpus_per_node=2, mig={"3g.40gb": 1, "1g.10gb": 3}
)
GPUS = {"big": 8, "ones": 16, "spot": 8, "near": 32, "mixed/3g.40gb": 1}
TEAM = Team(name="vision", owner="o", gpus=GPUS, borrows={"big": 8})
ARGS = TenancyArgs(
    teams=(TEAM,), pools=(BIG, ONES, SPOT, NEAR, MIXED), queueing=Queueing(cpu=16, memory_gib=64), system_nodes=4
)
PLACES = ARGS.places(TEAM)


def shape(**fields: object) -> JobShape:
    """Return a shape by what it asks for."""
    return JobShape(name="train", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"cpu": "4", "memory": "16Gi", "pods": 4},
        {"gpus": 8, "pool": "big", "pods": 2, "cpu": "96", "memory": "1024Gi"},
        {"gpus": 1, "pods": 16},
        {"gpus": 4, "pool": "spot", "pods": 2},
        {"gpus": 8, "pool": "near", "pods": 4},
        {"gpus": 8, "pool": "near", "pods": 2, "topology": "rack"},
        {"gpus": 8, "pool": "near", "topology": "kubernetes.io/hostname"},
        {"gpus": 1, "pool": "mixed/3g.40gb"},
        {"gpus": 1, "resource": "nvidia.com/mig-3g.40gb"},
    ],
)
def test_what_a_pool_holds_is_accepted(fields: dict[str, object]) -> None:
    """Up to all that the nodes have."""
    check(shape(**fields), PLACES, who="x")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"gpus": 12, "pool": "big"}, "gpus=12; accepted: up to gpus=8, the most that the 2 nodes of pool 'big'"),
        ({"gpus": 5, "pool": "big", "pods": 3}, "pods=3; accepted: up to pods=2,"),
        ({"gpus": 1, "pool": "ones", "pods": 17}, "pods=17; accepted: up to pods=16,"),
        ({"gpus": 8, "pool": "big", "pods": 3}, "the team has 16 nvidia.com/gpu at most"),
        ({"gpus": 1, "pool": "big", "cpu": "97"}, "cpu=97; accepted: up to cpu=96,"),
        ({"gpus": 1, "pool": "big", "memory": "1025Gi"}, "memory=1025Gi; accepted: up to memory=1024Gi,"),
        ({"gpus": 16, "pool": "big", "cpu": "100"}, "gpus=16, cpu=100; accepted: up to gpus=8, cpu=96,"),
        ({"cpu": "5"}, "cpu=5; accepted: up to cpu=4, the most that the 4 nodes of pool 'system'"),
        ({"cpu": "4", "pods": 5}, "pods=5; accepted: up to pods=4,"),
        ({"gpus": 8}, "Kueue may choose 'ones', whose nodes do not hold it; accepted: pool='big'"),
        ({"gpus": 1, "pool": "other"}, "pool='other'; accepted: 'big', 'ones', 'spot', 'near', 'mixed/3g.40gb' ("),
        ({"gpus": 1, "pool": "mixed/1g.10gb"}, "pool='mixed/1g.10gb'; accepted: 'big'"),
        (
            {"gpus": 1, "resource": "nvidia.com/mig-1g.10gb"},
            "gpus=1 of nvidia.com/mig-1g.10gb; accepted: gpus=0, or pool=",
        ),
        ({"gpus": 1, "pool": "big", "topology": "rack"}, "topology='rack'; accepted: none, no pool has one"),
        (
            {"gpus": 1, "pool": "near", "topology": "block"},
            "topology='block'; accepted: 'rack', 'kubernetes.io/hostname'",
        ),
        (
            {"gpus": 8, "pods": 2, "pool": "near", "topology": "kubernetes.io/hostname"},
            "pods=2; accepted: up to pods=1,",
        ),
        ({"gpus": 8, "pods": 3, "pool": "near", "topology": "rack"}, "pods=3; accepted: up to pods=2,"),
    ],
)
def test_what_no_pool_holds_is_refused_with_what_is_nearest(fields: dict[str, object], said: str) -> None:
    """In one line, which says whose it is."""
    with pytest.raises(ValueError, match=r"^team 'vision': ") as refused:
        check(shape(**fields), PLACES, who="team 'vision'")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pods": 0}, "pods=0; accepted: 1 to 100000"),
        ({"gpus": -1}, "gpus=-1; accepted: 0 to 100000"),
        ({"cpu": "0"}, "cpu='0'; accepted: cores"),
        ({"memory": "1G"}, "memory='1G'; accepted: Mi or Gi"),
        (
            {"pool": "big", "resource": "nvidia.com/gpu"},
            "resource='nvidia.com/gpu'; accepted: none where pool is given",
        ),
        ({"name": "A"}, "'A': accepted: a name"),
    ],
)
def test_a_shape_that_is_none_is_refused(change: dict[str, object], said: str) -> None:
    """Before it is asked what holds it."""
    with pytest.raises(ValueError, match="job ") as refused:
        JobShape(**({"name": "train"} | change))  # type: ignore[arg-type]
    assert said in str(refused.value)


def test_a_team_that_must_run_what_nothing_holds_is_refused() -> None:
    """In the data's own checks; each of a team's jobs has a name of its own."""
    job = JobShape(name="pretrain", pods=4, gpus=8, pool="big")
    with pytest.raises(ValueError, match="team 'vision': job 'pretrain': pods=4; accepted: up to pods=2"):
        TenancyArgs(
            teams=(Team(name="vision", owner="o", gpus={"big": 16}, jobs=(job,)),), pools=(BIG,), queueing=Queueing()
        )
    with pytest.raises(ValueError, match="'pretrain' is the name of two jobs"):
        Team(name="vision", owner="o", jobs=(job, job))


def test_the_nodes_without_gpus_give_a_pod_an_equal_part() -> None:
    """However the platform's own pods lie on them, one node has that much left: else a pod could wait for ever."""
    plain = PLACES[0]
    assert (plain.name, dict(plain.node)) == ("system", {"cpu": 4000, "memory": 16 * 1024})


def test_a_pool_whose_taints_a_job_may_not_tolerate_is_not_its_place() -> None:
    """Who names no pool is not taken to bear a loss, nor to say how close together its pods are to be."""
    assert [each.name for each in candidates(shape(gpus=1), PLACES)] == ["big", "ones"]
    assert [each.name for each in candidates(shape(gpus=1, topology="rack"), PLACES)] == ["near"]
    assert [each.name for each in candidates(shape(), PLACES)] == ["system"]
