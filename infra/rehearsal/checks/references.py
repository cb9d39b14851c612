"""What pods name, and have to find: Secrets, ConfigMaps and their keys, accounts, claims, priorities, Services."""

import re
from collections.abc import Iterator, Mapping

from components._labels import ENVIRONMENT
from infra.rehearsal.look import Check, Finding, Look, Outcome, outcome
from infra.rehearsal.pods import Pod, pods
from infra.rehearsal.selectors import selects
from infra.rehearsal.snapshot import Object, Snapshot, name, pod_template

_SERVICE = r"(?<![\w-])([a-z0-9][a-z0-9-]*)\.([a-z0-9][a-z0-9-]*)\.svc\b(?:\.cluster\.local\b)?\.?(?::(\d+))?"
_NAMED = re.compile(_SERVICE)
_IN_URL = re.compile(rf"://(?:[^\s/@\"']*@)?{_SERVICE}")
"""How a file uses a Service: names without a scheme are there in examples, and in what is said of them, too."""
_MAKERS = ("Deployment.apps", "StatefulSet.apps", "DaemonSet.apps")
_FIELDS = {
    "secretKeyRef": "Secret",
    "secretRef": "Secret",
    "secret": "Secret",
    "configMapKeyRef": "ConfigMap",
    "configMapRef": "ConfigMap",
    "configMap": "ConfigMap",
}
_DECLARE = "declare it where the pod is declared, or do not name it"

_Name = tuple[str, str, str]


def _look(look: Look) -> Outcome:
    now = look.now
    there = {
        (kind, each["metadata"].get("namespace", ""), each["metadata"]["name"]): each
        for kind in ("Secret", "ConfigMap", "ServiceAccount", "PersistentVolumeClaim", "Service")
        for each in now.all(kind)
    }
    priorities = {each["metadata"]["name"] for each in now.all("PriorityClass.scheduling.k8s.io")}
    seen = list(pods(now))
    found = [
        Finding(object=name(pod.of), message=message, remedy=remedy)
        for pod in seen
        for message, remedy in (
            *((problem, _DECLARE) for problem in _missing(pod, there, priorities)),
            *_services(pod, there),
        )
    ]
    return outcome("simulated", seen, [*found, *_leading_nowhere(now, look.base)])


def _missing(pod: Pod, there: Mapping[_Name, Object], priorities: set[str]) -> Iterator[str]:
    for kind, wanted, key in _wanted(pod):
        found = there.get((kind, pod.namespace, wanted))
        if found is None:
            yield f"{kind} {pod.namespace}/{wanted} is not there"
        elif key is not None and key not in {**(found.get("data") or {}), **(found.get("binaryData") or {})}:
            yield f"{kind} {pod.namespace}/{wanted} has no key {key}"
    priority = pod.spec.get("priorityClassName")
    if priority and priority not in priorities:
        yield f"PriorityClass {priority} is not there"


def _wanted(pod: Pod) -> Iterator[tuple[str, str, str | None]]:
    """Kind, name and key, or no key, of all that has to be in the pod's namespace before it starts."""
    yield "ServiceAccount", pod.spec.get("serviceAccountName") or "default", None
    for each in pod.spec.get("imagePullSecrets") or ():
        yield "Secret", each["name"], None
    for volume in pod.spec.get("volumes") or ():
        if claim := volume.get("persistentVolumeClaim"):
            yield "PersistentVolumeClaim", claim["claimName"], None
    for kind, one in _sources(pod):
        wanted = one.get("secretName") or one["name"]
        if not one.get("optional"):
            keys = [one.get("key"), *(item["key"] for item in one.get("items") or ())]
            yield from ((kind, wanted, key) for key in keys)


def _sources(pod: Pod) -> Iterator[tuple[str, Object]]:
    """Whence variables and files come: `Secret` or `ConfigMap`, and the field of the pod that says which."""
    places = [each for container in pod.containers for each in container.get("envFrom") or ()]
    places += [
        each["valueFrom"] for container in pod.containers for each in container.get("env") or () if "valueFrom" in each
    ]
    for volume in pod.spec.get("volumes") or ():
        places += [volume, *(volume.get("projected") or {}).get("sources", ())]
    for place in places:
        for field, kind in _FIELDS.items():
            if field in place:
                yield kind, place[field]


def _services(pod: Pod, there: Mapping[_Name, Object]) -> Iterator[tuple[str, str]]:
    """Services in what it is told by variables, arguments and mounted files."""
    named = {match for text in _told(pod) for match in _NAMED.findall(text)}
    named |= {match for text in _mounted(pod, there) for match in _IN_URL.findall(text)}
    for service, namespace, port in sorted(named):
        found = there.get(("Service", namespace, service))
        if found is None:
            yield f"it is told of Service {namespace}/{service}, which is not there", "name the Service that there is"
        elif port and not _listens(found, int(port)):
            yield (
                f"it is told of port {port} of Service {namespace}/{service}; accepted: {_ports(found)}",
                "name a port that the Service has, or give it that one",
            )


def _told(pod: Pod) -> Iterator[str]:
    for container in pod.containers:
        yield from container.get("command") or ()
        yield from container.get("args") or ()
        yield from (variable.get("value") or "" for variable in container.get("env") or ())


def _mounted(pod: Pod, there: Mapping[_Name, Object]) -> Iterator[str]:
    files = {wanted for kind, wanted, _ in _wanted(pod) if kind == "ConfigMap"}
    for each in files:
        yield from (there.get(("ConfigMap", pod.namespace, each), {}).get("data") or {}).values()


def _listens(service: Object, port: int) -> bool:
    """Whether it has the port. One without an address of its own leads to any port of its pods."""
    spec = service["spec"]
    return spec.get("type") == "ExternalName" or spec.get("clusterIP") == "None" or port in _ports(service)


def _ports(service: Object) -> list[int]:
    return [each["port"] for each in service["spec"].get("ports") or ()]


def _leading_nowhere(now: Snapshot, base: Snapshot | None) -> Iterator[Finding]:
    """The platform's Services that select no pod, neither one that there is nor one of a template.

    One that did not in the base either is meant to be like that.
    """
    before = _alone(base) if base else {}
    for service, selector in _alone(now).items():
        if service not in before:
            labels = ", ".join(f"{key}={value}" for key, value in selector.items())
            yield Finding(
                object=service,
                message=f"no pod and no pod template has the labels that it selects ({labels})",
                remedy="select what the pods have; the labels of a workload's own selector never change",
            )


def _alone(now: Snapshot) -> dict[str, Mapping[str, str]]:
    """The platform's Services that select nothing, with what they select by."""
    labels: dict[str, list[Mapping[str, str]]] = {}
    for pod in pods(now):
        labels.setdefault(pod.namespace, []).append(pod.labels)
    for maker in now.all(*_MAKERS):
        made = pod_template(maker)["metadata"].get("labels") or {}
        labels.setdefault(maker["metadata"]["namespace"], []).append(made)
    return {
        name(service): selector
        for service in now.all("Service")
        if ENVIRONMENT in (service["metadata"].get("labels") or {})
        and (selector := service["spec"].get("selector"))
        and not any(
            selects({"matchLabels": selector}, each) for each in labels.get(service["metadata"]["namespace"], ())
        )
    }


CHECKS: tuple[Check, ...] = (
    Check(
        id="references",
        title="every Secret, ConfigMap, key, account, claim, priority and Service that a pod needs is there",
        look=_look,
    ),
)
