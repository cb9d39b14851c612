"""What the steps themselves show: what `up` and `destroy` said, changed, and left."""

import re
from collections.abc import Callable, Iterable, Iterator

from components._labels import ENVIRONMENT, SIMULATED
from infra.errors import BadInput
from infra.rehearsal.look import Check, Evidence, Finding, Look, Outcome, outcome
from infra.rehearsal.snapshot import Object, ended, name, ready_of
from infra.rehearsal.steps import Change, Problem, Ran

_CANDIDATE = ("install", "upgrade", "upgrade again")
_SECOND, _BACK, _DESTROY = "second up", "rollback", "destroy"
_ADMISSION = re.compile(
    r"admission webhook|ValidatingAdmissionPolicy|MutatingAdmissionPolicy|is forbidden|exceeded quota"
    r"|denied the request|violates PodSecurity|failed calling webhook|is invalid:|field not declared in schema"
    r"|unknown field|Unsupported value"
)
_IMMUTABLE = re.compile(
    r"is immutable|immutable after creation|updates to .* are forbidden|may not be changed in an update", re.IGNORECASE
)
_KINDS = re.compile(
    r"no matches for kind|no kind .* is registered|could not find the requested resource|was removed in Kubernetes"
)
_CONFLICT = re.compile(r"has set .* since")
STATEFUL = (
    "PersistentVolumeClaim",
    "PersistentVolume",
    "StatefulSet",
    "Namespace",
    "CustomResourceDefinition",
)
"""What loses data, or what it holds, where it is deleted or made again."""
_REMADE = (
    "Deployment",
    "DaemonSet",
    "ReplicaSet",
    "Service",
    "Job",
    "StorageClass",
    "PriorityClass",
)


def _kind(resource: str) -> str:
    return resource.partition(" ")[0].rpartition(":")[2]


def _last(look: Look, *steps: str) -> Ran | None:
    return look.ran if look.ran and look.ran.step in steps else None


def _of_problems(pattern: re.Pattern[str], remedy: str) -> Callable[[Look], Outcome]:
    """A check of the problems of an `up` that a pattern finds."""

    def look_at(look: Look) -> Outcome:
        ran = _last(look, *_CANDIDATE)
        if not ran:
            return outcome("executed", (), ())
        found = [
            Finding(object=each.resource or "the program", message=_one_line(each), remedy=remedy)
            for each in ran.problems
            if kind_of_problem(each) is pattern
        ]
        return outcome("executed", [ran], found)

    return look_at


def kind_of_problem(problem: Problem) -> re.Pattern[str] | None:
    """The first pattern that a problem is an instance of; an immutable field is told by an admission's words, too."""
    for pattern in (_IMMUTABLE, _KINDS, _CONFLICT, _ADMISSION):
        if pattern.search(problem.message):
            return pattern
    return None


def _one_line(problem: Problem) -> str:
    return " ".join(problem.message.split())[:600]


def _configuration(look: Look) -> Outcome:
    """An `up` that was refused before it began, by the program, its data or what the cluster cannot do."""
    ran = _last(look, *_CANDIDATE)
    refused = [
        Finding(object="the program", message=ran.error, remedy="correct what it names, in stacks/ or components/")
        for ran in ([ran] if ran else [])
        if not ran.ok and (ran.status == BadInput.exit_status or not ran.problems)
    ]
    refused += [
        Finding(
            object="the program",
            message=_one_line(each),
            remedy="correct the program: it ended before all was declared",
        )
        for each in (ran.problems if ran else ())
        if not each.resource or _kind(each.resource) == "Stack"
    ]
    return outcome("executed", [ran] if ran else [], refused)


