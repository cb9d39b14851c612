"""Whether an environment does what it is for, after a release was brought up: looked at, and asked with small work.

Works on every cluster that kubectl reaches; changes nothing that stays.
"""

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any
from urllib.parse import quote

from components._labels import ENVIRONMENT, TEAM
from components._object_store import CLIENT_IMAGE
from components.monitoring import NAMESPACE as MONITORING
from components.tenancy import LOCAL_QUEUE
from infra import target
from infra.errors import RunFailed
from infra.kubectl import Kubectl, Object
from infra.rehearsal import snapshot
from infra.rehearsal.asking import CONTAINER, QUEUE, SECURITY
from infra.release.entry import Check, Evidence
from infra.target import Target
from stacks._schema import EmbeddedCluster

Say = Callable[[str], None]
_EVERY = 1.0
_SETTLED_WITHIN = 120.0
_SMOKED_WITHIN = 120.0
_TOLD = 5
"""How many of the things that are wrong a check names."""
_MARK = "promotion.kiban.dev/smoke"
_SERVICES = "inferenceservices.serving.kserve.io"
_QUEUES = "clusterqueues.kueue.x-k8s.io"
_ALERTS = 'count by (alertname, namespace, severity) (ALERTS{alertstate="firing",severity=~"critical|warning"})'


def alerts(where: Target) -> frozenset[str] | None:
    """The alerts that fire now, but for what says only that alerting works; None where nobody could be asked."""
    if where.environment.monitoring is None or where.environment.monitoring.existing is not None:
        return None
    return _alerts(_kubectl(where))


def verify(where: Target, before: Collection[str] | None, window: float, say: Say) -> tuple[Check, ...]:
    """Look at everything. before: the alerts that fired before the change. window: seconds without a new one."""
    kubectl = _kubectl(where)
    checks: tuple[Callable[[], Check], ...] = (
        lambda: _components(where, kubectl),
        lambda: _conditions(where, kubectl, "models", _SERVICES, "Ready"),
        lambda: _conditions(where, kubectl, "queues", _QUEUES, "Active"),
        lambda: _smoke(where, kubectl),
        lambda: _objectives(kubectl, before, window),
    )
    found = []
    for check in checks:
        found.append(check())
        say(f"{where.command}: {found[-1].check}: {found[-1].outcome}: {found[-1].says}")
    return tuple(found)


def _kubectl(where: Target) -> Kubectl:
    return Kubectl(where.cluster.kubeconfig, where.cluster.context)


def _evidence(where: Target) -> Evidence:
    match where.environment.cluster:
        case EmbeddedCluster(name=name) if not target.runs_pods(name):
            return "simulated"
    return "executed"


def _judged(check: str, evidence: Evidence, seen: str, wrong: Collection[str]) -> Check:
    if not wrong:
        return Check(check=check, outcome="passed", evidence=evidence, says=seen)
    told = [" ".join(each.split()) for each in sorted(wrong)]
    more = [f"{len(told) - _TOLD} more"] if len(told) > _TOLD else []
    return Check(check=check, outcome="failed", evidence=evidence, says="; ".join([*told[:_TOLD], *more]))


def _none(check: str, why: str = "there are none") -> Check:
    return Check(check=check, outcome="not-tested", evidence="not-tested", says=why)


def _components(where: Target, kubectl: Kubectl) -> Check:
    owners: list[Object] = []
    spaces = kubectl.get("namespaces", selector=f"{_own(where)},!{TEAM}")
    names = {each["metadata"]["name"] for each in spaces}

    def unready() -> list[str]:
        found = kubectl.get("deployments,statefulsets,daemonsets", everywhere=True)
        owners[:] = [each for each in found if _is_own(where, each) or each["metadata"]["namespace"] in names]
        return [f"{snapshot.name(each)} is not ready" for each in owners if not snapshot.settled(each)]

    wrong = _until_none(unready, _SETTLED_WITHIN)
    if not owners:
        return _none("components")
    return _judged("components", _evidence(where), f"{len(owners)} are ready", wrong)


def _own(where: Target) -> str:
    """What the environment's program made: a team's own Deployment that does not start is no reason to go back."""
    return f"{ENVIRONMENT}={where.environment.name}"


def _is_own(where: Target, each: Object) -> bool:
    return bool(each["metadata"].get("labels", {}).get(ENVIRONMENT) == where.environment.name)


def _conditions(where: Target, kubectl: Kubectl, check: str, kind: str, condition: str) -> Check:
    """Whether each object of a kind has a condition. There may be no such kind."""
    found: list[Object] = []

    def wrong() -> list[str]:
        with contextlib.suppress(RunFailed):
            found[:] = kubectl.get(kind, everywhere=True, selector=_own(where))
        return [f"{snapshot.name(each)}: {why}" for each in found if (why := _lacks(each, condition))]

    lacking = _until_none(wrong, _SETTLED_WITHIN)
    if not found:
        return _none(check)
    return _judged(check, _evidence(where), f"{len(found)} are {condition.lower()}", lacking)


