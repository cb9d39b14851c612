"""What the rules say that keep out of the queues what no node holds, and what a model proves of them.

Whether the API server understands them is asked of one in tests/integration/test_node_fit.py.
"""

import pytest

from components._node_fit import rules
from components._shapes import JobShape, fits, nearest
from components.gpu_node_pools import GpuPool
from components.tenancy import Queueing, Team, TenancyArgs
from tests import generated
from tests.generated import Model, refused

BIG = GpuPool(name="big", accelerator="NVIDIA-A100-SXM4-80GB", nodes=2, gpus_per_node=8, cpu=96, memory_gib=1024)
MIXED = GpuPool(
    name="mixed", accelerator="NVIDIA-A100-SXM4-80GB", nodes=1, gpus_per_node=2, mig={"3g.40gb": 1, "1g.10gb": 3}
)
TEAM = Team(name="vision", owner="o", gpus={"big": 8, "mixed/3g.40gb": 1}, borrows={"big": 8})
PLACES = TenancyArgs(teams=(TEAM,), pools=(BIG, MIXED), queueing=Queueing(cpu=16, memory_gib=64)).places(TEAM)


def test_the_rules_hold_in_namespaces_of_teams_for_what_is_made_there() -> None:
    """For Jobs and for pods of whoever; what is there already is not judged again."""
    found = rules({"vision": PLACES})
    assert list(found) == ["kiban-jobs-fit-a-node", "kiban-pods-fit-a-node"]
    for spec in found.values():
        where = spec["matchConstraints"]
        assert where["namespaceSelector"]["matchExpressions"] == [{"key": "kiban.dev/team", "operator": "Exists"}]
        assert [rule["operations"] for rule in where["resourceRules"]] == [["CREATE"]]
        assert spec["failurePolicy"] == "Fail"


def test_the_rules_have_the_numbers_of_the_data() -> None:
    """Per node, of all nodes, and of the team's part."""
    said = {
        each["name"]: each["expression"] for each in rules({"vision": PLACES})["kiban-pods-fit-a-node"]["variables"]
    }
    assert said["resources"] == (
        "['cpu', 'memory', 'nvidia.com/gpu', 'nvidia.com/mig-3g.40gb', 'nvidia.com/mig-1g.10gb']"
    )
    assert "'big': [96.0, 1048576.0, 8.0, 0.0, 0.0]" in said["node"]
    assert "'big': [192.0, 2097152.0]" in said["whole"]
    assert "{'vision': {'system': [0.0, 0.0, 0.0], 'big': [16.0, 0.0, 0.0]" in said["teams"]


def test_the_rules_of_a_large_environment_are_short_enough() -> None:
    """CEL takes 100,000 characters an expression; 200 teams in four of eight pools are far below."""
    pools = tuple(GpuPool(name=f"pool{n}", accelerator="Tesla-T4", gpus_per_node=8, nodes=1000) for n in range(8))
    teams = [
        Team(name=f"team{n}", owner="o", gpus={f"pool{(n + part) % 8}": 8 for part in range(4)}) for n in range(200)
    ]
    args = TenancyArgs(teams=tuple(teams), pools=pools, queueing=Queueing())
    specs = rules({team.name: args.places(team) for team in teams})
    lengths = [len(each["expression"]) for spec in specs.values() for each in spec["variables"]]
    assert max(lengths) < 30_000


@pytest.mark.parametrize("seed", range(60))
def test_no_generated_environment_lets_in_what_its_nodes_do_not_hold(seed: int) -> None:
    """A model of Kueue's sums and of first fit: what the rules let in is held wherever Kueue may send it.

    And no more is promised than there is.
    """
    env = generated.environment(seed)
    model = Model.of(env)
    assert list(model.beyond()) == []
    for job in generated.jobs(env, seed, 40):
        if not refused(job, env):
            assert model.losing(job) == [], job


@pytest.mark.parametrize("seed", range(60))
def test_what_is_refused_would_be_lost_somewhere(seed: int) -> None:
    """Nothing is refused that every node which Kueue may choose would hold, but of the nodes without GPUs.

    Of those the platform's own pods take a part, which this model does not know.
    """
    env = generated.environment(seed)
    model = Model.of(env)
    for job in generated.jobs(env, seed, 40):
        if refused(job, env):
            assert model.losing(job) or "system" in model.chosen(job), job


def test_without_the_rules_there_is_a_hole() -> None:
    """The model finds Jobs that Kueue would let in and no node holds: without this it would prove nothing."""
    found = 0
    for seed in range(50):
        env = generated.environment(seed)
        model = Model.of(env)
        found += sum(bool(model.losing(job)) for job in generated.jobs(env, seed, 40))
    assert found > 50


@pytest.mark.parametrize("seed", range(40))
def test_the_nearest_shape_is_one_that_is_held(seed: int) -> None:
    """And in nothing larger than what was asked for."""
    env = generated.environment(seed)
    for team in env.teams:
        for there in env.tenancy.places(team):
            for share in there.offers:
                asked = JobShape(name="train", pods=9, gpus=9, cpu="20", memory="100Gi", pool=share)
                least = nearest(asked, there)
                assert fits(least, there), (asked, there, least)
                assert least.pods <= asked.pods
                assert least.gpus <= asked.gpus
