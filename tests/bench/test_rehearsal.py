"""How the cost of a rehearsal grows: 10, 100 and 1,000 nodes of eight GPUs, a team for five nodes, at most 200.

Executed: the control plane and the platform's own pods, where the cluster has a real node. Simulated: the nodes with
GPUs and what runs there. Nothing here asserts a time or a size; the goals stand beside the figures in the report.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.clusters.embedded import node
from infra.rehearsal.places import CLUSTER
from tests.bench.sampling import Largest
from tests.checkout import Checkout, copy_to
from tests.conftest import Record

pytestmark = pytest.mark.full
NODES = (10, 100, 1000)
FIRST = "first"
STEPS = ["install", "upgrade", "second up", "rollback", "upgrade again", "destroy"]
TESTED = {"admission", "idempotent", "rollback", "destroy", "quota", "pools-admit", "schedulable", "ready", "in-flight"}
EVERY = 5.0  # seconds
COMMAND = "pytest --full tests/bench/test_rehearsal.py"
ENVIRONMENT = '''"""{nodes} nodes with GPUs in four pools, for {teams} teams, each in two or three of them.

As stacks/local.py, without models and without the loop, which has two templates and a rule of Alertmanager's a team.
"""

from components.gpu_node_pools import GpuPool
from components.metadata_store import InCluster, MetadataStoreArgs
from components.monitoring import MonitoringArgs
from components.pipeline_engine import PipelineEngineArgs
from components.serving_stack import ServingStackArgs
from components.tenancy import Queueing, Team
from stacks._schema import THROWAWAY, EmbeddedCluster, Environment, SystemNodes

environment = Environment(
    name="scale{nodes}",
    cluster=EmbeddedCluster(name="scale{nodes}"),
    state=THROWAWAY,
    system_nodes=SystemNodes(count={system}),
    queueing=Queueing(cpu={system} * 8, memory_gib={system} * 32),
    metadata=MetadataStoreArgs(
        postgres=InCluster(storage_gib=2), object_store=InCluster(storage_gib=5), expire_days=30, protect=False
    ),
    pipelines=PipelineEngineArgs(parallelism_per_team=10),
    serving=ServingStackArgs(),
    monitoring=MonitoringArgs(),
    teams=tuple(
        Team(
            name=f"team{{n}}",
            owner="scale",
            gpus={{("a100", "h100")[n % 2]: 24, "a100-mig": 14}} | ({{}} if n % 4 else {{"l4-spot": 8}}),
            borrows={{("a100", "h100")[n % 2]: 8, "a100-mig": 14}},
        )
        for n in range({teams})
    ),
    gpu_pools=(
        GpuPool(
            name="h100",
            accelerator="NVIDIA-H100-80GB-HBM3",
            nodes={nodes} * 4 // 10,
            gpus_per_node=8,
            topology=("kubernetes.io/hostname",),
        ),
        GpuPool(name="a100", accelerator="NVIDIA-A100-SXM4-80GB", nodes={nodes} * 4 // 10, gpus_per_node=8),
        GpuPool(
            name="a100-mig",
            accelerator="NVIDIA-A100-SXM4-80GB",
            nodes={nodes} // 10,
            gpus_per_node=8,
            mig_profile="1g.10gb",
        ),
        GpuPool(name="l4-spot", accelerator="NVIDIA-L4", nodes={nodes} // 10, gpus_per_node=8, spot=True),
    ),
)
'''


class Memory(Largest):
    """The most that a rehearsal, its verbs, its cluster and the pods there have resident together, in MiB.

    Of what processes share each has its part (PSS), so that the sum is what is taken from the machine.
    """

    def __init__(self, checkout: Checkout, environment: str) -> None:
        super().__init__(self._together, EVERY)
        self._root = str(checkout.root)
        self._pods = node.cgroup(checkout.root / ".kiban" / "rehearsals" / environment / "clusters" / CLUSTER)

    def _together(self) -> int:
        return sum(self._size(process) for process in psutil.process_iter()) >> 20

    def _size(self, process: psutil.Process) -> int:
        try:
            return int(process.memory_full_info().pss) if self._is_ours(process) else 0
        except (psutil.Error, OSError):  # it has ended
            return 0

    def _is_ours(self, process: psutil.Process) -> bool:
        """Whether it was started by a command in the checkout, or in a pod of the cluster."""
        if any(self._root in each for each in (process.cwd(), *process.environ().values())):
            return True
        return self._pods in Path(f"/proc/{process.pid}/cgroup").read_text()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Yield a checkout with git, whose first commit has an environment a size, and whose working tree is one on."""
    clean = copy_to(tmp_path_factory.mktemp("repository"))
    files = [write_environment(clean, nodes) for nodes in NODES]
    clean.shell(
        "git init --quiet && git add --all && git -c user.name=a -c user.email=a@b commit --quiet -m first "
        f"&& git -c user.name=a -c user.email=a@b tag --annotate {FIRST} -m first"
    )
    for file in files:
        file.write_text(file.read_text().replace("expire_days=30", "expire_days=31"))
    clean.run("environments")
    yield clean
    clean.run("environments")  # takes down what a rehearsal that failed has left


def write_environment(checkout: Checkout, nodes: int) -> Path:
    """Write the environment of so many nodes with GPUs and return its file."""
    file = checkout.root / "stacks" / f"scale{nodes}.py"
    file.write_text(ENVIRONMENT.format(nodes=nodes, teams=min(200, nodes // 5), system=2 + nodes // 50))
    return file


@pytest.mark.parametrize("nodes", NODES)
def test_a_rehearsal_of_so_many_nodes(repository: Checkout, nodes: int, record: Record) -> None:
    """All of its steps, without a finding."""
    environment = f"scale{nodes}"
    with Memory(repository, environment) as memory:
        began = time.monotonic()
        done = repository.run("rehearse", environment, "--from", FIRST, "--json", expect=None)
        seconds = time.monotonic() - began
    assert done.returncode in (0, 1), done.stderr[-4000:]
    items: list[dict[str, Any]] = json.loads(done.stdout)["items"]
    whole = items[0]
    record(
        line=f"8.4 rehearse {nodes} nodes, {nodes * 8} GPUs, {min(200, nodes // 5)} teams",
        evidence=whole["evidence"],
        figure=f"{seconds:.0f} s ({spent(items)}); {whole['objects']} objects; {memory.largest} MiB, of which the "
        f"control plane {whole['peak_memory_mib']} MiB",
        goal="≤ 300 s, ≤ 4096 MiB" if nodes == max(NODES) else "-",
        command=COMMAND,
    )
    findings = [item for item in items if "finding" in item]
    assert not findings, json.dumps(findings[:20], indent=1)
    assert done.returncode == 0, done.stderr[-4000:]
    assert [item["step"] for item in items if "ok" in item] == STEPS
    passed = {item["check"] for item in items if item.get("outcome") == "passed"}
    assert passed >= TESTED


def spent(items: list[dict[str, Any]]) -> str:
    """Return what each step's verb took; the rest of the time is the cluster's start, the workloads and the checks."""
    return ", ".join(f"{item['step']} {item['seconds']:.0f}" for item in items if "ok" in item)
