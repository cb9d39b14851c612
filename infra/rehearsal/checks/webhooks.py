"""Admission webhooks: what stops while one is down, and whether one can be called at all."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from components._labels import TEAM
from infra.rehearsal.look import Check, Finding, Look, Outcome, outcome
from infra.rehearsal.pods import Pod, pods
from infra.rehearsal.selectors import selects
from infra.rehearsal.snapshot import Object, Snapshot, name

_CONFIGURATIONS = tuple(
    f"{kind}WebhookConfiguration.admissionregistration.k8s.io" for kind in ("Mutating", "Validating")
)
_CORE = {
    "": {
        "pods": "Pod",
        "services": "Service",
        "configmaps": "ConfigMap",
        "secrets": "Secret",
        "serviceaccounts": "ServiceAccount",
        "persistentvolumeclaims": "PersistentVolumeClaim",
        "namespaces": "Namespace",
        "nodes": "Node",
    },
    "apps": {
        "deployments": "Deployment.apps",
        "statefulsets": "StatefulSet.apps",
        "daemonsets": "DaemonSet.apps",
        "replicasets": "ReplicaSet.apps",
    },
    "batch": {"jobs": "Job.batch", "cronjobs": "CronJob.batch"},
}
"""API group to resource to kind: what a cluster stands still without."""
_SECONDS = 10
"""The API server's default of timeoutSeconds (admissionregistration.k8s.io/v1)."""
_NARROWING = ("namespaceObject", "request.namespace", "metadata.namespace", "labels")
_SHOWN = 5


def _look(look: Look) -> Outcome:
    now = look.now
    hooks = [(each, hook) for each in now.all(*_CONFIGURATIONS) for hook in each.get("webhooks") or ()]
    every = tuple(pods(now))
    found = [
        Finding(object=name(each), message=f"{hook['name']}: {message}", remedy=remedy)
        for each, hook in hooks
        for message, remedy in (*_callable(now, hook), *_slow(hook), *_stops(now, hook, every))
    ]
    return outcome("simulated", hooks, found)


def unserved(now: Snapshot, client: Mapping[str, Object], *, endpoints: bool = False) -> Iterator[str]:
    """Why the API server cannot call a webhook. client: its clientConfig. endpoints: whether a pod has to be ready."""
    if not client.get("caBundle"):
        yield "it has no caBundle, so that no certificate is trusted"
    service = client.get("service")
    if service is None:
        return
    where = f"{service['namespace']}/{service['name']}"
    found = now.find("Service", service["name"], service["namespace"])
    if found is None:
        yield f"Service {where} is not there"
    elif service.get("port", 443) not in [port["port"] for port in found["spec"].get("ports") or ()]:
        yield f"Service {where} has no port {service.get('port', 443)}"
    elif endpoints and not _ready(now, service):
        yield f"Service {where} has no endpoint that is ready"


def _ready(now: Snapshot, service: Mapping[str, str]) -> bool:
    return any(
        (endpoint.get("conditions") or {}).get("ready") is not False
        for slice_ in now.all("EndpointSlice.discovery.k8s.io")
        if slice_["metadata"].get("namespace") == service["namespace"]
        and slice_["metadata"].get("labels", {}).get("kubernetes.io/service-name") == service["name"]
        for endpoint in slice_.get("endpoints") or ()
    )


def _callable(now: Snapshot, hook: Object) -> Iterator[tuple[str, str]]:
    for problem in unserved(now, hook["clientConfig"]):
        yield problem, "declare the Service and what fills in the authority with the webhook, or take the webhook out"


def _slow(hook: Object) -> Iterator[tuple[str, str]]:
    seconds = hook.get("timeoutSeconds", _SECONDS)
    if seconds > _SECONDS and (covered := _covered(hook)):
        yield (
            f"{', '.join(covered)} wait up to {seconds} s for it while it does not answer; accepted: {_SECONDS}",
            f"set timeoutSeconds to {_SECONDS} or less",
        )


def _covered(hook: Object) -> list[str]:
    """The core resources that its rules are for."""
    return [
        resource
        for group, resources in _CORE.items()
        for resource in resources
        if any(
            {"*", group} & set(rule["apiGroups"])
            and {"*", resource} & {each.partition("/")[0] for each in rule["resources"]}
            and not (rule.get("scope") == "Namespaced" and resource in ("namespaces", "nodes"))
            for rule in hook.get("rules") or ()
        )
    ]


def _stops(now: Snapshot, hook: Object, every: Sequence[Pod]) -> Iterator[tuple[str, str]]:
    """What nobody can make or change while it is down, outside of the namespaces that it is there for: the teams'."""
    covered = _covered(hook)
    narrowed = any(word in each["expression"] for each in hook.get("matchConditions") or () for word in _NARROWING)
    if hook.get("failurePolicy", "Fail") != "Fail" or narrowed:
        return
    service = hook["clientConfig"].get("service") or {}
    for resource in covered:
        reached = sorted(_reached(now, hook, resource, service, every))
        own = service.get("namespace")
        if own in reached:
            yield (
                f"while it is down no {resource} can be made or changed in {own}, where it is itself",
                f"exclude {own} by namespaceSelector, or the webhook's own objects by objectSelector",
            )
        if others := [each for each in reached if each != own]:
            more = f" and {len(others) - _SHOWN} more" if others[_SHOWN:] else ""
            yield (
                f"while it is down no {resource} can be made or changed in {', '.join(others[:_SHOWN])}{more}",
                f"select by namespaceSelector what it is there for (namespaces with {TEAM}), or let it be ignored",
            )


def _reached(
    now: Snapshot, hook: Object, resource: str, service: Mapping[str, str], every: Sequence[Pod]
) -> Iterator[str]:
    """The namespaces that are no team's and have such objects that it is asked about; `the cluster` for those of none.

    One that asks about objects without labels asks about all that may come.
    """
    if resource == "nodes":
        if any(selects(hook.get("objectSelector"), labels) for labels in ({}, *_labels(now.all("Node")))):
            yield "the cluster"
        return
    for space in now.all("Namespace"):
        here, of_space = space["metadata"]["name"], space["metadata"].get("labels") or {}
        if TEAM not in of_space and selects(hook.get("namespaceSelector"), of_space):
            if resource == "namespaces":
                objects = [of_space]
            elif resource == "pods" and here == service.get("namespace"):
                objects = _behind(now, service, every) or [{}]
            elif resource == "pods":
                objects = [{}, *(each.labels for each in every if each.namespace == here)]
            else:
                kind = next(kinds[resource] for kinds in _CORE.values() if resource in kinds)
                objects = [{}, *_labels(each for each in now.all(kind) if each["metadata"]["namespace"] == here)]
            if any(selects(hook.get("objectSelector"), labels) for labels in objects):
                yield here


def _labels(objects: Iterable[Object]) -> list[Mapping[str, str]]:
    return [each["metadata"].get("labels") or {} for each in objects]


def _behind(now: Snapshot, service: Mapping[str, str], every: Sequence[Pod]) -> list[Mapping[str, str]]:
    """Labels of the pods that a Service leads to."""
    found = now.find("Service", service["name"], service["namespace"])
    selector = found["spec"].get("selector") if found else None
    return [
        each.labels
        for each in every
        if selector and each.namespace == service["namespace"] and selects({"matchLabels": selector}, each.labels)
    ]


CHECKS: tuple[Check, ...] = (
    Check(
        id="webhook-reach",
        title="no webhook that is down stops pods, or other core objects, of namespaces that are not its business",
        look=_look,
    ),
)
