"""The checks `pools-admit` and `quota`, by a Kueue that admits what fits the quota."""

from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import pytest

from infra.clusters.embedded.api import Refused
from infra.quantities import amount
from infra.rehearsal import asking, settling
from infra.rehearsal.asking import Part, job, parts
from infra.rehearsal.checks.queues import pools_admit, quota
from infra.rehearsal.look import Look, Outcome
from infra.rehearsal.snapshot import Object, Snapshot

GPU = "nvidia.com/gpu"
MARK = "rehearsal.kiban.dev/asks"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a refusal stand at once, and silence count as silence."""
    monkeypatch.setattr(settling, "_STANDS", 0)
    monkeypatch.setattr(asking, "SECONDS", 0)


class Server:
    """An API server with Kueue and a scheduler. says: flavor to what Kueue says against it; unfit: what no node takes.

    refuses: what the API server does. silent: whether Kueue is down.
    """

    def __init__(self, *, unfit: str = "", refuses: str = "", silent: bool = False, **says: str) -> None:
        self.says, self.unfit, self.refuses, self.silent = says, unfit, refuses, silent
        self.jobs: list[Object] = []
        self.deleted: list[str] = []

    def create(self, path: str, manifest: Object) -> Object:
        """Post a Job."""
        assert path == f"/apis/batch/v1/namespaces/{manifest['metadata']['namespace']}/jobs"
        flavor = manifest["metadata"]["labels"][MARK]
        if flavor == self.refuses:
            raise Refused(403, "denied the request: no")
        admitted = flavor not in self.says and not self.silent
        uid = {"uid": f"uid-{len(self.jobs)}"}
        made = {"metadata": manifest["metadata"] | uid, "spec": manifest["spec"] | {"suspend": not admitted}}
        self.jobs.append(made)
        return made

    def each(self, call: Callable[..., None], arguments: Iterable[tuple[Any, ...]]) -> None:
        """Make the calls."""
        for given in arguments:
            call(*given)

    def get(self, path: str) -> Object:
        """List Jobs, Workloads or pods."""
        if path == f"/apis/batch/v1/jobs?labelSelector={MARK}":
            return {"items": self.jobs}
        if path == "/apis/kueue.x-k8s.io/v1beta2/workloads":
            return {"items": [self._workload(each) for each in self.jobs if not self.silent]}
        assert path == f"/api/v1/pods?labelSelector={MARK}"
        return {"items": [self._pod(each["metadata"]) for each in self.jobs if not each["spec"]["suspend"]]}

    def delete(self, path: str) -> None:
        """Delete."""
        self.deleted.append(path)

    def _workload(self, of: Object) -> Object:
        why = self.says.get(of["metadata"]["labels"][MARK], "")
        condition = {"type": "QuotaReserved", "status": "False" if why else "True", "message": why}
        owner = {"uid": of["metadata"]["uid"]}
        return {"metadata": {"ownerReferences": [owner]}, "status": {"conditions": [condition]}}

    def _pod(self, of: Object) -> Object:
        bound = of["labels"][MARK] != self.unfit
        words = {"message": "0/3 nodes are available", "reason": "Unschedulable"}
        return {
            "metadata": of,
            "spec": {"nodeName": "a100-0"} if bound else {},
            "status": {"conditions": [] if bound else [{"type": "PodScheduled", "status": "False", **words}]},
        }


def queue(nominal: int, *, borrowing: str = "0") -> dict[str, list[Object]]:
    """Return a team with so much of a pool, and what cores it has of plain nodes."""
    flavors = [
        {"name": "system", "resources": [{"name": "cpu", "nominalQuota": "4"}, {"name": GPU, "nominalQuota": "0"}]},
        {
            "name": "a100",
            "resources": [
                {"name": "cpu", "nominalQuota": "96"},
                {"name": GPU, "nominalQuota": str(nominal), "borrowingLimit": borrowing},
            ],
        },
    ]
    groups = [{"coveredResources": ["cpu", GPU], "flavors": flavors}]
    labels = {"kiban.dev/team": "vision"}
    return {
        "Namespace": [{"kind": "Namespace", "metadata": {"name": "team-vision", "labels": labels}}],
        "LocalQueue.kueue.x-k8s.io": [
            {
                "apiVersion": "kueue.x-k8s.io/v1beta2",
                "kind": "LocalQueue",
                "metadata": {"name": "default", "namespace": "team-vision"},
                "spec": {"clusterQueue": "vision"},
            }
        ],
        "ClusterQueue.kueue.x-k8s.io": [
            {"metadata": {"name": "vision"}, "spec": {"cohortName": "kiban", "resourceGroups": groups}}
        ],
        "ResourceFlavor.kueue.x-k8s.io": [
            {"metadata": {"name": "system"}, "spec": {"nodeLabels": {"kiban.dev/pool": "system"}}},
            {"metadata": {"name": "a100"}, "spec": {"nodeLabels": {"kiban.dev/pool": "a100"}, "topologyName": "a100"}},
        ],
        "Node": [
            node("a100-0", "a100", {"cpu": "96", GPU: "8"}),
            node("system-0", "system", {"cpu": "8"}),
            node("host", "host", {"cpu": "2"}),
        ],
    }


def node(name: str, pool: str, has: dict[str, str]) -> Object:
    """Return a node of a pool."""
    return {"metadata": {"name": name, "labels": {"kiban.dev/pool": pool}}, "status": {"allocatable": has}}


def look(objects: dict[str, list[Object]], server: Server | None = None) -> Look:
    """Return a look at a cluster with these objects."""
    now = Snapshot(step="install", objects={kind: tuple(those) for kind, those in objects.items()}, declared=())
    return Look(now=now, base=None, api=server, images=frozenset())  # type: ignore[arg-type]


def asked(server: Server) -> Outcome:
    """Look at a team with 8 devices."""
    return pools_admit(look(queue(8), server))


def test_what_is_admitted_and_bound_is_fine_and_the_jobs_go() -> None:
    """Executed, for the cores and for the devices; Jobs are removed with their pods."""
    server = Server()
    outcome = asked(server)
    assert (outcome.evidence, outcome.looked_at, outcome.findings) == ("executed", 2, ())
    query = f"labelSelector={MARK}&propagationPolicy=Background"
    assert server.deleted == [f"/apis/batch/v1/namespaces/team-vision/jobs?{query}"]


@pytest.mark.parametrize(
    "why",
    [
        "insufficient quota for nvidia.com/gpu in flavor a100, request > maximum capacity (1 > 0)",
        "insufficient unused quota for nvidia.com/gpu in flavor other, 1 more needed, a100 is not a flavor",
        "ClusterQueue vision is inactive",
        "untolerated taint {x y NoSchedule} in flavor a100",
        "couldn't assign flavors to pod set main: flavor a100 doesn't match node affinity",
        "couldn't assign flavors to pod set main: flavor t4 doesn't match node affinity, flavor a100 not found",
    ],
)
def test_what_kueue_never_admits_is_found_in_its_words(why: str) -> None:
    """A quota of nothing, a queue that is stopped, a taint: the other pool is fine."""
    outcome = asked(Server(a100=why))
    (finding,) = outcome.findings
    assert finding.object == "LocalQueue team-vision/default"
    assert finding.message == f"a Job that asks for 1 {GPU} of a100: Kueue does not admit it: {why}"
    assert outcome.looked_at == 2


@pytest.mark.parametrize(
    "why",
    [
        "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor a100, 1 more",
        "couldn't assign flavors to pod set main: flavor t4 doesn't match node affinity",
        "flavor a100-mig doesn't match node affinity, flavor t4 doesn't match node affinity",
        "Workload no longer fits after processing another workload",
    ],
)
def test_what_waits_for_others_to_end_is_neither_found_nor_counted(why: str) -> None:
    """All that the team may have is taken just now, or was a moment ago: nothing was shown of that pool."""
    outcome = asked(Server(a100=why))
    assert (outcome.looked_at, outcome.findings) == (1, ())


def test_what_is_admitted_and_fits_on_no_node_is_found() -> None:
    """A quota in nodes that are not there."""
    (finding,) = asked(Server(unfit="a100")).findings
    assert finding.message.endswith("admitted, and no node takes it: 0/3 nodes are available")


def test_a_job_that_is_refused_and_a_kueue_that_is_silent_are_found() -> None:
    """The API server's words; and that nobody said anything."""
    (refused,) = asked(Server(refuses="a100")).findings
    assert refused.message.endswith("the API server refuses it: denied the request: no")
    silent = asked(Server(silent=True)).findings
    assert len(silent) == 2
    assert all(each.message.endswith("nobody says why") for each in silent)


