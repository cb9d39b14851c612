"""Devices whole, cut by MIG, cut into a mix, and shared in turn: quota, flavors, nodes and resources agree.

Executed: Kueue's admission and the scheduler. Simulated: the nodes, and what runs there.
"""

import functools
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
import yaml

from components._labels import POOL
from infra.clusters.waiting import until
from infra.quantities import amount
from tests import generated
from tests.checkout import Checkout
from tests.conftest import Record

NAME = "slices"
ENVIRONMENT = '''"""One node a way to share a device, and two teams that are promised all of it."""

from components.gpu_node_pools import GpuPool
from components.tenancy import Team
from stacks._schema import THROWAWAY, EmbeddedCluster, Environment, SystemNodes

A100 = "NVIDIA-A100-SXM4-80GB"

environment = Environment(
    name="slices",
    cluster=EmbeddedCluster(name="slices"),
    state=THROWAWAY,
    system_nodes=SystemNodes(count=1),
    certificates=False,
    teams=(
        Team(
            name="vision",
            owner="vision",
            gpus={"whole": 1, "halves": 2, "mixed/3g.40gb": 1, "mixed/1g.10gb": 5, "turns": 3},
        ),
        Team(
            name="language",
            owner="language",
            gpus={"whole": 1, "halves": 2, "mixed/3g.40gb": 1, "mixed/1g.10gb": 3, "turns": 1},
        ),
    ),
    gpu_pools=(
        GpuPool(name="whole", accelerator=A100, nodes=1, gpus_per_node=2),
        GpuPool(name="halves", accelerator=A100, nodes=1, gpus_per_node=2, mig_profile="3g.40gb"),
        GpuPool(name="mixed", accelerator=A100, nodes=1, gpus_per_node=2, mig={"3g.40gb": 1, "1g.10gb": 4}),
        GpuPool(name="turns", accelerator="Tesla-T4", nodes=1, gpus_per_node=1, time_slices=4),
    ),
)
'''
GPU = "nvidia.com/gpu"
HALF, SMALL, TURN = "nvidia.com/mig-3g.40gb", "nvidia.com/mig-1g.10gb", "nvidia.com/gpu.shared"
PROMISED = {"vision": {GPU: 1, HALF: 3, SMALL: 5, TURN: 3}, "language": {GPU: 1, HALF: 3, SMALL: 3, TURN: 1}}
OFFERED = {
    "whole": {GPU: 2},
    "halves": {GPU: 0, HALF: 4},
    "mixed": {GPU: 0, HALF: 2, SMALL: 8},
    "turns": {TURN: 4},
}
"""What a node of each pool has, with the whole devices that MIG has left none of."""
WORKLOADS = ("workloads.kueue.x-k8s.io", "-A")
Object = dict[str, Any]


@pytest.fixture(scope="module")
def platform(checkout: Checkout) -> Checkout:
    """Return a checkout whose environment `slices` is up."""
    (checkout.root / "stacks" / f"{NAME}.py").write_text(ENVIRONMENT)
    checkout.run("up", NAME)
    return checkout


def listed(platform: Checkout, *words: str) -> list[Object]:
    """Return objects as the API server has them."""
    items: list[Object] = json.loads(platform.kubectl(NAME, "get", *words, "-o", "json"))["items"]
    return items


def devices(resources: Object) -> dict[str, int]:
    """Return what is of NVIDIA in a list of resources."""
    return {name: int(amount(units)) for name, units in resources.items() if name.startswith("nvidia.com/")}


def quotas(queue: Object) -> Iterator[tuple[str, str, Object]]:
    """Yield the quotas of a queue or a cohort: flavor, resource, and how much of it."""
    for group in queue["spec"]["resourceGroups"]:
        for flavor in group["flavors"]:
            for each in flavor["resources"]:
                yield flavor["name"], each["name"], each


