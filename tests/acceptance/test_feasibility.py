"""No queue lets in what its nodes do not hold: generated environments, brought up, and Jobs of every size in them.

Executed: Kueue, the scheduler and the API server's rules, on an embedded cluster with a real node. Simulated: the nodes
of the pools, and what the Jobs do. The seeds are fixed, and a failure names its own.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.gpu_node_pools import GpuPool
from components.tenancy import Queueing, Team
from infra.clusters.waiting import until
from stacks._schema import THROWAWAY, EmbeddedCluster, Environment, SystemNodes
from tests import generated
from tests.checkout import Checkout, copy_to
from tests.conftest import Record
from tests.generated import NAME, Model, Object

COMMAND = "./kiban test --full -- tests/acceptance/test_feasibility.py"
JOBS = 30
SEEDS, SEEDS_OF_THE_SMALL_RUN = 40, 3
BOUND = 180.0  # seconds
IMPORTS = """\
from components._shapes import JobShape
from components.foundation import FoundationArgs
from components.gpu_node_pools import Existing, GpuPool, Taint
from components.tenancy import Queueing, Team
from stacks._schema import EmbeddedCluster, Environment, State, SystemNodes
"""
ONES = GpuPool(name="ones", accelerator="Tesla-T4", nodes=16, gpus_per_node=1, cpu=8, memory_gib=32)
BIG = GpuPool(name="big", accelerator="NVIDIA-A100-SXM4-80GB", nodes=2, gpus_per_node=8, cpu=96, memory_gib=1024)
TWO_POOLS = Environment(
    name=NAME,
    cluster=EmbeddedCluster(name=NAME),
    state=THROWAWAY,
    system_nodes=SystemNodes(count=2, cpu=8, memory_gib=32),
    gpu_pools=(ONES, BIG),
    teams=(
        Team(name="alpha", owner="tests", gpus={"ones": 16, "big": 8}, borrows={"big": 8}),
        Team(name="beta", owner="tests", gpus={"big": 8}, borrows={"big": 8}),
        Team(name="gamma", owner="tests"),
    ),
    queueing=Queueing(cpu=8, memory_gib=32, reclaim="Any", within_team="LowerPriority"),
    certificates=False,
)
"""The resource of one has two pools; Kueue tries the smaller nodes first."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Yield a checkout whose cluster is gone when it ends."""
    clean = copy_to(tmp_path_factory.mktemp("checkout"))
    try:
        yield clean
    finally:
        clean.run("cluster", "down", NAME, expect=None)


def bring_up(checkout: Checkout, env: Environment) -> None:
    """Write the environment as a file of values and bring it up."""
    file = Path(checkout.root, "stacks", f"{NAME}.py")
    file.write_text(f'"""Generated."""\n\n{IMPORTS}\nenvironment = {env!r}\n')
    checkout.run("up", NAME)


def items(checkout: Checkout, kind: str) -> list[Object]:
    """Return all objects of a kind."""
    found: list[Object] = json.loads(checkout.kubectl(NAME, "get", kind, "-A", "-o", "json"))["items"]
    return found


def submit(checkout: Checkout, jobs: list[Object]) -> dict[str, str]:
    """Create the Jobs and return why each that was refused was, by its name. One alone kubectl words differently."""
    everything = {"apiVersion": "v1", "kind": "List", "items": jobs}
    done = checkout.try_kubectl(NAME, "create", "-f", "-", stdin=json.dumps(everything))
    refused = {}
    for line in done.stderr.splitlines():
        found = re.search(r'jobs(\.batch)? "(?P<job>[^"]+)" is (forbidden|invalid): (?P<why>.*)', line)
        assert found, line
        refused[found["job"]] = found["why"]
    return refused


def done(job: Object) -> bool:
    """Whether the Job is complete."""
    conditions = job.get("status", {}).get("conditions", ())
    return any((each["type"], each["status"]) == ("Complete", "True") for each in conditions)


def flavors(workload: Object) -> set[str]:
    """Return the flavors that a Workload was admitted to; none where it was not."""
    admission = workload.get("status", {}).get("admission") or {"podSetAssignments": ()}
    return {flavor for pods in admission["podSetAssignments"] for flavor in pods.get("flavors", {}).values()}


