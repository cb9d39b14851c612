"""Whether the environment's nodes have room for all of the platform's pods at once.

On the cluster of a rehearsal a pod that can run does so on the one real node, with its requests cut. Here each such pod
gets a shadow: a pod of the same requests, node selector, tolerations and hard rules of affinity and topology, with an
image that nobody has, which therefore goes to the simulated nodes. The decision is the real scheduler's, hence
`executed`; what is simulated is that something runs there. Pods that are on simulated nodes anyway need no shadow.

Left out: volumes (which zone they tie a pod to is the environment's), priority (a shadow must not push others out), and
preferences, which keep no pod from a node. What a queue hands out is queues.py's.
"""

import secrets
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from components._labels import SIMULATED
from infra.clusters.embedded.api import Api
from infra.rehearsal.look import Check, Finding, Look, Outcome, outcome
from infra.rehearsal.makers import makers
from infra.rehearsal.settling import settle
from infra.rehearsal.snapshot import Object, Snapshot, ended, name, pod_template

_IMAGE = "kiban.dev/rehearsal:1"
_SECONDS = 15.0
_QUEUE = "kueue.x-k8s.io/queue-name"
_HARD = "requiredDuringSchedulingIgnoredDuringExecution"
_REMEDY = "let it ask for less, or give the environment nodes that have it (system_nodes and gpu_pools in its data)"


def schedulable(look: Look) -> Outcome:
    """What has pods that fit on no node, in the scheduler's words."""
    waits = list(missing(look.now))
    owners = (owner for owner, count in waits for _ in range(count))
    pods = {f"shadow-{index}": owner for index, owner in enumerate(owners)}
    decided: dict[str, list[Object]] = defaultdict(list)
    for pod in _scheduled(look.api, shadows(pods)) if pods else ():
        decided[name(pods[pod["metadata"]["name"]])].append(pod)
    found = []
    for owner, count in waits:
        unfit = [pod for pod in decided[name(owner)] if not pod["spec"].get("nodeName")]
        if unfit:
            asked = asks(pod_template(owner))
            message = f"{len(unfit)} of {count} pods fit on no node: {_words(unfit[0])}; each asks for {asked}"
            found.append(Finding(object=name(owner), message=message, remedy=_REMEDY))
    seen = [owner for owner, count in waits if len(decided[name(owner)]) == count]
    daemons = look.now.all("DaemonSet.apps")
    return outcome("executed", [*seen, *daemons], [*found, *_of_daemons(look.now)])


def missing(snapshot: Snapshot) -> Iterator[tuple[Object, int]]:
    """What makes pods that are to be there at once, and how many of them are on no simulated node.

    Not what the cluster itself has (kube-system): the environment's has its own. Jobs and CronJobs count once, also
    where they are over: the next release makes them again.
    """
    maker = makers(snapshot)
    simulated = {node["metadata"]["name"] for node in snapshot.all("Node") if SIMULATED in node["metadata"]["labels"]}
    there = Counter(
        maker(pod)["metadata"]["uid"]
        for pod in snapshot.all("Pod")
        if pod["spec"].get("nodeName") in simulated and not ended(pod)
    )
    for each in snapshot.all("Deployment.apps", "StatefulSet.apps", "Job.batch", "CronJob.batch"):
        wanted = each["spec"].get("replicas", 1)
        queued = each["kind"] == "Job" and _QUEUE in _labels(each)
        if wanted and maker(each) is each and not queued and each["metadata"]["namespace"] != "kube-system":
            yield each, max(0, wanted - there[each["metadata"]["uid"]])


def shadows(pods: dict[str, Object]) -> list[Object]:
    """The pods that stand for others. pods: each one's name, to what makes those that it stands for.

    Of labels they have those that a hard rule of any of them asks for, so that no webhook takes them for its own.
    """
    rules = {shadow: _rules(pod_template(owner)["spec"]) for shadow, owner in pods.items()}
    asked = {key for each in rules.values() for key in _keys(each)}
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": shadow,
                "labels": {key: value for key, value in _labels(pod_template(owner)).items() if key in asked},
            },
            "spec": {
                **rules[shadow],
                **{field: _containers(pod_template(owner), field) for field in ("containers", "initContainers")},
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 0,
            },
        }
        for shadow, owner in pods.items()
    ]


def asks(template: Object) -> str:
    """`manager cpu=100m memory=256Mi; ...`, of each container that asks for something; and of which nodes."""
    containers = (*template["spec"].get("initContainers", ()), *template["spec"]["containers"])
    wanted = {each["name"]: _requests(each) for each in containers}
    said = [f"{each} {_pairs(requests)}" for each, requests in wanted.items() if requests]
    nodes = template["spec"].get("nodeSelector") or {}
    return ("; ".join(said) or "nothing") + (f", on a node with {_pairs(nodes)}" if nodes else "")


