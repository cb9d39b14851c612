"""What teams can get, what is in use, and what a Job would wait for: from data, and from objects as Kueue has them."""

import dataclasses as dc
import json
from fractions import Fraction
from typing import Any

import pytest
from click.testing import CliRunner

from components._shapes import JobShape
from components.gpu_node_pools import GpuPool
from components.tenancy import Queueing, Team, cluster_queue, cohort
from infra.capacity import commands
from infra.capacity.jobs import job_items, parse, text
from infra.capacity.parts import pool_items, team_items
from infra.capacity.preemption import victims
from infra.capacity.reading import empty, live
from infra.capacity.usage import Usage
from infra.clusters.nodes import Nodes, manifests
from infra.errors import BadInput, CouldNotRun
from stacks._schema import THROWAWAY, EmbeddedCluster, Environment, SystemNodes

GPU = "nvidia.com/gpu"
BIG = GpuPool(name="big", accelerator="NVIDIA-A100-SXM4-80GB", nodes=2, gpus_per_node=8, hourly_cost=10.0)
CUT = GpuPool(
    name="cut",
    accelerator="NVIDIA-A100-SXM4-80GB",
    min_nodes=0,
    max_nodes=2,
    gpus_per_node=1,
    mig={"3g.40gb": 1, "1g.10gb": 3},
    hourly_cost=6.0,
)
ENVIRONMENT = Environment(
    name="x",
    cluster=EmbeddedCluster(name="x"),
    state=THROWAWAY,
    system_nodes=SystemNodes(count=2, cpu=8, memory_gib=32),
    gpu_pools=(BIG, CUT),
    teams=(
        Team(name="vision", owner="o", gpus={"big": 8, "cut/1g.10gb": 6}, borrows={"big": 8}),
        Team(name="language", owner="o", gpus={"big": 8}, borrows={"big": 4, "cut/3g.40gb": 2}),
    ),
    queueing=Queueing(cpu=8, memory_gib=32, reclaim="Any", within_team="LowerPriority"),
)


def workload(
    name: str, team: str, gpus: int, *, priority: int = 0, at: int = 0, flavor: str = "big", finished: bool = False
) -> dict[str, Any]:
    """Return a Workload of a Job that has quota for GPUs of the flavor, since so many minutes after twelve."""
    usage = {GPU: str(gpus), "cpu": "1", "memory": "1Gi"}
    states = {"QuotaReserved": "True", "Admitted": "True"} | ({"Finished": "True"} if finished else {})
    return {
        "kind": "Workload",
        "metadata": {
            "namespace": f"team-{team}",
            "name": f"job-{name}-1",
            "ownerReferences": [{"kind": "Job", "name": name}],
        },
        "spec": {"queueName": "default", "priority": priority},
        "status": {
            "conditions": [
                {"type": kind, "status": status, "lastTransitionTime": f"2026-01-01T12:{at:02}:00Z"}
                for kind, status in states.items()
            ],
            "admission": {
                "clusterQueue": team,
                "podSetAssignments": [
                    {"name": "main", "flavors": dict.fromkeys(usage, flavor), "resourceUsage": usage, "count": 1}
                ],
            },
        },
    }


def waiting(team: str, *, priority: int = 0, active: bool = True) -> dict[str, Any]:
    """Return a Workload without quota."""
    metadata = {"namespace": f"team-{team}", "name": "job-waits-1"}
    spec = {"queueName": "default", "priority": priority, "active": active}
    return {"kind": "Workload", "metadata": metadata, "spec": spec}


def seen(*workloads: dict[str, Any], pods: tuple[dict[str, Any], ...] = (), env: Environment = ENVIRONMENT) -> Usage:
    """Return what a cluster of the environment says, with its nodes at their most."""
    args = env.tenancy
    assert args.queueing
    objects: list[dict[str, Any]] = [
        {"kind": "Cohort", "metadata": {"name": "kiban"}, "spec": cohort(args, args.queueing)}
    ]
    for team in args.teams:
        spec = cluster_queue(team, args, args.queueing)
        objects.append({"kind": "ClusterQueue", "metadata": {"name": team.name}, "spec": spec})
        local = {"namespace": team.namespace, "name": "default"}
        objects.append({"kind": "LocalQueue", "metadata": local, "spec": {"clusterQueue": team.name}})
    nodes = manifests(Nodes(system=env.system_nodes, gpu_pools=env.gpu_pools))
    return live([*objects, *workloads], nodes, pods)


