"""Training on many nodes: prod's H100 pool, in blocks of eight nodes and racks of four, with Kueue and JobSet.

Executed: who is admitted and where the pods are put, by Kueue, JobSet, the Job controller and the scheduler; and four
workers that talk to each other in real pods. Simulated: the nodes with GPUs, and that anything runs on them.
"""

import copy
import functools
import json
import re
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

import stacks
from components._pools import HOST
from infra.clusters.waiting import until
from tests.checkout import ROOT, Checkout
from tests.conftest import Record

pytestmark = pytest.mark.full

FABRIC = '''
    """Prod's H100 pool alone, for one team."""

    from components.tenancy import Queueing, Team
    from stacks._schema import THROWAWAY, EmbeddedCluster, Environment, SystemNodes
    from stacks.prod import environment as prod

    environment = Environment(
        name="fabric",
        cluster=EmbeddedCluster(name="fabric"),
        state=THROWAWAY,
        system_nodes=SystemNodes(count=1, cpu=8, memory_gib=32),
        queueing=Queueing(jobsets=True),
        certificates=False,
        teams=(Team(name="language", owner="language-oncall", gpus={"h100": 128}),),
        gpu_pools=tuple(pool for pool in prod.gpu_pools if pool.name == "h100"),
    )
'''
NAMESPACE = "team-language"
(POOL,) = (pool for pool in stacks.load("prod").gpu_pools if pool.name == "h100")
BLOCK, RACK = POOL.wider_levels
(SAMPLE,) = yaml.safe_load_all((ROOT / "docs" / "how-to" / "train-on-many-nodes.yaml").read_text())
ALL_REDUCE = (ROOT / "docs" / "how-to" / "all-reduce.yaml").read_text()
IMAGE = "ghcr.io/kiban-dev/training:3.17.2"
Placed = dict[str, dict[str, str]]


class Fabric:
    """The cluster: JobSets like the sample, and where their pods are."""

    def __init__(self, checkout: Checkout) -> None:
        self.checkout = checkout
        self.kubectl: Callable[..., str] = functools.partial(checkout.kubectl, "fabric")

    def objects(self, kind: str, *words: str) -> list[dict[str, Any]]:
        """Return objects of the team's namespace."""
        listed: list[dict[str, Any]] = json.loads(self.kubectl("-n", NAMESPACE, "get", kind, *words, "-o", "json"))[
            "items"
        ]
        return listed

    def train(self, name: str, nodes: int, **close: str) -> None:
        """Start the sample under another name on so many nodes. close: how it says where, and of which level."""
        made = copy.deepcopy(SAMPLE)
        made["metadata"]["name"] = name
        job = made["spec"]["replicatedJobs"][0]["template"]["spec"]
        job |= {"parallelism": nodes, "completions": nodes}
        annotations = {"simulation.kiban.dev/duration": "1h"}
        annotations |= {f"kueue.x-k8s.io/podset-{how}-topology": level for how, level in close.items()}
        job["template"]["metadata"]["annotations"] = annotations
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(made))

    def placed(self, name: str) -> Placed:
        """Return the node's labels of each pod of a JobSet that runs, by the pod's name."""
        labels = {
            node["metadata"]["name"]: node["metadata"]["labels"]
            for node in self.objects("nodes", "-l", "kiban.dev/pool=h100")
        }
        pods = self.objects("pods", "-l", f"jobset.sigs.k8s.io/jobset-name={name}")
        return {
            pod["metadata"]["name"]: labels[pod["spec"]["nodeName"]]
            for pod in pods
            if pod["status"]["phase"] == "Running" and pod["spec"].get("nodeName") in labels
        }

    def runs(self, name: str, nodes: int, seconds: float = 120) -> Placed:
        """Wait until a JobSet runs on so many nodes, each its own, and return where."""

        def there() -> bool:
            return len({labels[HOST] for labels in self.placed(name).values()}) == nodes

        until(there, seconds=seconds, what=f"{name} to run on {nodes} nodes", every=0.5)
        placed = self.placed(name)
        assert len(placed) == nodes
        return placed

    def why(self, name: str) -> str:
        """Return what `kiban status` says of why a JobSet waits; empty where it does not."""
        items = self.checkout.json("status", "fabric")["items"]
        said = [item["why"] for item in items if item.get("pending") == f"JobSet {NAMESPACE}/{name}"]
        return said[0] if said else ""

    def evictions(self, name: str) -> list[str]:
        """Return why a JobSet's workload was ever evicted."""
        (workload,) = (
            each
            for each in self.objects("workloads")
            if any(owner["name"] == name for owner in each["metadata"]["ownerReferences"])
        )
        return [each["reason"] for each in workload["status"].get("schedulingStats", {}).get("evictions", [])]


