"""How letting Jobs in grows: 10, 100 and 1,000 nodes of eight GPUs, a team for five nodes, two Jobs a node.

Executed: the control plane, Kueue, and the rules that judge each Job and pod. Simulated: nodes, and what runs there.
Nothing here asserts a time or a size; the goals stand beside the figures in the report.
"""

import functools
import json
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from infra.clusters.waiting import until
from tests import generated
from tests.bench.sampling import Largest
from tests.checkout import Checkout, copy_to
from tests.conftest import Record

pytestmark = pytest.mark.full
NODES = (10, 100, 1000)
EVERY = 0.5  # seconds
COMMAND = "pytest --full tests/bench/test_capacity.py"
ENVIRONMENT = '''"""{nodes} nodes with eight GPUs in two pools, for {teams} teams with a part of one each."""

from components.gpu_node_pools import GpuPool
from components.tenancy import Queueing, Team
from stacks._schema import THROWAWAY, EmbeddedCluster, Environment, SystemNodes

environment = Environment(
    name="scale",
    cluster=EmbeddedCluster(name="scale{nodes}"),
    state=THROWAWAY,
    system_nodes=SystemNodes(count=2),
    queueing=Queueing(cpu=16, memory_gib=64),
    certificates=False,
    teams=tuple(
        Team(name=f"team{{n}}", owner="scale", gpus={{f"pool{{n % 2}}": 40}}, borrows={{f"pool{{n % 2}}": {borrows}}})
        for n in range({teams})
    ),
    gpu_pools=tuple(
        GpuPool(name=f"pool{{n}}", accelerator="NVIDIA-A100-SXM4-80GB", nodes={nodes} // 2, gpus_per_node=8)
        for n in range(2)
    ),
)
'''


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Return a clean checkout."""
    clean = copy_to(tmp_path_factory.mktemp("checkout"))
    clean.run("--version")
    yield clean
    for nodes in NODES:
        clean.run("cluster", "down", f"scale{nodes}", expect=None)


def jobs(teams: int) -> list[dict[str, Any]]:
    """Return ten Jobs of four GPUs a team, which run until they are taken away: all that the teams were promised."""
    asked = {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "4"}
    return [
        generated.job(f"job-{number}", f"team-team{team}", asked, lasts="2h")
        for number in range(10)
        for team in range(teams)
    ]


@pytest.mark.parametrize("nodes", NODES)
def test_jobs_for_all_devices_at_once(checkout: Checkout, nodes: int, record: Record) -> None:
    """From the last one's being submitted until all are admitted, and until all run; what the API server takes."""
    teams, cluster = nodes // 5, f"scale{nodes}"
    borrows = min(40, nodes // 2 * 8 - 40)  # a pool of five nodes is one team's own
    written = ENVIRONMENT.format(nodes=nodes, teams=teams, borrows=borrows)
    (checkout.root / "stacks" / "scale.py").write_text(written)
    checkout.run("up", "scale")
    (pid,) = (
        item["pid"]
        for item in checkout.json("cluster", "status", cluster)["items"]
        if item.get("process") == "kube-apiserver"
    )
    kubectl = functools.partial(checkout.kubectl, cluster)
    made = jobs(teams)

    def admitted_ones() -> int:
        return sum("True" in row for row in kubectl("get", "workloads", "-A", "--no-headers").splitlines())

    def running_ones() -> int:
        query = ("-l", "job-name", "--field-selector=status.phase=Running")
        return len(kubectl("get", "pods", "-A", "--no-headers", *query).splitlines())

    server = psutil.Process(pid)
    with Largest(lambda: server.memory_info().rss >> 20, EVERY) as memory:
        began = time.monotonic()
        kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": made}))
        submitted = time.monotonic()
        until(lambda: admitted_ones() == len(made), seconds=1800, what=f"{len(made)} Jobs admitted", every=1)
        admitted = time.monotonic()
        until(lambda: running_ones() == len(made), seconds=1800, what=f"{len(made)} pods running", every=1)
        ran = time.monotonic()
    at = time.monotonic()
    told = checkout.json("capacity", "scale", "--job", "gpus=4", "--team", "team0")["items"]
    asked = time.monotonic() - at
    assert sum(item["idle"] for item in told if "pool" in item) == 0
    assert next(item["now"] for item in told if "job" in item) == "waits"
    checkout.run("cluster", "down", cluster)
    record(
        line=f"10.4 {nodes} nodes, {nodes * 8} GPUs, {teams} teams, {len(made)} Jobs",
        evidence="executed",
        figure=f"all admitted {admitted - submitted:.0f} s, and running (simulated) {ran - submitted:.0f} s after the "
        f"last was submitted; to submit them {submitted - began:.0f} s; API server {memory.largest} MiB; "
        f"`kiban capacity` {asked:.1f} s",
        goal="≤ 60 s, ≤ 2048 MiB" if nodes == max(NODES) else "-",
        command=COMMAND,
    )