def test_flavors_have_their_pools_nodes_and_quotas_what_those_have(platform: Checkout, record: Record) -> None:
    """Read from the API server: all quotas of a flavor together are the devices of its nodes, exactly."""
    nodes = [node for node in listed(platform, "nodes") if node["metadata"]["labels"].get(POOL) in OFFERED]
    assert {node["metadata"]["labels"][POOL]: devices(node["status"]["allocatable"]) for node in nodes} == OFFERED
    promised: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for kind in ("clusterqueues", "cohorts"):
        for queue in listed(platform, f"{kind}.kueue.x-k8s.io"):
            for flavor, resource, each in quotas(queue):
                promised[flavor, resource] += amount(each["nominalQuota"])
    flavors = {each["metadata"]["name"]: each["spec"] for each in listed(platform, "resourceflavors.kueue.x-k8s.io")}
    assert set(flavors) == {"system", *OFFERED}
    for pool in OFFERED:
        labels, taints = flavors[pool]["nodeLabels"].items(), flavors[pool]["nodeTaints"]
        (node,) = [node for node in nodes if labels <= node["metadata"]["labels"].items()]
        assert node["metadata"]["labels"][POOL] == pool
        assert taints == node["spec"]["taints"]
        there = node["status"]["allocatable"]
        for resource in (GPU, HALF, SMALL, TURN):
            assert promised[pool, resource] == amount(there.get(resource, 0)), (pool, resource)
        for resource in ("cpu", "memory"):
            assert 0 < promised[pool, resource] <= amount(there[resource]), (pool, resource)
    record(
        line="10.2 quota, flavors, node labels and resource names agree",
        evidence="executed",
        figure="4 pools, 4 resources",
        goal="agree",
        command="kubectl get nodes,resourceflavors,clusterqueues,cohorts",
    )


def test_a_teams_quota_is_what_its_queue_may_admit(platform: Checkout) -> None:
    """Of every resource, over all flavors: the namespace's ResourceQuota stops nothing that Kueue lets go."""
    for queue in listed(platform, "clusterqueues.kueue.x-k8s.io"):
        team = queue["metadata"]["name"]
        most: Counter[str] = Counter()
        for _, resource, each in quotas(queue):
            if resource.startswith("nvidia.com/"):
                most[resource] += int(amount(each["nominalQuota"]) + amount(each.get("borrowingLimit", 0)))
        assert most == PROMISED[team]
        (hard,) = [each["spec"]["hard"] for each in listed(platform, "-n", f"team-{team}", "resourcequotas")]
        assert {name.removeprefix("requests."): int(amount(units)) for name, units in hard.items()} == most


def test_labels_say_what_the_node_offers(platform: Checkout) -> None:
    """As GPU feature discovery counts, and as the device plugin and MIG manager are told by the labels' keys."""
    (plugin,) = listed(platform, "configmaps", "-A", "--field-selector=metadata.name=gpu-device-plugin")
    (partitions,) = listed(platform, "configmaps", "-A", "--field-selector=metadata.name=gpu-mig-partitions")
    cuts = yaml.safe_load(partitions["data"]["config.yaml"])["mig-configs"]
    for node in listed(platform, "nodes", "-l", f"{POOL} in ({','.join(OFFERED)})"):
        labels, offered = node["metadata"]["labels"], devices(node["status"]["allocatable"])
        count = int(labels[f"{GPU}.count"])
        told = yaml.safe_load(plugin["data"][labels["nvidia.com/device-plugin.config"]])
        cut = cuts[labels["nvidia.com/mig.config"]][0]["mig-devices"] if "nvidia.com/mig.config" in labels else {}
        assert told["flags"]["migStrategy"] == labels.get("nvidia.com/mig.strategy", "none")
        slices = {f"nvidia.com/mig-{profile}": count * each for profile, each in cut.items()}
        assert slices == {name: units for name, units in offered.items() if "/mig-" in name}
        assert slices == {name: int(labels[f"{name}.count"]) for name in slices}
        whole = {name: units for name, units in offered.items() if "/mig-" not in name and units}
        shared = told.get("sharing", {}).get("timeSlicing", {"resources": [{"replicas": 1}]})["resources"][0]
        assert sum(whole.values()) == count * int(labels[f"{GPU}.replicas"])
        assert int(labels[f"{GPU}.replicas"]) == (0 if cut else shared["replicas"])
        assert labels[f"{GPU}.sharing-strategy"] == ("time-slicing" if TURN in offered else "none")


def job(team: str, resource: str, number: int, *, pool: str | None = None) -> Object:
    """Return a Job of one pod that asks for one unit of a resource, of a pool or of any."""
    name = f"{resource.rpartition('/')[2].replace('.', '-')}-{number}"
    asked = {resource: "1", "cpu": "1", "memory": "1Gi"}
    return generated.job(name, f"team-{team}", asked, selector={POOL: pool} if pool else {}, lasts="1h")


def make(platform: Checkout, jobs: list[Object]) -> None:
    """Apply the Jobs."""
    platform.kubectl(NAME, "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": jobs}))


def asked_of(workload: Object) -> tuple[str, str]:
    """Return whose a workload is and of which resource it asks for one."""
    (podset,) = workload["spec"]["podSets"]
    (resource,) = devices(podset["template"]["spec"]["containers"][0]["resources"]["limits"])
    return workload["metadata"]["namespace"].removeprefix("team-"), resource


