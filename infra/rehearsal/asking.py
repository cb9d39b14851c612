"""A Job for each part that a team has of a pool, as a member of the team writes it, and what Kueue says of it.

The Jobs ask for one unit, and are gone again afterwards.
"""

import dataclasses as dc
from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction

from components._labels import POOL, TEAM
from infra.clusters.embedded.api import Api, Refused
from infra.quantities import amount
from infra.rehearsal.settling import settle
from infra.rehearsal.snapshot import Object, Snapshot

SECONDS = 30.0
QUEUE = "kueue.x-k8s.io/queue-name"
SECURITY = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
"""What Pod Security's `restricted` asks of a pod and of its containers."""
_MARK = "rehearsal.kiban.dev/asks"
"""Label of a Job and its pod: the name of the part that it asks for."""
_JOBS = "/apis/batch/v1"
_KUEUE = "kueue.x-k8s.io"


@dc.dataclass(frozen=True, kw_only=True)
class Part:
    """What a team may have of a flavor through a LocalQueue of its namespace: of one resource, others come with it.

    pool: the flavor's nodes carry it as their label kiban.dev/pool. topology: whether the flavor takes only workloads
    that say how close together their pods are to be. own, most: what is promised to the team, and that with what it may
    borrow, in whole units. number: which of the flavor's kinds of device it is, from 1.
    """

    namespace: str
    queue: str
    cluster_queue: str
    flavor: str
    resource: str
    pool: str | None
    topology: bool
    own: int
    most: int
    number: int = 1

    @property
    def name(self) -> str:
        """The flavor's, and of its further kinds of device with their number; a namespace has each once."""
        return self.flavor if self.number == 1 else f"{self.flavor}.{self.number}"


@dc.dataclass(frozen=True, kw_only=True)
class Asked:
    """What became of a Job.

    bound: whether Kueue admitted it and its pod has a node. refusal: who keeps it from that, in their words.
    """

    part: Part
    bound: bool
    refusal: str | None = None


def parts(snapshot: Snapshot) -> Iterator[Part]:
    """What each team has a quota for or may borrow: of a flavor each kind of device, or cores where it has none."""
    there = guarantees(snapshot)
    for queue in snapshot.all(f"LocalQueue.{_KUEUE}"):
        namespace, of = queue["metadata"]["namespace"], queue["spec"]["clusterQueue"]
        space = snapshot.find("Namespace", namespace) or {"metadata": {}}
        cluster_queue = snapshot.find(f"ClusterQueue.{_KUEUE}", of)
        if TEAM not in space["metadata"].get("labels", {}) or cluster_queue is None:
            continue
        for flavor, quotas in _quotas(cluster_queue):
            spec = (snapshot.find(f"ResourceFlavor.{_KUEUE}", flavor) or {}).get("spec", {})
            had = {each["name"]: each for each in quotas if _most(each, there[flavor, each["name"]]) > 0}
            devices = [resource for resource in had if "/" in resource]
            for number, resource in enumerate(devices or [each for each in had if each == "cpu"], 1):
                yield Part(
                    namespace=namespace,
                    queue=queue["metadata"]["name"],
                    cluster_queue=of,
                    flavor=flavor,
                    resource=resource,
                    pool=spec.get("nodeLabels", {}).get(POOL),
                    topology="topologyName" in spec,
                    own=int(amount(had[resource]["nominalQuota"])),
                    most=int(_most(had[resource], there[flavor, resource])),
                    number=number,
                )


def guarantees(snapshot: Snapshot) -> dict[tuple[str, str], Fraction]:
    """What all queues and cohorts are promised together, by flavor and resource."""
    promised: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for queue in snapshot.all(f"ClusterQueue.{_KUEUE}", f"Cohort.{_KUEUE}"):
        for flavor, quotas in _quotas(queue):
            for each in quotas:
                promised[flavor, each["name"]] += amount(each["nominalQuota"])
    return promised


def _quotas(queue: Object) -> Iterator[tuple[str, list[Object]]]:
    for group in queue["spec"].get("resourceGroups") or ():
        for flavor in group["flavors"]:
            yield flavor["name"], flavor["resources"]


def _most(quota: Object, there: Fraction) -> Fraction:
    """The own with what may be borrowed: without a limit, all that others leave idle."""
    own = amount(quota["nominalQuota"])
    return own + (amount(quota["borrowingLimit"]) if "borrowingLimit" in quota else there - own)


