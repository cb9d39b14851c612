"""Workloads that are there while the platform is upgraded, and have to be there afterwards.

In every team and pool a Job that runs and one that waits for quota (simulated: no embedded cluster has devices); a run
of the reference pipeline, what MLflow has recorded, and a model that KServe serves to a caller who counts (executed).
"""

import math
import textwrap
import time
from collections.abc import Mapping
from typing import Any

from components._labels import TEAM
from components._object_store import CLIENT_IMAGE
from components.tenancy import LOCAL_QUEUE
from infra.clusters.embedded.api import Api, Refused
from infra.errors import KibanError
from infra.metadata import Metadata
from infra.rehearsal import asking
from infra.rehearsal.asking import CONTAINER, SECURITY, Part
from infra.rehearsal.look import Check, Evidence, Finding, Look, Outcome, outcome
from infra.rehearsal.places import CLUSTER
from infra.rehearsal.settling import settle
from infra.rehearsal.snapshot import Object, Snapshot
from infra.rehearsal.steps import Verbs
from infra.versions import Version

Key = tuple[str, str]
"""A namespace, and a name in it."""
MARK = "rehearsal.kiban.dev/flight"
_JOBS, _SERVICES = "/apis/batch/v1", "/apis/serving.kserve.io/v1beta1"
_EVERY = 0.3  # seconds
_RUN_SECONDS = 240
_READY_WITHIN, _ENDED_WITHIN = 120.0, 60.0
_MODEL, _REPLICAS = "rehearsal", 2
_ANSWERED, _IN_A_ROW = "ok", 10
"""What the caller prints of an answered request; of how many, two a second, before a model is taken to serve."""
_OBJECTIVE = 0.01
"""The share of a caller's requests that may fail."""
_SMALL = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "256Mi"}}
_SERVER = """
    import http.server, signal
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the first process of a container has no other
    class Model(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")
        def log_message(self, *_): pass
    http.server.ThreadingHTTPServer(("", 8080), Model).serve_forever()
"""
_CALLER = """
    import signal, time, urllib.request
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    while True:
        try:
            urllib.request.urlopen("http://MODEL-predictor/v2/health/ready", timeout=5).close()
            print("ok", flush=True)
        except OSError as error:
            print("failed", error, flush=True)
        time.sleep(0.5)
"""