@pytest.fixture(scope="module")
def fabric(checkout: Checkout) -> Fabric:
    """Return the cluster with its environment up, and the image that the workers of real pods run."""
    (checkout.root / "stacks" / "fabric.py").write_text(textwrap.dedent(FABRIC).lstrip())
    checkout.run("cluster", "up", "fabric", "--env", "fabric")
    checkout.run("up", "fabric")
    return Fabric(checkout)


@pytest.fixture(autouse=True)
def clean(fabric: Fabric) -> Iterator[None]:
    """Leave no JobSet of a test."""
    yield
    fabric.kubectl("-n", NAMESPACE, "delete", "jobset", "--all")
    until(lambda: not fabric.objects("pods"), seconds=120, what="pods to be gone")


def domains(placed: Placed, level: str) -> set[str]:
    """Return the domains of a level in which pods are."""
    return {labels[level] for labels in placed.values()}


def test_what_requires_a_rack_is_in_one(fabric: Fabric, record: Record) -> None:
    """The sample, as it is written: four nodes of one rack."""
    assert SAMPLE["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["metadata"]["annotations"] == {
        "kueue.x-k8s.io/podset-required-topology": RACK
    }
    began = time.monotonic()
    fabric.train("train", 4, required=RACK)
    placed = fabric.runs("train", 4)
    seconds = time.monotonic() - began
    assert len(domains(placed, RACK)) == 1
    record(
        line="10.4 a JobSet of 4 nodes of 8 GPUs that requires one rack",
        evidence="simulated",
        figure=f"4 nodes of rack {domains(placed, RACK).pop()}, {seconds:.1f} s",
        goal="one rack",
        command="kubectl apply -f docs/how-to/train-on-many-nodes.yaml",
    )


def test_what_no_rack_holds_waits_and_says_why(fabric: Fabric, record: Record) -> None:
    """Five nodes of one rack of four: not a pod starts, though the pool has sixteen nodes free."""
    fabric.train("wide", 5, required=RACK)
    fits = re.compile(r'topology "h100" allows to fit only 4 out of 5 pod\(s\)')
    until(lambda: bool(fits.search(fabric.why("wide"))), seconds=60, what="Kueue to say why", every=1)
    assert not fabric.objects("pods")
    record(
        line="10.4 a JobSet that no rack can hold waits",
        evidence="simulated",
        figure=fabric.why("wide"),
        goal="waits, and says so",
        command="./kiban status fabric",
    )


def test_what_says_nothing_waits_and_is_told_so(fabric: Fabric) -> None:
    """Kueue takes it for one that wants no topology, and the pool has one."""
    fabric.train("silent", 1)
    said = 'Flavor "h100" supports only TopologyAwareScheduling'
    until(lambda: said in fabric.why("silent"), seconds=60, what="Kueue to say why", every=1)


def test_what_prefers_a_rack_spills_into_the_block(fabric: Fabric, record: Record) -> None:
    """Six nodes: no rack has them, a block has."""
    fabric.train("near", 6, preferred=RACK)
    placed = fabric.runs("near", 6)
    assert (len(domains(placed, BLOCK)), len(domains(placed, RACK))) == (1, 2)
    record(
        line="10.4 a JobSet of 6 nodes that prefers one rack",
        evidence="simulated",
        figure=f"one block, racks {', '.join(sorted(domains(placed, RACK)))}",
        goal="one block",
        command="annotation kueue.x-k8s.io/podset-preferred-topology",
    )


def test_small_runs_are_packed(fabric: Fabric, record: Record) -> None:
    """Two of two nodes share a rack, so that another one stays whole for who needs it."""
    for name in ("small", "other"):
        fabric.train(name, 2, required=RACK)
    racks = [domains(fabric.runs(name, 2), RACK) for name in ("small", "other")]
    assert racks[0] == racks[1]
    assert len(racks[0]) == 1
    record(
        line="10.4 two JobSets of 2 nodes",
        evidence="simulated",
        figure=f"both in rack {racks[0].pop()}",
        goal="one rack",
        command="pytest tests/acceptance/test_topology.py -k packed",
    )