def _immutable(look: Look) -> Outcome:
    ran = _last(look, *_CANDIDATE)
    failed = _of_problems(_IMMUTABLE, "give the object another name, or leave the field as it is")(look).findings
    remade = [
        Finding(
            object=change.resource,
            message=f"is deleted and made again, since {_fields(change)} cannot be changed",
            remedy="leave the field as it is, or give the object another name and plan for both being there",
        )
        for change in (ran.changes if ran and look.base else ())
        if change.done == "replaced" and _kind(change.resource) in _REMADE and not _renamed(change)
    ]
    return outcome("executed", [ran] if ran else [], [*failed, *remade])


def _renamed(change: Change) -> bool:
    """Whether it has another name, under which the old one is in nobody's way: a Job by its digest, say."""
    return {field.lstrip(".") for field in change.properties} == {"metadata.name"}


def _fields(change: Change) -> str:
    return ", ".join(change.properties) or "a field"


def _stateful(look: Look) -> Outcome:
    ran = _last(look, *_CANDIDATE[1:])
    lost = [
        Finding(
            object=change.resource,
            message=f"is {change.done}, and what it holds with it"
            + (f" (for {_fields(change)})" if change.done == "replaced" else ""),
            remedy="keep its name and what cannot be changed of it; to move data: back up, restore, then delete",
        )
        for change in (ran.changes if ran and look.base else ())
        if change.done in ("replaced", "deleted") and _kind(change.resource) in STATEFUL
    ]
    return outcome("executed", [ran] if ran and look.base else [], lost)


def _ready(look: Look) -> Outcome:
    """What `up` waited for in vain, and what is not ready once it has ended."""
    ran = _last(look, *_CANDIDATE, _BACK)
    if not ran:
        return outcome("executed", (), ())
    waited = [
        Finding(object=each.resource, message=_one_line(each), remedy="see what its pods say: kubectl describe, logs")
        for each in ran.problems
        if each.resource and _kind(each.resource) != "Stack" and kind_of_problem(each) is None
    ]
    owners = look.now.all("Deployment.apps", "StatefulSet.apps", "DaemonSet.apps")
    pods = [pod for pod in look.now.all("Pod") if not ended(pod)]
    real = any(SIMULATED not in node["metadata"].get("labels", {}) for node in look.now.all("Node"))
    evidence: Evidence = "executed" if real else "simulated"
    return outcome(evidence, [*owners, *pods], [*waited, *_unready(owners), *_ailing(pods)])


def _unready(owners: Iterable[Object]) -> Iterator[Finding]:
    for owner in owners:
        had, wanted = ready_of(owner)
        if had < wanted:
            yield Finding(
                object=name(owner),
                message=f"{had} of {wanted} pods are ready",
                remedy="see what its pods say: kubectl describe, logs",
            )


def _ailing(pods: Iterable[Object]) -> Iterator[Finding]:
    for pod in pods:
        for container in (*pod["status"].get("initContainerStatuses", ()), *pod["status"].get("containerStatuses", ())):
            waiting = container["state"].get("waiting", {})
            if waiting.get("reason") not in {None, "ContainerCreating", "PodInitializing"}:
                why = waiting.get("message", "")
                yield Finding(
                    object=_owner(pod),
                    message=f"container {container['name']}: {waiting['reason']} {_steady(why)}".strip(),
                    remedy="correct what the container needs: its image, command, configuration or probes",
                )


def _owner(pod: Object) -> str:
    """The pod's owner, whose name is the same in every rehearsal."""
    for each in pod["metadata"].get("ownerReferences", ()):
        owned = each["name"].rsplit("-", 1)[0] if each["kind"] == "ReplicaSet" else each["name"]
        kind = "Deployment" if each["kind"] == "ReplicaSet" else each["kind"]
        return f"{kind} {pod['metadata']['namespace']}/{owned}"
    return name(pod)


def _steady(message: str) -> str:
    """A kubelet's message without how long it waits and which pod of several it is."""
    return re.sub(r"back-off \S+ restarting failed container.*", "", message).strip()


