"""The check `schedulable`: what fits on an environment's nodes, by a scheduler that counts cores."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from infra.rehearsal import settling
from infra.rehearsal.checks.scheduling import asks, schedulable, shadows
from infra.rehearsal.look import Look, Outcome
from infra.rehearsal.snapshot import Object, Snapshot

HARD = "requiredDuringSchedulingIgnoredDuringExecution"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a refusal stand at once."""
    monkeypatch.setattr(settling, "_STANDS", 0)


class Server:
    """An API server and a scheduler: nodes of four cores each, first come first served."""

    def __init__(self, nodes: int) -> None:
        self.free = [4.0] * nodes
        self.pods: list[Object] = []
        self.there: set[str] = set()

    def create(self, path: str, manifest: Object) -> Object:
        """Post."""
        if manifest["kind"] == "Namespace":
            self.there.add(f"{path}/{manifest['metadata']['name']}")
            return manifest
        assert path.removesuffix("/pods") in self.there
        cores = sum(float(each["resources"]["requests"]["cpu"]) for each in manifest["spec"]["containers"])
        pod = manifest | {"status": {}}
        fitting = [index for index, free in enumerate(self.free) if free >= cores]
        if fitting:
            self.free[fitting[0]] -= cores
            pod["spec"]["nodeName"] = f"system-{fitting[0]}"
        else:
            message = f"0/{len(self.free)} nodes are available: {len(self.free)} Insufficient cpu. preemption: no."
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
            pod["status"] = {"conditions": [condition]}
        self.pods.append(pod)
        return pod

    def apply(self, path: str, manifest: Object) -> None:
        """Apply; the namespace's own service account only."""
        assert manifest["kind"] == "ServiceAccount"
        assert path.removesuffix("/serviceaccounts/default") in self.there

    def each(self, call: Callable[..., None], arguments: Iterable[tuple[Any, ...]]) -> None:
        """Make the calls."""
        for given in arguments:
            call(*given)

    def get(self, path: str) -> Object:
        """List the pods."""
        assert path.endswith("/pods")
        return {"items": self.pods}

    def delete(self, path: str) -> None:
        """Delete."""
        self.there.discard(path)