def told(usage: Usage, team: str = "vision", priority: int = 0, **shape: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return what is said of a Job of the team."""
    fields: dict[str, Any] = {"gpus": 8, "pool": "big"} | shape
    asked = JobShape(name="job", **fields)
    (item,) = job_items(ENVIRONMENT, usage, asked, teams=[team], priority=priority)
    return item


def test_pools_and_teams_are_told_from_the_data_alone() -> None:
    """What there is at most, what is promised, and what it costs; nothing of what is in use."""
    usage = empty(ENVIRONMENT)
    pools = {item["pool"]: item for item in pool_items(ENVIRONMENT, usage)}
    assert list(pools) == ["big", "cut/3g.40gb", "cut/1g.10gb"]
    assert pools["big"] == {
        "pool": "big",
        "resource": GPU,
        "nodes": 2,
        "per_node": 8,
        "capacity": 16,
        "promised": 16,
        "cost_least": 20.0,
        "cost_most": 20.0,
    }
    assert (pools["cut/3g.40gb"]["nodes"], pools["cut/3g.40gb"]["cost_most"]) == ("0-2", 6.0)
    teams = {(item["team"], item["share"]): item for item in team_items(ENVIRONMENT, usage, ["vision"])}
    assert list(teams) == [("vision", "system"), ("vision", "big"), ("vision", "cut/1g.10gb")]
    assert teams["vision", "big"] == {
        "team": "vision",
        "share": "big",
        "resource": GPU,
        "guaranteed": 8,
        "at_most": 16,
        "cost_guaranteed": 10.0,
    }
    assert (teams["vision", "system"]["guaranteed"], teams["vision", "system"]["at_most"]) == (4, 8)
    assert teams["vision", "cut/1g.10gb"]["cost_guaranteed"] == 6.0
    assert told(usage)["now"] == "unknown"


def test_what_is_used_lent_and_idle_is_told_of_a_cluster() -> None:
    """A workload that has finished holds nothing; what a team has beyond its own is lent to it."""
    usage = seen(workload("a", "vision", 12), workload("b", "language", 2), workload("c", "vision", 2, finished=True))
    big = next(item for item in pool_items(ENVIRONMENT, usage) if item["pool"] == "big")
    assert {key: big[key] for key in ("nodes_there", "used", "lent", "idle", "cost_idle", "evidence")} == {
        "nodes_there": 2,
        "used": 14,
        "lent": 4,
        "idle": 2,
        "cost_idle": 2.5,
        "evidence": "simulated",
    }
    vision = next(item for item in team_items(ENVIRONMENT, usage, ["vision"]) if item["share"] == "big")
    assert (vision["used"], vision["borrowed"], vision["pending"]) == (12, 4, 0)


def test_what_waits_is_counted_by_team() -> None:
    """But for what its owner has put aside."""
    usage = seen(waiting("vision"), waiting("vision", active=False), waiting("language"))
    pending = {item["team"]: item["pending"] for item in team_items(ENVIRONMENT, usage, ["vision", "language"])}
    assert pending == {"vision": 1, "language": 1}


def test_a_job_is_admitted_where_quota_and_nodes_have_room() -> None:
    """Behind those that wait already, where they are as urgent."""
    assert told(seen())["now"] == "admitted"
    item = told(seen(waiting("vision"), waiting("vision", priority=-1)))
    assert item["into"] == "big"
    assert item["why"] == ["behind 1 workloads of the team that wait with that priority or a higher one"]


def test_a_job_that_the_nodes_are_too_full_for_waits_after_it_is_admitted() -> None:
    """Quota is a sum: one GPU on each node is taken, and no node has eight."""
    requests = {"resources": {"requests": {GPU: "1"}}}
    pods = tuple(
        {"spec": {"nodeName": f"big-{n}", "containers": [requests]}, "status": {"phase": "Running"}} for n in range(2)
    )
    item = told(seen(workload("a", "vision", 1), workload("b", "vision", 1), pods=pods))
    assert item["now"] == "admitted, waits for nodes"
    assert item["why"] == ["its nodes have room for 0 of 1 pods: the others wait until pods there have ended"]


def test_a_job_waits_for_whoever_holds_what_it_asks_for() -> None:
    """How much is missing, what the team could have, and whose workloads hold it, the largest first."""
    item = told(seen(workload("a", "vision", 4), workload("b", "vision", 12)))
    assert item["now"] == "waits"
    (why,) = item["why"]
    assert why == (
        "big lacks 8 nvidia.com/gpu (the team's own 8, 8 more at most); "
        "held by Job team-vision/b 12, Job team-vision/a 4"
    )


def test_a_team_takes_back_what_it_was_promised_from_who_has_borrowed_it() -> None:
    """The least urgent first, then the one admitted last, and no more than is needed; who borrows waits."""
    old, new, urgent = (
        workload("old", "vision", 4, at=1),
        workload("new", "vision", 4, at=2),
        workload("urgent", "vision", 8, at=3, priority=100),
    )
    item = told(seen(old, new, urgent), team="language")
    assert item["now"] == "admitted once others have ended"
    assert item["why"] == [
        "ends Job team-vision/new of team 'vision' (priority 0)",
        "ends Job team-vision/old of team 'vision' (priority 0)",
    ]
    (only,) = told(seen(old, new, urgent), team="language", gpus=4)["why"]
    assert "team-vision/new" in only
    beyond = workload("beyond", "language", 12)
    assert told(seen(beyond))["why"] == ["ends Job team-language/beyond of team 'language' (priority 0)"]
    assert told(seen(old, beyond))["now"] == "waits"  # it would have more than its own
    assert told(seen(workload("a", "vision", 8), workload("b", "language", 8)), gpus=4)["now"] == "waits"


def test_a_more_urgent_job_ends_the_teams_own() -> None:
    """But not one that is as urgent."""
    usage = seen(workload("a", "vision", 16, priority=10))
    assert told(usage, priority=10)["now"] == "waits"
    assert told(usage, priority=11)["why"] == ["ends Job team-vision/a of team 'vision' (priority 10)"]
    assert told(usage, priority=11, gpus=6, pods=2)["now"] == "waits"  # for more than its own it ends nobody


def test_a_policy_that_ends_nobody_is_followed() -> None:
    """As the environment's data says."""
    env = dc.replace(ENVIRONMENT, queueing=Queueing(cpu=8, memory_gib=32, reclaim="Never", within_team="Never"))
    usage = seen(workload("a", "vision", 16), env=env)
    asked = {("big", GPU): Fraction(8)}
    assert victims(usage, "language", asked, 1000) == []
    lower = dc.replace(ENVIRONMENT, queueing=Queueing(cpu=8, memory_gib=32, reclaim="LowerPriority"))
    usage = seen(workload("a", "vision", 16), env=lower)
    assert victims(usage, "language", asked, 0) == []
    assert [each.name for each in victims(usage, "language", asked, 1)] == ["Job team-vision/a"]


def test_a_job_that_no_pool_ever_holds_is_refused_with_what_is_nearest() -> None:
    """And it is said of which pools one that names no pool could be held."""
    item = told(seen(), gpus=9)
    assert (item["ever"], item["now"]) == ([], "refused")
    assert item["why"][0].startswith("gpus=9; accepted: up to gpus=8, the most that the 2 nodes of pool 'big'")
    assert told(seen(), gpus=8)["ever"] == ["big"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpus=8,gpus=4", "'gpus=4'; accepted: each of pods=, cpu=, memory="),
        ("gpu=8", "'gpu=8'; accepted: each of"),
        ("8", "'8'; accepted: each of"),
        ("gpus=many", "gpus='many'; accepted: a number"),
        ("cpu=0", "cpu='0'; accepted: cores"),
        ("pool=a,resource=b", "accepted: none where pool is given"),
    ],
)
def test_a_job_that_is_none_is_refused(text: str, said: str) -> None:
    """In one line."""
    with pytest.raises(BadInput, match="--job") as refused:
        parse(text)
    assert said in str(refused.value)