def _lacks(each: Object, condition: str) -> str:
    told = {one["type"]: one for one in each.get("status", {}).get("conditions", ())}.get(condition)
    if told is None:
        return f"nothing is said of {condition}"
    return "" if told["status"] == "True" else str(told.get("message") or told.get("reason") or f"not {condition}")


def _smoke(where: Target, kubectl: Kubectl) -> Check:
    """A Job in each team's namespace, as a member writes it: admitted, scheduled, run to its end."""
    spaces = kubectl.get("namespaces", selector=f"{_own(where)},{TEAM}")
    if not spaces:
        return _none("smoke")
    names = [space["metadata"]["name"] for space in spaces]
    run = secrets.token_hex(4)  # what a run that was killed has left says nothing of this one
    with _jobs(kubectl, names, run) as wrong:

        def unfinished() -> list[str]:
            jobs = {
                each["metadata"]["namespace"]: each
                for each in kubectl.get("jobs", everywhere=True, selector=f"{_MARK}={run}")
            }
            return [f"the Job of {name} {why}" for name in names if (why := _unended(jobs.get(name)))]

        wrong.extend([] if wrong else _until_none(unfinished, _SMOKED_WITHIN))
    return _judged("smoke", _evidence(where), f"a Job ran in each of {len(names)} namespaces", wrong)


@contextlib.contextmanager
def _jobs(kubectl: Kubectl, namespaces: Collection[str], run: str) -> Iterator[list[str]]:
    """The Jobs, which are gone afterwards, as are those of earlier runs; yields why some could not be made."""
    wrong = []
    try:
        for namespace in namespaces:
            try:
                kubectl.create(job(namespace, run))
            except RunFailed as failed:
                wrong.append(f"the Job of {namespace} was refused: {failed}")
        yield wrong
    finally:
        kubectl.run("delete", "jobs", "--all-namespaces", f"--selector={_MARK}", "--wait=false")


def _unended(each: Object | None) -> str:
    if each is None:
        return "is gone"
    status = each.get("status", {})
    if status.get("failed"):
        return "failed"
    if status.get("succeeded"):
        return ""
    return "waits for quota" if each["spec"].get("suspend") else "has not ended"


def job(namespace: str, run: str) -> Object:
    """The smallest Job that passes every policy. run: what it is marked by."""
    container = {
        "name": "smoke",
        "image": CLIENT_IMAGE,
        "command": ["python3", "-c", ""],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": CONTAINER,
    }
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": SECURITY,
        "containers": [container],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "generateName": "kiban-smoke-",
            "namespace": namespace,
            "labels": {_MARK: run, QUEUE: LOCAL_QUEUE},
        },
        "spec": {"backoffLimit": 0, "ttlSecondsAfterFinished": 600, "template": {"spec": pod}},
    }


def _objectives(kubectl: Kubectl, before: Collection[str] | None, window: float) -> Check:
    """Whether an alert fires that did not before, for as long as the window is.

    A Prometheus that answered before has to answer still, unless the release is without one.
    """
    if before is None:
        return _none("objectives", "no Prometheus of Kiban's to ask")
    began = heard = time.monotonic()
    while time.monotonic() - heard < _SETTLED_WITHIN:
        now, at = _alerts(kubectl), time.monotonic()
        if now is not None:
            heard, new = at, now - frozenset(before)
            if new or at - began >= window:
                return _judged(
                    "objectives", "executed", f"no new alert within {window:.0f} s", [f"{each} fires" for each in new]
                )
        time.sleep(min(_EVERY * 5, max(_EVERY, window - (at - began))))
    if all(each["metadata"]["name"] != "prometheus" for each in kubectl.get("services", namespace=MONITORING)):
        return _none("objectives", "the release has no Prometheus of Kiban's to ask")
    return _judged("objectives", "executed", "", [f"Prometheus has not answered for {_SETTLED_WITHIN:.0f} s"])


def _alerts(kubectl: Kubectl) -> frozenset[str] | None:
    path = f"/api/v1/namespaces/{MONITORING}/services/prometheus:9090/proxy/api/v1/query?query={quote(_ALERTS)}"
    with contextlib.suppress(RunFailed, ValueError, KeyError):
        found = json.loads(kubectl.raw(path))["data"]["result"]
        return frozenset(" ".join(each["metric"][key] for key in sorted(each["metric"])) for each in found)
    return None


def _until_none(wrong: Callable[[], list[str]], seconds: float) -> list[str]:
    """What is wrong in the end, after at most so many seconds."""
    deadline = time.monotonic() + seconds
    while (found := wrong()) and time.monotonic() < deadline:
        time.sleep(_EVERY)
    return found