def deployment(name: str, replicas: int, cpu: str, **more: Any) -> Object:  # noqa: ANN401 - fields of a pod
    """Return a Deployment."""
    container = {"name": name, "image": f"example/{name}:1", "resources": {"requests": {"cpu": cpu}}}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container], **more}}
    metadata = {"name": name, "namespace": "kiban-system", "uid": f"uid-{name}"}
    spec = {"replicas": replicas, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def looked(server: Server, **kinds: list[Object]) -> Outcome:
    """Look at a cluster with these objects; a kind is written with `_` for `.`."""
    objects = {kind.replace("_", "."): tuple(those) for kind, those in kinds.items()}
    now = Snapshot(step="install", objects=objects, declared=())
    return schedulable(Look(now=now, base=None, api=server, images=frozenset()))  # type: ignore[arg-type]


def test_what_fits_is_no_finding_and_nothing_is_left() -> None:
    """Two Deployments on two nodes: executed, both looked at, and the shadows' namespace is gone."""
    server = Server(nodes=2)
    outcome = looked(server, Deployment_apps=[deployment("web", 2, "2"), deployment("db", 1, "4")])
    assert (outcome.evidence, outcome.looked_at, outcome.findings) == ("executed", 2, ())
    assert len(server.pods) == 3
    assert not server.there


def test_what_asks_for_more_than_any_node_has_is_found() -> None:
    """The scheduler's own words, and what was asked for."""
    outcome = looked(Server(nodes=2), Deployment_apps=[deployment("large", 1, "5", nodeSelector={"pool": "system"})])
    (finding,) = outcome.findings
    assert finding.object == "Deployment kiban-system/large"
    assert finding.message == (
        "1 of 1 pods fit on no node: 0/2 nodes are available: 2 Insufficient cpu; "
        "each asks for large cpu=5, on a node with pool=system"
    )


def test_all_have_to_fit_at_once() -> None:
    """Each fits alone, and together they do not."""
    (finding,) = looked(Server(nodes=1), Deployment_apps=[deployment("web", 3, "2")]).findings
    assert finding.message.startswith("1 of 3 pods fit on no node")


def test_the_namespace_goes_also_where_the_check_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """An API server that lists no pods."""
    server = Server(nodes=1)
    monkeypatch.setattr(server, "get", lambda _: {})
    with pytest.raises(KeyError):
        looked(server, Deployment_apps=[deployment("web", 1, "1")])
    assert not server.there


def test_pods_on_simulated_nodes_need_no_shadow() -> None:
    """They have room already; one on the real node, whose requests were cut, needs it."""
    nodes: list[Object] = [
        {"metadata": {"name": "system-0", "labels": {"kiban.dev/simulated": "true"}}},
        {"metadata": {"name": "host", "labels": {}}},
    ]
    replica_set: Object = {"kind": "ReplicaSet", "metadata": {"uid": "uid-rs", "ownerReferences": [{"uid": "uid-web"}]}}
    pods = [
        {
            "metadata": {"name": f"web-{where}", "ownerReferences": [{"uid": "uid-rs"}]},
            "spec": {"nodeName": where},
            "status": {"phase": "Running"},
        }
        for where in ("system-0", "host")
    ]
    server = Server(nodes=1)
    web = deployment("web", 2, "1")
    outcome = looked(server, Deployment_apps=[web], ReplicaSet_apps=[replica_set], Node=nodes, Pod=pods)
    assert len(server.pods) == 1
    assert outcome.looked_at == 1


def test_a_job_in_a_queue_is_not_of_the_platform() -> None:
    """A platform's Job counts, and one that Kueue hands devices to does not."""
    jobs = [deployment("buckets", 1, "1"), deployment("train", 1, "9")]
    for job, labels in zip(jobs, ({}, {"kueue.x-k8s.io/queue-name": "default"}), strict=True):
        job["kind"], job["metadata"]["labels"] = "Job", labels
    outcome = looked(Server(nodes=1), Job_batch=jobs)
    assert (outcome.looked_at, outcome.findings) == (1, ())


def test_what_the_cluster_itself_has_is_not_of_the_platform() -> None:
    """An environment's cluster has a DNS of its own."""
    dns = deployment("coredns", 1, "9")
    dns["metadata"]["namespace"] = "kube-system"
    outcome = looked(Server(nodes=1), Deployment_apps=[dns])
    assert (outcome.looked_at, outcome.findings) == (0, ())


def test_a_pod_of_a_daemon_set_that_waits_is_found() -> None:
    """No shadow: its own condition says it."""
    daemons = deployment("exporter", 1, "9") | {"kind": "DaemonSet"}
    pod = {
        "metadata": {"ownerReferences": [{"uid": "uid-exporter"}]},
        "spec": daemons["spec"]["template"]["spec"],
        "status": {
            "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1: 1 cpu."}
            ]
        },
    }
    server = Server(nodes=1)
    (finding,) = looked(server, DaemonSet_apps=[daemons], Pod=[pod]).findings
    assert finding.message == "1 of its pods do not fit on their nodes: 0/1: 1 cpu; each asks for exporter cpu=9"
    assert server.pods == []


def test_a_shadow_has_what_keeps_a_pod_from_a_node_and_nothing_else() -> None:
    """Hard rules and the labels that they ask for stay; preferences, volumes, priority and other labels do not."""
    term = {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "kubernetes.io/hostname"}
    soft = [{"weight": 1, "podAffinityTerm": term}]
    owner = deployment(
        "web",
        1,
        "1",
        priorityClassName="kiban-platform",
        volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        tolerations=[{"operator": "Exists"}],
        affinity={
            "podAntiAffinity": {HARD: [term], "preferredDuringSchedulingIgnoredDuringExecution": soft},
            "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": soft},
        },
        topologySpreadConstraints=[
            {"whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"team": "a"}}}
        ],
    )
    owner["spec"]["template"]["metadata"]["labels"] |= {"team": "a"}
    owner["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    (pod,) = shadows({"shadow-0": owner})
    assert pod["metadata"] == {"name": "shadow-0", "labels": {"app": "web"}}
    assert pod["spec"] == {
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"podAntiAffinity": {HARD: [term]}},
        "containers": [{"name": "web", "image": "kiban.dev/rehearsal:1", "resources": {"requests": {"cpu": "1"}}}],
        "initContainers": [],
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
    }


def test_what_a_pod_asks_for_is_told_in_one_line() -> None:
    """Of each container that asks, limits where there are no requests."""
    containers = [
        {"name": "server", "resources": {"limits": {"nvidia.com/gpu": "8"}, "requests": {"cpu": "4"}}},
        {"name": "agent"},
    ]
    assert asks({"spec": {"containers": containers}}) == "server cpu=4 nvidia.com/gpu=8"