class Flight:
    """The workloads of one rehearsal. real: whether pods run for real."""

    def __init__(self, api: Api, verbs: Verbs, base: Version, metadata: Metadata, *, real: bool) -> None:
        self._api, self._verbs, self._base, self._metadata, self._real = api, verbs, base, metadata, real
        self._jobs: dict[Key, str] = {}  # namespace and name to what its state must be
        self._run: Key | None = None
        self._recorded: int | None = None
        self._caller: Key | None = None
        self._ready_at: int | None = None  # how many answers the caller had when all of the model's pods were ready
        self._counted_from: int | None = None  # the answers after that many are the upgrade's; None: none are

    def launch(self, now: Snapshot) -> list[str]:
        """Put the workloads there, and wait until each is as it is to stay.

        Returns what did not come to that, a line each: such a Job is not in flight, and not looked after.
        """
        parts = [part for part in asking.parts(now) if "/" in part.resource]
        self._start("running", [job(part, f"rehearsal-{part.name}-runs", 1) for part in parts if part.own])
        without = self._wait()  # else one that is to wait may be let go before
        self._start("waiting", [job(part, f"rehearsal-{part.name}-waits", waiting(part)) for part in parts])
        teams = [space["metadata"] for space in now.all("Namespace") if TEAM in space["metadata"].get("labels", {})]
        if self._real and teams and now.all("WorkflowTemplate.argoproj.io"):
            self._pipeline(teams[0])
        if self._real and teams and now.find("Deployment.apps", "kserve-controller-manager", "kserve"):
            self._model(teams[0]["name"])
        return without + self._wait()

    def _start(self, state: str, jobs: list[Object]) -> None:
        self._api.each(self._create, ((_JOBS, "jobs", each) for each in jobs))
        self._jobs |= {_key(each): state for each in jobs}

    def _pipeline(self, team: Mapping[str, Any]) -> None:
        words = ("runs", "start", self._verbs.environment, "--team", team["labels"][TEAM], "--on", CLUSTER)
        (item,) = self._verbs.items(self._base, *words)
        self._run = team["name"], item["run"]

    def _model(self, namespace: str) -> None:
        self._create(_SERVICES, "inferenceservices", model(namespace))
        self._create("/api/v1", "pods", caller(namespace))
        self._caller = namespace, "rehearsal-caller"

    def _create(self, path: str, plural: str, manifest: Object) -> None:
        self._api.create(f"{path}/namespaces/{manifest['metadata']['namespace']}/{plural}", manifest)

    def _wait(self) -> list[str]:
        """Until all is as it is to stay, or nothing has come nearer to that for a while: return what has not."""
        late = dict(settle(self._late, done=lambda _: False, refused=lambda _: False, seconds=_READY_WITHIN))
        for key in late:
            self._jobs.pop(key, None)
        if self._caller and self._caller not in late:
            self._counted_from = len(self._answers())
        return list(late.values())

    def _late(self) -> list[tuple[Key, str]]:
        states = self._astray().items()
        late = [(key, f"Job {'/'.join(key)} is {state}, and was to be {self._jobs[key]}") for key, state in states]
        if self._caller and not self._serves(self._caller[0]):
            late.append((self._caller, f"InferenceService {self._caller[0]}/{_MODEL} does not answer every time"))
        return late

    def _serves(self, space: str) -> bool:
        """Whether all of the model's pods are ready, and the last requests since then were all answered.

        A pod that is ready is refused until its network's policies are in force, which no upgrade is to blame for.
        """
        try:
            deployment = self._api.get(f"/apis/apps/v1/namespaces/{space}/deployments/{_MODEL}-predictor")
        except Refused:  # not made yet
            return False
        if deployment.get("status", {}).get("readyReplicas", 0) < _REPLICAS:
            return False
        answers = self._answers()
        if self._ready_at is None:
            self._ready_at = len(answers)
        return answers[self._ready_at :][-_IN_A_ROW:] == [_ANSWERED] * _IN_A_ROW

    def end(self) -> None:
        """Take the workloads away again."""
        of_jobs = {space for space, _ in self._jobs}
        lists = [f"{_JOBS}/namespaces/{space}/jobs" for space in sorted(of_jobs)]
        if self._caller:
            space, _ = self._caller
            lists += [f"{_SERVICES}/namespaces/{space}/inferenceservices", f"/api/v1/namespaces/{space}/pods"]
        query = f"labelSelector={MARK}&propagationPolicy=Background"
        self._api.each(self._api.delete, [(f"{each}?{query}",) for each in lists])
        # what their controllers have to let go of, they have to while they are there
        left = [f"{_JOBS}/jobs?labelSelector={MARK}"]
        if self._caller:
            left += [f"{_SERVICES}/inferenceservices?labelSelector={MARK}", f"/api/v1/pods?labelSelector={MARK}"]
        deadline = time.monotonic() + _ENDED_WITHIN
        while any(self._api.metadata(each) for each in left) and time.monotonic() < deadline:
            time.sleep(_EVERY)

    def look(self, look: Look) -> Outcome:
        """What has become of them."""
        served = [] if self._caller is None or self._counted_from is None else [self._caller]
        evidence: Evidence = "executed" if served or self._run else "simulated"
        last = look.now.step == "upgrade again"
        found = [*self.jobs_lost(), *self._unserved(), *self._forgotten(last=last)]
        seen = [*self._jobs, *([self._run] if self._run else []), *served]
        return outcome(evidence, seen, found)

    def jobs_lost(self) -> list[Finding]:
        """Jobs that are no longer as they were: gone, ended, or admitted or evicted by Kueue."""
        return [
            Finding(
                object=f"Job {'/'.join(key)}",
                message=f"was {self._jobs[key]} before, and is {state}",
                remedy="see its Workload's conditions for who ended it or let it start",
            )
            for key, state in self._astray().items()
        ]

    def _astray(self) -> dict[Key, str]:
        """The state of each Job whose state is not what it must be."""
        if not self._jobs:
            return {}
        there = {_key(each): each for each in self._api.get(f"{_JOBS}/jobs?labelSelector={MARK}")["items"]}
        states = {key: job_state(there.get(key)) for key in sorted(self._jobs)}
        return {key: state for key, state in states.items() if state != self._jobs[key]}

    def _unserved(self) -> list[Finding]:
        if self._caller is None or self._counted_from is None:
            return []
        answers = self._answers()[self._counted_from :]
        failed = [line for line in answers if line != _ANSWERED]
        if answers and len(failed) <= math.ceil(len(answers) * _OBJECTIVE):
            return []
        last = failed[-1].removeprefix("failed ") if failed else "it was never asked"
        return [
            Finding(
                object=f"InferenceService {self._caller[0]}/{_MODEL}",
                message=f"{len(failed)} of {len(answers)} requests were not answered ({last})",
                remedy="see what ended its pods or shut their way: controller, NetworkPolicies, Service",
            )
        ]

    def _answers(self) -> list[str]:
        """What the caller has printed, a line a request."""
        assert self._caller is not None  # noqa: S101 - asked by the caller
        space, pod = self._caller
        try:
            *lines, _unfinished = self._api.text(f"/api/v1/namespaces/{space}/pods/{pod}/log").split("\n")
        except Refused:  # not begun yet
            return []
        return lines

    def _forgotten(self, *, last: bool) -> list[Finding]:
        """A run that failed; what MLflow no longer knows. last: the run has to be over now."""
        if not self._run:
            return []
        space, name = self._run
        phase = self._phase()
        deadline = time.monotonic() + _RUN_SECONDS
        while last and phase in ("", "Pending", "Running") and time.monotonic() < deadline:
            time.sleep(1)
            phase = self._phase()
        found = []
        if phase in ("Failed", "Error", "gone") or (last and phase != "Succeeded"):
            found.append(
                Finding(
                    object=f"Workflow {space}/{name}",
                    message=f"ran through the upgrade and is now {phase or 'not begun'}",
                    remedy=f"see kubectl describe workflow {name} --namespace {space}",
                )
            )
        try:
            with self._metadata.mlflow() as mlflow:
                runs = len(mlflow.runs([each["experiment_id"] for each in mlflow.experiments()]))
        except KibanError as error:
            remedy = "see MLflow's log, and whether its database is the one that it had"
            return [*found, Finding(object="MLflow", message=f"does not tell its runs: {error}", remedy=remedy)]
        if runs < (self._recorded or 0):
            found.append(
                Finding(
                    object="MLflow",
                    message=f"had {self._recorded} runs before, and has {runs}",
                    remedy="see whether its database is the one that it had",
                )
            )
        self._recorded = max(runs, self._recorded or 0)
        return found

    def _phase(self) -> str:
        assert self._run is not None  # noqa: S101 - asked by the caller
        space, name = self._run
        try:
            workflow = self._api.get(f"/apis/argoproj.io/v1alpha1/namespaces/{space}/workflows/{name}")
        except Refused:
            return "gone"
        return str(workflow.get("status", {}).get("phase", ""))