def _scheduled(api: Api, pods: list[Object]) -> list[Object]:
    """Those of the pods that the scheduler has decided on, made for that and removed again."""
    namespace = f"kiban-rehearsal-{secrets.token_hex(3)}"
    at = f"/api/v1/namespaces/{namespace}"
    labels = {"pod-security.kubernetes.io/enforce": "privileged"}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    try:
        api.create("/api/v1/namespaces", space)
        api.apply(
            f"{at}/serviceaccounts/default", account
        )  # without it no pod can be made; else it comes a while later
        api.each(lambda pod: _post(api, f"{at}/pods", pod), ((pod,) for pod in pods))
        found = settle(
            lambda: list(api.get(f"{at}/pods")["items"]),
            done=lambda pod: bool(pod["spec"].get("nodeName")),
            refused=_refused,
            seconds=_SECONDS,
        )
    finally:
        api.delete(f"{at}/pods")  # at once, so that their room is free; the namespace takes some seconds
        api.delete(at)
    return [pod for pod in found if pod["spec"].get("nodeName") or _refused(pod)]


def _post(api: Api, path: str, manifest: Object) -> None:
    api.create(path, manifest)


def _of_daemons(snapshot: Snapshot) -> Iterator[Finding]:
    """Pods of DaemonSets need no shadow: each is for one node, and asks there for what it asked for."""
    maker = makers(snapshot)
    refused: dict[str, list[Object]] = defaultdict(list)
    for pod in snapshot.all("Pod"):
        if maker(pod)["kind"] == "DaemonSet" and not pod["spec"].get("nodeName") and _refused(pod):
            refused[name(maker(pod))].append(pod)
    for owner, pods in refused.items():
        message = f"{len(pods)} of its pods do not fit on their nodes: {_words(pods[0])}; each asks for {asks(pods[0])}"
        yield Finding(object=owner, message=message, remedy=_REMEDY)


def _refused(pod: Object) -> bool:
    return _condition(pod).get("reason") == "Unschedulable"


def _words(pod: Object) -> str:
    """The first sentence of the scheduler's: the others say what preemption would not help with."""
    return str(_condition(pod).get("message", "")).partition(". ")[0].rstrip(".")


def _condition(pod: Object) -> Object:
    conditions = pod.get("status", {}).get("conditions", ())
    return next((each for each in conditions if each["type"] == "PodScheduled" and each["status"] == "False"), {})


def _rules(spec: Object) -> Object:
    """What of a pod can keep it from a node, besides its containers."""
    affinity = {kind: {_HARD: of[_HARD]} for kind, of in (spec.get("affinity") or {}).items() if of.get(_HARD)}
    spread = [
        each for each in spec.get("topologySpreadConstraints") or () if each["whenUnsatisfiable"] == "DoNotSchedule"
    ]
    rules = {field: spec.get(field) for field in ("nodeSelector", "tolerations")}
    rules |= {"affinity": affinity, "topologySpreadConstraints": spread}
    return {field: value for field, value in rules.items() if value}


def _keys(rules: Any) -> Iterator[str]:  # noqa: ANN401 - any part of a pod's rules
    """The labels that selectors in it name."""
    if isinstance(rules, dict):
        yield from rules.get("matchLabels") or ()
        yield from (each["key"] for each in rules.get("matchExpressions") or ())
        rules = list(rules.values())
    if isinstance(rules, list):
        for each in rules:
            yield from _keys(each)


def _containers(template: Object, field: str) -> list[Object]:
    return [
        {
            "name": each["name"],
            "image": _IMAGE,
            **{kept: each[kept] for kept in ("restartPolicy", "ports") if each.get(kept)},
            "resources": {
                kind: amounts for kind, amounts in each.get("resources", {}).items() if kind in ("requests", "limits")
            },
        }
        for each in template["spec"].get(field) or ()
    ]


def _requests(container: Object) -> Object:
    resources = container.get("resources", {})
    return {**(resources.get("limits") or {}), **(resources.get("requests") or {})}


def _pairs(values: Object) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(values.items()))


def _labels(each: Object) -> Object:
    return each["metadata"].get("labels") or {}


CHECKS = (
    Check(
        id="schedulable",
        title="every pod of the platform fits on the environment's nodes with its original requests, all at once",
        look=schedulable,
        executes=True,
    ),
)