def clear(checkout: Checkout) -> None:
    """Take all Jobs away, and wait until their workloads have gone."""
    for team in generated.TEAMS:
        checkout.kubectl(NAME, "-n", f"team-{team}", "delete", "jobs", "--all", "--wait=true")
    until(lambda: not items(checkout, "workloads.kueue.x-k8s.io"), seconds=60, what="no workload", every=1)


@pytest.mark.full
def test_what_is_let_in_is_held(checkout: Checkout, record: Record, *, full: bool) -> None:
    """Every Job is refused as the model says, or runs to its end where Kueue has put it, or Kueue never lets it in."""
    seeds = range(SEEDS if full else SEEDS_OF_THE_SMALL_RUN)
    ran = refusals = 0
    for seed in seeds:
        ended, refused = check(checkout, seed)
        ran, refusals = ran + ended, refusals + refused
    assert ran
    assert refusals
    record(
        line=f"10.3 {len(seeds)} generated environments",
        evidence="executed",
        figure=f"{ran} Jobs let in, all ran (simulated); {refusals} refused, none of which all its nodes hold",
        goal="40 never let in what nodes cannot hold",
        command=COMMAND,
    )


def check(checkout: Checkout, seed: int) -> tuple[int, int]:
    """Bring the seed's environment up and give it its Jobs; return how many ran and how many were refused."""
    env = generated.environment(seed)
    model = Model.of(env)
    assert list(model.beyond()) == [], seed
    bring_up(checkout, env)
    jobs = {job["metadata"]["name"]: job for job in generated.jobs(env, seed, JOBS)}
    refused = submit(checkout, list(jobs.values()))
    assert refused.keys() == {name for name, job in jobs.items() if generated.refused(job, env)}, (seed, refused)
    for name in refused:  # of the nodes without GPUs, the platform's own pods may have all but an equal part
        assert model.losing(jobs[name]) or "system" in model.chosen(jobs[name]), (seed, name)
    runs = {name for name, job in jobs.items() if name not in refused and model.chosen(job)}
    ended: set[str] = set()

    def all_ended() -> bool:
        ended.update(job["metadata"]["name"] for job in items(checkout, "jobs") if done(job))
        return runs <= ended

    until(all_ended, seconds=BOUND, what=f"seed {seed}: all of {sorted(runs)}", every=1)
    assert ended == runs, seed
    for workload in items(checkout, "workloads.kueue.x-k8s.io"):
        (owner,) = workload["metadata"]["ownerReferences"]
        assert flavors(workload) <= set(model.chosen(jobs[owner["name"]])), (seed, owner)
        assert bool(flavors(workload)) == (owner["name"] in runs), (seed, owner)
    for pod in items(checkout, "pods"):
        if pod["metadata"]["namespace"].startswith("team-"):
            assert pod["spec"]["nodeName"].rpartition("-")[0] in model.chosen(
                jobs[pod["metadata"]["labels"]["job-name"]]
            )
    clear(checkout)
    return len(runs), len(refused)


@pytest.fixture(scope="module")
def two_pools(checkout: Checkout) -> Checkout:
    """Return the checkout with two pools of one resource, of 1 and 8 on a node."""
    bring_up(checkout, TWO_POOLS)
    return checkout