def _key(each: Object) -> Key:
    return each["metadata"]["namespace"], each["metadata"]["name"]


def check(flight: Flight | None) -> Check:
    """The check that looks after them. None: nothing is in flight."""
    title = "workloads that run, wait, serve or are recorded survive"
    return Check(id="in-flight", title=title, look=flight.look if flight else lambda _: outcome("executed", (), ()))


def job_state(job: Object | None) -> str:
    """A Job in one word: running, waiting, gone, ended, or not ready."""
    if job is None:
        return "gone"
    status = job.get("status", {})
    if status.get("succeeded") or status.get("failed"):
        return "ended"
    if job["spec"].get("suspend"):
        return "waiting"
    return "running" if status.get("ready") else "not ready"


def waiting(part: Part) -> int:
    """Of how many pods a Job is that the team cannot have beside the one that runs."""
    return part.most if part.own else part.most + 1


def job(part: Part, name: str, pods: int) -> Object:
    """A Job of so many pods with a device each, whose pods run until they are deleted."""
    made = asking.job(part)
    many = {"parallelism": pods, "completions": pods}
    return made | {
        "metadata": {"name": name, "namespace": part.namespace, "labels": {MARK: "true", asking.QUEUE: part.queue}},
        "spec": made["spec"] | many | {"template": unmarked(made["spec"]["template"])},
    }


def unmarked(template: Object) -> Object:
    """A pod template without the labels of a Job that asks."""
    annotations = template["metadata"]["annotations"] | {"simulation.kiban.dev/duration": "24h"}
    return template | {"metadata": {"annotations": annotations}}


def model(namespace: str) -> Object:
    """A served model: KServe's objects are real, what answers is a few lines of Python in two pods."""
    server = {
        "name": "kserve-container",
        "image": CLIENT_IMAGE,
        "command": ["python3", "-c", textwrap.dedent(_SERVER)],
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 2},
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
        "resources": _SMALL,
        "securityContext": CONTAINER,
    }
    predictor = {
        "minReplicas": _REPLICAS,
        "maxReplicas": _REPLICAS,
        "automountServiceAccountToken": False,
        "securityContext": SECURITY,
        "containers": [server],
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": _MODEL, "namespace": namespace, "labels": {MARK: "true"}},
        "spec": {"predictor": predictor},
    }


def caller(namespace: str) -> Object:
    """A pod that asks the model twice a second, and prints a line an answer."""
    container = {
        "name": "caller",
        "image": CLIENT_IMAGE,
        "command": ["python3", "-c", textwrap.dedent(_CALLER).replace("MODEL", _MODEL)],
        "resources": _SMALL,
        "securityContext": CONTAINER,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "rehearsal-caller",
            "namespace": namespace,
            "labels": {MARK: "true", asking.QUEUE: LOCAL_QUEUE},
        },
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": SECURITY,
            "containers": [container],
        },
    }
