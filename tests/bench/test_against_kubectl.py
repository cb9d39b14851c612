"""`kiban up`, again and `destroy` against kubectl for the same objects, in one run: figures are ratios.

Nothing here asserts a time. The goals stand beside the figures in the report.
"""

import json
import re
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkout import Checkout, copy_to
from tests.conftest import Record

FIXED_OBJECTS = 16
OBJECTS_A_TEAM = 5
PROGRAM = '''"""Many teams on one pool: {objects} objects."""

from components.gpu_node_pools import GpuPool
from components.tenancy import Team
from stacks._schema import EmbeddedCluster, Environment, State, SystemNodes

environment = Environment(
    name="bench",
    cluster=EmbeddedCluster(name="bench"),
    state=State(durable={durable}),
    system_nodes=SystemNodes(count=1),
    queueing=None,
    certificates=False,
    teams=tuple(Team(name=f"t{{n}}", owner="bench", gpus={{"a100": 8}}) for n in range({teams})),
    gpu_pools=(GpuPool(name="a100", accelerator="NVIDIA-A100-SXM4-80GB", nodes=1, gpus_per_node=8),),
)
'''


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    """Return a clean checkout with a running cluster `bench`, taken down at the end."""
    clean = copy_to(tmp_path / "checkout")
    write_environment(clean, objects=FIXED_OBJECTS + OBJECTS_A_TEAM, durable=False)  # of a pool some team has a part
    clean.run("cluster", "up", "bench", "--env", "bench", KIBAN_REAL_NODE="0")
    clean.run("tools", "build", "pulumi", "pulumi-resource-kubernetes", "kubectl")
    yield clean
    clean.run("cluster", "down", "bench", expect=None)


def write_environment(checkout: Checkout, *, objects: int, durable: bool) -> int:
    """Write stacks/bench.py for about this many objects and return how many they are."""
    teams = (objects - FIXED_OBJECTS) // OBJECTS_A_TEAM
    made = FIXED_OBJECTS + teams * OBJECTS_A_TEAM
    (checkout.root / "stacks" / "bench.py").write_text(PROGRAM.format(objects=made, teams=teams, durable=durable))
    return made


def timed(checkout: Checkout, *words: str, expect: int | None = 0) -> float:
    """Run `./kiban WORDS` and return the seconds it took."""
    start = time.monotonic()
    checkout.run(*words, expect=expect)
    return time.monotonic() - start


def manifests(checkout: Checkout) -> str:
    """Return a List of the objects of the stack, as the program asked for them."""
    exported = json.loads(checkout.shell('eval "$(./kiban env bench)"; pulumi stack export -s bench').stdout)
    inputs = [
        {key: value for key, value in resource["inputs"].items() if not key.startswith("__")}
        for resource in exported["deployment"]["resources"]
        if resource["type"].startswith("kubernetes:") and resource.get("custom")
    ]
    first = [item for item in inputs if item["kind"] == "Namespace"]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": first + [i for i in inputs if i not in first]})


def kubectl_seconds(checkout: Checkout, path: Path) -> dict[str, float]:
    """Return the seconds of kubectl's apply, diff and delete of the file, each a whole process."""
    seconds = {}
    binary = checkout.run("tools", "path", "kubectl").stdout.strip()
    kubeconfig = checkout.run("cluster", "kubeconfig", "bench").stdout.strip()
    for verb, words in {
        "up": ("apply", "--server-side", "--field-manager=bench"),
        "no-op": ("diff", "--server-side", "--field-manager=bench"),
        "destroy": ("delete", "--wait=true"),
    }.items():
        start = time.monotonic()
        checkout.shell_words(binary, "--kubeconfig", kubeconfig, *words, "-f", str(path), expect=0)
        seconds[verb] = time.monotonic() - start
    return seconds


def test_up_no_op_and_destroy(checkout: Checkout, full: bool, record: Record, tmp_path: Path) -> None:  # noqa: FBT001
    """The same objects by Kiban, throwaway and durable, and by kubectl, on one cluster in one run."""
    for objects in (100, 400, 1600) if full else (100,):
        ours: dict[str, float] = {}
        made = write_environment(checkout, objects=objects, durable=False)
        ours["up"] = timed(checkout, "up", "bench")
        ours["no-op"] = timed(checkout, "up", "bench")
        path = tmp_path / f"{objects}.json"
        path.write_text(manifests(checkout))
        assert len(json.loads(path.read_text())["items"]) == made
        ours["destroy"] = timed(checkout, "destroy", "bench", "--yes")
        theirs = kubectl_seconds(checkout, path)
        write_environment(checkout, objects=objects, durable=True)
        ours["durable up"] = timed(checkout, "up", "bench")
        checkout.run("cluster", "down", "bench")
        checkout.run("cluster", "up", "bench", "--env", "bench")
        goals = {"up": "≤ 2.5", "no-op": "≤ 2", "destroy": "-", "durable up": "≤ 4"}
        for verb, goal in goals.items():
            base = theirs[verb.removeprefix("durable ")]
            record(
                line=f"8 {verb}, {made} objects",
                evidence="executed",
                figure=f"{ours[verb] / base:.2f} x kubectl ({ours[verb]:.1f} s / {base:.1f} s)",
                goal=goal,
                command=f"./kiban {verb.split()[-1]} bench",
            )


def test_control_plane(checkout: Checkout, full: bool, record: Record) -> None:  # noqa: FBT001
    """How long a control plane takes to be ready against its API server's own start, and its memory."""
    ratios = []
    for _ in range(3 if full else 1):
        checkout.run("cluster", "down", "bench")
        said = checkout.run("cluster", "up", "bench", "--env", "bench").stderr
        found = re.search(r"ready after ([0-9.]+) s, of which the API server's own start ([0-9.]+) s", said)
        assert found, said
        ratios.append(float(found[1]) / float(found[2]))
    memory = checkout.json("cluster", "status", "bench")["items"][0]["memory_mib"]
    record(
        line="8 control plane ready",
        evidence="executed",
        figure=f"{statistics.median(ratios):.2f} x the API server's own",
        goal="-",
        command="./kiban cluster up bench",
    )
    record(
        line="8 control plane memory",
        evidence="executed",
        figure=f"{memory} MiB",
        goal="≤ 500 MB",
        command="./kiban cluster status bench --json",
    )