def test_a_team_without_a_queue_and_a_queue_that_leads_nowhere_are_found() -> None:
    """A namespace of a team that has none; a ClusterQueue that is not there."""
    objects = queue(8)
    objects["Namespace"].append(
        {"kind": "Namespace", "metadata": {"name": "team-b", "labels": {"kiban.dev/team": "b"}}}
    )
    objects["LocalQueue.kueue.x-k8s.io"][0]["spec"]["clusterQueue"] = "other"
    found = {each.object: each.message for each in pools_admit(look(objects, Server())).findings}
    assert found == {
        "LocalQueue team-vision/default": "leads to ClusterQueue 'other'; there are: vision",
        "Namespace team-b": "a team's, and has no LocalQueue: its Jobs wait",
    }


def test_without_kueue_nothing_is_looked_at() -> None:
    """No queue, no Job."""
    outcome = pools_admit(look({"Namespace": queue(8)["Namespace"]}))
    assert (outcome.looked_at, outcome.findings) == (0, ())


@pytest.mark.parametrize(
    ("nominal", "borrowing", "resource"), [(8, "0", GPU), (0, "8", GPU), (0, "0", "cpu")], ids=["own", "borrows", "no"]
)
def test_a_team_has_a_part_where_it_has_a_quota_or_may_borrow(nominal: int, borrowing: str, resource: str) -> None:
    """Devices, promised or borrowed; of a flavor of which it has no devices, its cores."""
    found = {part.flavor: part.resource for part in parts(look(queue(nominal, borrowing=borrowing)).now)}
    assert found == {"system": "cpu", "a100": resource}