def test_a_run_outlives_the_loss_of_a_node(fabric: Fabric, record: Record) -> None:
    """Its node is replaced by one of the same rack, or, where the rack has none left, it is moved to another rack.

    The whole JobSet starts again, as training on many nodes has to.
    """
    fabric.train("spared", 3, required=RACK)
    fabric.train("full", 4, required=RACK)
    before = {name: fabric.runs(name, nodes) for name, nodes in (("spared", 3), ("full", 4))}
    lost = {name: min(labels[HOST] for labels in placed.values()) for name, placed in before.items()}
    began = time.monotonic()
    fabric.kubectl("delete", "node", *lost.values())
    after = {}
    for name, nodes in (("spared", 3), ("full", 4)):
        after[name] = fabric.runs(name, nodes, seconds=300)
        assert len(domains(after[name], RACK)) == 1
        assert not set(before[name]) & set(after[name])  # pods of before: all were started again
    seconds = time.monotonic() - began
    assert domains(after["spared"], RACK) == domains(before["spared"], RACK)
    assert domains(after["full"], RACK) != domains(before["full"], RACK)
    assert (fabric.evictions("spared"), fabric.evictions("full")) == ([], ["NodeFailures"])
    fabric.checkout.run("cluster", "up", "fabric", "--env", "fabric")  # the nodes are back
    record(
        line="10.1 a node is lost in the middle of a JobSet",
        evidence="simulated",
        figure=f"replaced in the rack with a spare node, moved where it has none, both run after {seconds:.0f} s",
        goal="runs again within one rack",
        command="kubectl delete node NODE",
    )


def test_workers_meet_and_go_on_from_a_checkpoint(fabric: Fabric, record: Record) -> None:
    """Four processes add up their numbers a hundred times; one is killed: all start again, from where they were."""
    script = f"from infra.clusters import embedded; embedded.up('fabric', images=['{IMAGE}'], say=print)"
    fabric.checkout.shell(f'.venv/bin/python -c "{script}"')
    fabric.kubectl("apply", "-f", "-", stdin=ALL_REDUCE)
    logs = ("-n", NAMESPACE, "logs", "-l", "jobset.sigs.k8s.io/jobset-name=all-reduce", "--tail=-1")

    def said(words: str) -> set[str]:
        """Return the lines with these words that the four pods of now have printed, if all have."""
        done = fabric.checkout.try_kubectl("fabric", *logs)
        lines = {line for line in done.stdout.splitlines() if words in line}
        return lines if len(lines) == 4 else set()

    until(lambda: bool(said("begins at step 0")), seconds=180, what="the workers to meet", every=0.5)
    time.sleep(3)  # steps of 0.2 s
    victim = fabric.checkout.pod_processes("fabric", "python3")[-1]
    victim.kill()
    until(lambda: bool(said("has done 100 steps")), seconds=240, what="the workers to be done", every=1)
    (jobset,) = fabric.objects("jobsets")
    begun = {int(line.rsplit(" ", 1)[1]) for line in said("begins at step")}
    assert jobset["status"]["restarts"] == 1
    assert len(begun) == 1
    assert 0 < begun.pop() < 100
    record(
        line="10.4 four workers of a JobSet, one killed",
        evidence="executed",
        figure=f"all-reduced 100 times, went on from step {min(int(x.rsplit(' ', 1)[1]) for x in said('begins'))}",
        goal="all start again, from the checkpoint",
        command="kubectl apply -f docs/how-to/all-reduce.yaml; kill -9",
    )


def test_running_controllers_are_no_drift(fabric: Fabric) -> None:
    """What JobSet and Kueue write into objects of their charts, certificates for one, is nobody's change by hand."""
    assert fabric.checkout.json("drift", "fabric")["items"] == []


def test_levels_are_changed_by_taking_the_pool_out(fabric: Fabric, record: Record) -> None:
    """Kueue never changes a flavor's: refused before anything is, and done in two steps."""
    file = fabric.checkout.root / "stacks" / "fabric.py"
    written = file.read_text()
    pools = 'tuple(pool for pool in prod.gpu_pools if pool.name == "h100")'
    other = written.replace(
        pools, f'tuple(dc.replace(pool, topology=("{RACK}", "{HOST}"), domains=(4,)) for pool in {pools})'
    )
    other = other.replace("from components", "import dataclasses as dc\n\nfrom components", 1)
    file.write_text(other)
    for verb in ("preview", "up"):
        refused = fabric.checkout.run(verb, "fabric", expect=2)
        assert "Kueue has ('topology.k8s.aws/network-node-layer-2'" in refused.stderr
        assert "nothing was changed" in refused.stderr
    file.write_text(written.replace(pools, "()").replace('gpus={"h100": 128}', ""))
    fabric.checkout.run("up", "fabric")
    file.write_text(other)
    fabric.checkout.run("up", "fabric")
    fabric.train("again", 4, required=RACK)
    assert len(domains(fabric.runs("again", 4), RACK)) == 1
    record(
        line="10.4 other levels for a pool that is in use",
        evidence="simulated",
        figure="refused by preview and up; without the pool, then with it: admitted",
        goal="refused before anything is changed",
        command="./kiban preview fabric",
    )