def of_team(name: str, team: str, gpus: int, **more: Any) -> Object:  # noqa: ANN401
    """Return a Job of a team for GPUs, which runs until it is taken away."""
    asked = {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": str(gpus)}
    return generated.job(name, f"team-{team}", asked, lasts="1h", **more)


def asked(checkout: Checkout, team: str, shape: str, *, status: int = 0) -> dict[str, Any]:
    """Return what `kiban capacity` says of a Job of the team."""
    found = checkout.json("capacity", NAME, "--job", shape, "--team", team, expect=status)["items"]
    (item,) = (each for each in found if "job" in each)
    assert isinstance(item, dict)
    return item


def running(checkout: Checkout, name: str) -> bool:
    """Whether the Job's pods are ready."""
    return any(job["metadata"]["name"] == name and job["status"].get("ready") for job in items(checkout, "jobs"))


@pytest.mark.full
def test_capacity_tells_what_kueue_then_does(two_pools: Checkout, record: Record) -> None:
    """What is used, lent and idle; that a Job would be let in, would end another one, would wait, or is refused."""
    big = {"selector": {"kiban.dev/pool": "big"}}
    eight = "gpus=8,pool=big"
    assert asked(two_pools, "alpha", eight)["now"] == "admitted"
    submit(two_pools, [of_team("own", "alpha", 8, **big)])
    until(lambda: running(two_pools, "own"), seconds=60, what="own", every=0.5)
    submit(two_pools, [of_team("borrowed", "alpha", 8, **big)])
    until(lambda: running(two_pools, "borrowed"), seconds=60, what="borrowed", every=0.5)
    document = two_pools.json("capacity", NAME)["items"]
    (pool,) = (each for each in document if each.get("pool") == "big")
    assert {key: pool[key] for key in ("capacity", "promised", "used", "lent", "idle")} == {
        "capacity": 16,
        "promised": 16,
        "used": 16,
        "lent": 8,
        "idle": 0,
    }
    (part,) = (each for each in document if (each.get("team"), each.get("share")) == ("alpha", "big"))
    assert (part["guaranteed"], part["at_most"], part["used"], part["borrowed"]) == (8, 16, 16, 8)
    waits = asked(two_pools, "alpha", eight)
    assert waits["now"] == "waits"
    assert "big lacks 8 nvidia.com/gpu" in waits["why"][0]
    assert "Job team-alpha/own" in waits["why"][0]
    urgent = asked(two_pools, "alpha", f"{eight},priority=kiban-serving")
    assert urgent["now"] == "admitted once others have ended"
    takes_back = asked(two_pools, "beta", eight)
    assert takes_back["now"] == "admitted once others have ended"
    (ends,) = takes_back["why"]
    assert "of team 'alpha'" in ends
    refused = asked(two_pools, "alpha", "gpus=12", status=1)
    assert (refused["now"], refused["ever"]) == ("refused", [])
    submit(two_pools, [of_team("promised", "beta", 8, **big)])
    until(lambda: running(two_pools, "promised"), seconds=60, what="promised", every=0.5)
    left = next(name for name in ("own", "borrowed") if f"Job team-alpha/{name} " in ends)
    assert not running(two_pools, left)
    clear(two_pools)
    record(
        line="10 capacity: used, lent, idle; what a Job would wait for and why",
        evidence="executed",
        figure=f"as Kueue then did: {ends}",
        goal="-",
        command=f"./kiban capacity ENV --job {eight} --team T",
    )


@pytest.mark.full
def test_without_the_rules_the_queue_lets_in_what_no_node_holds(two_pools: Checkout, record: Record) -> None:
    """What shows that the tests above can fail: the same Jobs, once refused and once let in, to wait for ever."""
    hostile = [
        of_team("wrong-pool", "alpha", 8),
        of_team("too-many", "beta", 5, pods=3, selector={"kiban.dev/pool": "big"}),
    ]
    assert submit(two_pools, hostile).keys() == {"wrong-pool", "too-many"}
    for kind in ("jobs", "pods"):
        two_pools.kubectl(NAME, "delete", "validatingadmissionpolicybinding", f"kiban-{kind}-fit-a-node")
    until(lambda: not submit(two_pools, [of_team("probe", "alpha", 8)]), seconds=30, what="no rule", every=1)
    assert submit(two_pools, hostile) == {}

    def stuck() -> set[str]:
        return {
            pod["metadata"]["labels"]["job-name"]
            for pod in items(two_pools, "pods")
            for each in pod["status"].get("conditions", ())
            if (each["type"], each.get("reason")) == ("PodScheduled", "Unschedulable")
            and "job-name" in pod["metadata"]["labels"]
        }

    until(lambda: {"wrong-pool", "too-many"} <= stuck(), seconds=60, what="pods that no node takes", every=1)
    admitted = {
        workload["metadata"]["ownerReferences"][0]["name"]: flavors(workload)
        for workload in items(two_pools, "workloads.kueue.x-k8s.io")
    }
    assert admitted["wrong-pool"] == {"ones"}
    assert admitted["too-many"] == {"big"}
    clear(two_pools)
    record(
        line="10.3 the same without the rules",
        evidence="executed",
        figure="8 GPUs sent to nodes of 1, three pods of 5 to two nodes of 8; no node takes them",
        goal="the test can fail",
        command=COMMAND,
    )