def _conflict(look: Look) -> Outcome:
    return _of_problems(_CONFLICT, "find out who sets it, or take it back once by `kiban up --force`")(look)


def _idempotent(look: Look) -> Outcome:
    ran = _last(look, _SECOND)
    changed = [
        Finding(
            object=change.resource,
            message=f"a second `up` without a change {change.done} it ({_fields(change)})",
            remedy="declare what the cluster makes of it, and nothing that differs from run to run",
        )
        for change in (ran.changes if ran else ())
    ]
    failed = [
        Finding(object="the program", message=ran.error, remedy="see the first error of the second `up`")
        for ran in ([ran] if ran else [])
        if not ran.ok
    ]
    return outcome("executed", [ran] if ran else [], [*changed, *failed])


def _rollback(look: Look) -> Outcome:
    ran = _last(look, _BACK)
    failed = [
        Finding(
            object="the base",
            message=f"cannot be brought back: {ran.error}",
            remedy="make the step one that can be taken back, or say in the release that it cannot",
        )
        for ran in ([ran] if ran else [])
        if not ran.ok
    ]
    return outcome("executed", [ran] if ran else [], failed)


def _destroy(look: Look) -> Outcome:
    """look.base is here the cluster as it was before anything was installed."""
    ran = _last(look, _DESTROY)
    if not ran or not look.base:
        return outcome("executed", (), ())
    failed = (
        []
        if ran.ok
        else [Finding(object="the platform", message=ran.error, remedy="see what holds it: finalizers, webhooks")]
    )
    return outcome("executed", [ran], [*failed, *map(_left, left(look))])


def left(look: Look) -> list[Object]:
    """What is there after a destroy, was not before it, is the platform's, and not kept on purpose."""
    assert look.base is not None  # noqa: S101 - asked by the caller
    before = {name(each) for kind in look.base.objects for each in look.base.all(kind)}
    return [
        each
        for kind in look.now.objects
        if kind not in _PASSING
        for each in look.now.all(kind)
        if name(each) not in before and not _made_by_cluster(each)
    ]


_PASSING = {"Event", "Pod", "APIService.apiregistration.k8s.io", "Endpoints", "EndpointSlice.discovery.k8s.io"}


def _made_by_cluster(each: Object) -> bool:
    metadata = each["metadata"]
    return bool(metadata.get("ownerReferences")) or (
        ENVIRONMENT not in metadata.get("labels", {}) and each["kind"] not in ("Namespace", "CustomResourceDefinition")
    )


def _left(each: Object) -> Finding:
    holds = ", ".join(each["metadata"].get("finalizers", ()))
    return Finding(
        object=name(each),
        message="is left after `kiban destroy`" + (f", held by {holds}" if holds else ""),
        remedy="have it deleted with what makes it: declare it, or give it an owner",
    )


CHECKS = (
    Check(id="configuration", title="the program accepts the environment's data", look=_configuration),
    Check(
        id="admission",
        title="the API server, every webhook and policy admit what is declared",
        look=_of_problems(_ADMISSION, "correct what the message names"),
        executes=True,
    ),
    Check(
        id="kinds-first",
        title="kinds are there before objects of them",
        look=_of_problems(_KINDS, "declare the kind, and have its objects depend on it"),
        executes=True,
    ),
    Check(id="immutable", title="no field is changed that cannot be", look=_immutable, executes=True),
    Check(id="stateful", title="nothing that holds data is replaced or deleted", look=_stateful, executes=True),
    Check(id="conflict", title="no field of another manager is taken", look=_conflict, executes=True),
    Check(id="ready", title="everything becomes ready", look=_ready, executes=True),
    Check(id="idempotent", title="a second `up` changes nothing", look=_idempotent, executes=True),
    Check(id="rollback", title="the base can be brought back", look=_rollback, executes=True),
    Check(id="destroy", title="the platform can be deleted, and nothing is left", look=_destroy, executes=True),
)