def job(part: Part) -> Object:
    """The Job (docs/tutorial), with an image that nobody has.

    Of the nodes' taints it tolerates what a member would: that they are for devices, and that they may be taken back.
    """
    resources = {"cpu": "100m", "memory": "64Mi"} | ({part.resource: "1"} if part.resource != "cpu" else {})
    close = {"kueue.x-k8s.io/podset-unconstrained-topology": "true"} if part.topology else {}
    container = {
        "name": "asks",
        "image": "kiban.dev/rehearsal:1",
        "resources": {"requests": resources, "limits": resources},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod = {
        "restartPolicy": "Never",
        "nodeSelector": {POOL: part.pool} if part.pool else {},
        "tolerations": [{"key": key, "operator": "Exists"} for key in ("nvidia.com/gpu", "kiban.dev/spot")],
        "securityContext": SECURITY,
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
    }
    mark = {_MARK: part.name}
    labels = mark | {QUEUE: part.queue}
    annotations = {"simulation.kiban.dev/duration": "1h"} | close
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"generateName": "rehearsal-asks-", "namespace": part.namespace, "labels": labels},
        "spec": {
            "suspend": True,  # Kueue lets it go
            "backoffLimit": 0,
            "template": {"metadata": {"labels": mark, "annotations": annotations}, "spec": pod},
        },
    }


def ask(api: Api, these: list[Part], workloads: str) -> list[Asked]:
    """Make the Jobs, wait until Kueue and the scheduler have decided on each, and remove them.

    workloads: the path of the list of Kueue's Workloads.
    """
    refused: dict[Part, str] = {}

    def post(part: Part) -> None:
        try:
            api.create(f"{_JOBS}/namespaces/{part.namespace}/jobs", job(part))
        except Refused as refusal:
            refused[part] = f"the API server refuses it: {refusal}"

    try:
        api.each(post, ((part,) for part in these))
        made = [part for part in these if part not in refused]
        found = settle(
            lambda: _read(api, made, workloads),
            done=lambda each: each.bound,
            refused=lambda each: each.refusal is not None,
            seconds=SECONDS,
        )
    finally:
        query = f"labelSelector={_MARK}&propagationPolicy=Background"  # by default the API leaves a Job's pods
        spaces = {part.namespace for part in these}
        api.each(api.delete, ((f"{_JOBS}/namespaces/{space}/jobs?{query}",) for space in spaces))
    return [*found, *(Asked(part=part, bound=False, refusal=why) for part, why in refused.items())]


def _read(api: Api, these: list[Part], workloads: str) -> list[Asked]:
    jobs = {_key(each): each for each in api.get(f"{_JOBS}/jobs?labelSelector={_MARK}")["items"]}
    pods = {_key(each): each for each in api.get(f"/api/v1/pods?labelSelector={_MARK}")["items"]}
    said: dict[str, Object] = {}
    if any(each["spec"].get("suspend") for each in jobs.values()):  # there may be a thousand others
        for workload in api.get(workloads)["items"]:
            said |= {owner["uid"]: workload for owner in workload["metadata"].get("ownerReferences", ())}
    return [_asked(part, jobs.get((part.namespace, part.name)), pods, said) for part in these]


def _asked(part: Part, made: Object | None, pods: dict[tuple[str, str], Object], said: dict[str, Object]) -> Asked:
    if made is None or made["spec"].get("suspend"):
        condition = _condition(said.get(made["metadata"]["uid"]) if made else None, "QuotaReserved")
        why = f"Kueue does not admit it: {condition['message']}" if condition else None
        return Asked(part=part, bound=False, refusal=why)
    pod = pods.get((part.namespace, part.name))
    if pod and pod["spec"].get("nodeName"):
        return Asked(part=part, bound=True)
    condition = _condition(pod, "PodScheduled")
    unfit = condition and condition.get("reason") == "Unschedulable"
    why = f"admitted, and no node takes it: {condition.get('message')}" if condition and unfit else None
    return Asked(part=part, bound=False, refusal=why)


def _condition(each: Object | None, kind: str) -> Object | None:
    conditions = (each or {}).get("status", {}).get("conditions") or ()
    return next((one for one in conditions if (one["type"], one["status"]) == (kind, "False")), None)


def _key(each: Object) -> tuple[str, str]:
    return each["metadata"]["namespace"], each["metadata"]["labels"][_MARK]