def condition(workload: Object, kind: str) -> Object:
    """Return one of its conditions, or an empty one."""
    conditions = workload.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == kind), {})


def decided(platform: Checkout, jobs: int) -> bool:
    """Whether Kueue has admitted each or said why not, and those that it admitted have a node."""
    states = [condition(each, "QuotaReserved") for each in listed(platform, *WORKLOADS)]
    admitted = [each for each in states if each.get("status") == "True"]
    waiting = [each for each in states if "insufficient" in each.get("message", "")]
    return len(admitted) + len(waiting) == jobs and len(bound(platform)) == len(admitted)


def ended(platform: Checkout) -> bool:
    """Whether no Job's workload is left."""
    for team in PROMISED:
        platform.kubectl(NAME, "-n", f"team-{team}", "delete", "jobs", "--all", "--wait=true")
    return not listed(platform, *WORKLOADS)


def bound(platform: Checkout) -> list[Object]:
    """Return the Jobs' pods that have a node."""
    return [pod for pod in listed(platform, "pods", "-A", "-l", "job-name") if pod["spec"].get("nodeName")]


def test_a_job_for_a_slice_lands_on_such_a_slice_and_no_more_are_admitted_than_there_are(
    platform: Checkout, record: Record
) -> None:
    """Of each resource a team asks for one more than it was promised: that one waits, and every device is taken."""
    jobs = [
        job(team, resource, number)
        for team, promised in PROMISED.items()
        for resource, units in promised.items()
        for number in range(units + 1)
    ]
    make(platform, jobs)
    try:
        until(functools.partial(decided, platform, len(jobs)), seconds=300, what="every Job admitted or told", every=2)
        workloads = listed(platform, *WORKLOADS)
        admitted = [each for each in workloads if condition(each, "Admitted").get("status") == "True"]
        of_team = Counter(map(asked_of, admitted))
        assert of_team == {(team, name): units for team, of in PROMISED.items() for name, units in of.items()}
        waiting = Counter(asked_of(each) for each in workloads if each not in admitted)
        assert waiting == {(team, name): 1 for team, of in PROMISED.items() for name in of}

        flavors: Counter[tuple[str, str]] = Counter()
        for each in admitted:
            (assignment,) = each["status"]["admission"]["podSetAssignments"]
            flavors[assignment["flavors"][asked_of(each)[1]], asked_of(each)[1]] += 1
        pools = {node["metadata"]["name"]: node["metadata"]["labels"].get(POOL) for node in listed(platform, "nodes")}
        landed: Counter[tuple[str | None, str]] = Counter()
        for pod in bound(platform):
            (resource,) = devices(pod["spec"]["containers"][0]["resources"]["limits"])
            landed[pools[pod["spec"]["nodeName"]], resource] += 1
        taken = {(pool, name): units for pool, of in OFFERED.items() for name, units in of.items() if units}
        assert landed == taken
        assert flavors == taken
    finally:
        until(functools.partial(ended, platform), seconds=180, what="the end of the Jobs", every=2)
    record(
        line="10.2 a Job for a slice lands on a sliced node and nowhere else",
        evidence="simulated",
        figure=f"{sum(taken.values())} of {len(jobs)} Jobs admitted, every device taken, one a resource and team waits",
        goal="the quota exactly, each on its kind of node",
        command="kubectl get workloads,pods -A",
    )


def test_a_job_that_names_another_kind_of_node_waits(platform: Checkout, record: Record) -> None:
    """What a pool does not offer nobody gets there, however much of it is idle elsewhere."""
    elsewhere = [(SMALL, "halves"), (HALF, "whole"), (GPU, "mixed"), (TURN, "whole"), (GPU, "turns")]
    jobs = [job("vision", resource, number, pool=pool) for number, (resource, pool) in enumerate(elsewhere)]
    make(platform, jobs)
    try:
        until(functools.partial(decided, platform, len(jobs)), seconds=180, what="Kueue's word on every Job", every=2)
        workloads = listed(platform, *WORKLOADS)
        assert {condition(each, "QuotaReserved")["status"] for each in workloads} == {"False"}
    finally:
        until(functools.partial(ended, platform), seconds=180, what="the end of the Jobs", every=2)
    record(
        line="10.2 a Job for a slice on another kind of node",
        evidence="executed",
        figure=f"{len(jobs)} of {len(jobs)} wait",
        goal="none is admitted",
        command="kubectl get workloads",
    )