def test_of_each_kind_of_device_of_a_flavor_there_is_a_part() -> None:
    """A pool cut into a mix has several; their Jobs have names of their own."""
    objects = queue(8)
    (group,) = objects["ClusterQueue.kueue.x-k8s.io"][0]["spec"]["resourceGroups"]
    (a100,) = [each for each in group["flavors"] if each["name"] == "a100"]
    a100["resources"].append({"name": "nvidia.com/mig-1g.10gb", "nominalQuota": "4", "borrowingLimit": "0"})
    found = [(part.name, part.flavor, part.resource, part.own) for part in parts(look(objects).now)]
    assert found == [
        ("system", "system", "cpu", 4),
        ("a100", "a100", GPU, 8),
        ("a100.2", "a100", "nvidia.com/mig-1g.10gb", 4),
    ]


def test_a_job_is_what_a_member_would_write() -> None:
    """One unit, the pool by its label, the taints of devices; how close its pods are where the pool asks for that."""
    part = Part(
        namespace="team-vision",
        queue="default",
        cluster_queue="vision",
        flavor="a100",
        resource=GPU,
        pool="a100",
        topology=True,
        own=8,
        most=8,
    )
    made = job(part)
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "default"
    template = made["spec"]["template"]
    assert template["spec"]["nodeSelector"] == {"kiban.dev/pool": "a100"}
    assert template["spec"]["containers"][0]["resources"]["limits"][GPU] == "1"
    assert template["metadata"]["annotations"]["kueue.x-k8s.io/podset-unconstrained-topology"] == "true"


def test_guarantees_within_what_nodes_have_are_fine() -> None:
    """Each resource of each flavor is looked at, by reasoning alone."""
    outcome = quota(look(queue(8)))
    assert (outcome.evidence, outcome.looked_at, outcome.findings) == ("simulated", 4, ())


def test_guarantees_beyond_what_nodes_have_are_found_with_both_numbers() -> None:
    """A cohort's own part counts too."""
    objects = queue(7)
    group = {"flavors": [{"name": "a100", "resources": [{"name": GPU, "nominalQuota": "2"}]}]}
    objects["Cohort.kueue.x-k8s.io"] = [{"metadata": {"name": "kiban"}, "spec": {"resourceGroups": [group]}}]
    (finding,) = quota(look(objects)).findings
    assert finding.object == "ResourceFlavor a100"
    assert finding.message == (f"guarantees of {GPU} add up to 9; accepted: up to 8, what its 1 nodes have together")


@pytest.mark.parametrize(
    ("quantity", "value"),
    [("8", 8), ("1500m", Fraction(3, 2)), ("1k", 1000), ("2Gi", 2 * 1024**3), ("1e3", 1000), ("0.5", Fraction(1, 2))],
)
def test_quantities_are_read_as_kubernetes_writes_them(quantity: str, value: Fraction) -> None:
    """With decimal and binary units, thousandths and exponents."""
    assert amount(quantity) == value


def test_what_is_no_quantity_is_refused() -> None:
    """It is named."""
    with pytest.raises(ValueError, match="quantity '8 GiB'"):
        amount("8 GiB")