def test_a_job_is_read_and_written_alike() -> None:
    """What is not said is small."""
    shape, priority = parse("gpus=8,pods=4,cpu=4,memory=16Gi,pool=big,priority=kiban-training")
    assert shape == JobShape(name="job", gpus=8, pods=4, cpu="4", memory="16Gi", pool="big")
    assert priority == "kiban-training"
    assert parse(text(shape)) == (shape, None)


def run(*words: str) -> tuple[int, dict[str, Any], str]:
    """Run the verb and return its status, its document, and what it said beside."""
    done = CliRunner().invoke(commands.VERBS, ["capacity", *words, "--json"])
    return done.exit_code, json.loads(done.stdout), done.stderr


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no cluster answer."""

    def gone(environment: Environment) -> None:
        raise CouldNotRun(f"{environment.name} is not there")

    monkeypatch.setattr("infra.target.locate", gone)


@pytest.mark.usefixtures("nowhere")
def test_the_verb_needs_no_cluster() -> None:
    """It says so, and what the data say: of one team, or of all."""
    status, document, beside = run("prod", "--team", "research", "--job", "gpus=8,pods=4,cpu=64")
    assert status == 0
    assert "prod is not there; what follows is what the data say" in " ".join(beside.split())
    assert {item["team"] for item in document["items"] if "team" in item} == {"research"}
    (job,) = (item for item in document["items"] if "job" in item)
    assert (job["of"], job["ever"], job["now"]) == ("research", ["a100"], "unknown")


@pytest.mark.usefixtures("nowhere")
def test_the_verbs_status_says_whether_anybody_could_run_the_job() -> None:
    """1 where it would be refused of every team in question."""
    assert run("prod", "--job", "gpus=8")[0] == 0
    assert run("prod", "--job", "gpus=9")[0] == 1


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("prod", "--team", "x"), "--team x; accepted: vision, language, ranking, research"),
        (("prod", "--job", "gpus=1,priority=x"), "priority='x'; accepted: kiban-platform"),
        (("prod", "--job", "x"), "--job 'x'"),
        (("other",), "'other'"),
    ],
)
def test_bad_input_has_status_2(words: tuple[str, ...], said: str) -> None:
    """With what is accepted."""
    status, document, _ = run(*words)
    assert status == 2
    assert said in document["error"]
