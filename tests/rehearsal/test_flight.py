"""Workloads in flight: whose they are, what they ask for, and how it is seen that one was lost."""

import dataclasses as dc
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from infra.clusters.waiting import until
from infra.rehearsal import asking, flight
from infra.rehearsal.asking import Part
from infra.rehearsal.flight import Flight
from infra.rehearsal.look import Finding, Look
from infra.rehearsal.snapshot import Snapshot

PART = Part(
    namespace="team-vision",
    queue="default",
    cluster_queue="vision",
    flavor="a100",
    resource="nvidia.com/gpu",
    pool="a100",
    topology=False,
    own=8,
    most=16,
)
NOTHING = Snapshot(step="install", objects={}, declared=())


def test_a_job_is_what_a_member_would_write() -> None:
    """Suspended for Kueue, in the team's queue, a device a pod, and in no need of root."""
    made = flight.job(PART, "rehearsal-a100-waits", 16)
    assert made["metadata"]["namespace"] == "team-vision"
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "default"
    assert made["spec"]["suspend"] is True
    assert made["spec"]["parallelism"] == made["spec"]["completions"] == 16
    pod = made["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"kiban.dev/pool": "a100"}
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod["securityContext"]["runAsNonRoot"] is True


@pytest.mark.parametrize(
    ("suspend", "status", "state"),
    [
        (True, {}, "waiting"),
        (False, {"ready": 1}, "running"),
        (False, {"active": 1}, "not ready"),
        (False, {"failed": 1}, "ended"),
        (False, {"succeeded": 1, "ready": 0}, "ended"),
    ],
)
def test_a_jobs_state_is_one_word(suspend: bool, status: dict[str, int], state: str) -> None:  # noqa: FBT001
    """As its controller and Kueue have it."""
    assert flight.job_state({"spec": {"suspend": suspend}, "status": status}) == state
    assert flight.job_state(None) == "gone"


@pytest.mark.parametrize(
    "container",
    [
        flight.model("team-vision")["spec"]["predictor"]["containers"][0],
        flight.caller("team-vision")["spec"]["containers"][0],
    ],
    ids=["model", "caller"],
)
def test_what_serves_and_what_asks_end_when_they_are_told_to(container: dict[str, Any]) -> None:
    """Also as the first process of a container, which ignores a signal that it does not handle."""
    _, option, script = container["command"]
    as_first = ["sh", "-c", 'trap "" TERM; exec "$@"', "sh", sys.executable, option, script.replace("8080", "0")]
    with subprocess.Popen(as_first, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: handles(process.pid, signal.SIGTERM), seconds=10, what="its handler", every=0.02)
            process.terminate()
            process.wait(10)
        finally:
            process.kill()


def handles(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    (caught,) = re.findall(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(caught, 16) >> (number - 1) & 1)


class Cluster:
    """An API server with Kueue behind it, as far as Jobs go: a team of which none runs gets the next that is made."""

    def __init__(self) -> None:
        self.jobs: dict[tuple[str, str], dict[str, Any]] = {}
        self.asked: list[str] = []
        self.deleted: list[str] = []
        self.ending: list[dict[str, Any]] = []
        self.full: set[str] = set()

    def create(self, path: str, manifest: dict[str, Any]) -> None:
        """Take a Job, and let it run if none of its team does."""
        assert path == f"/apis/batch/v1/namespaces/{manifest['metadata']['namespace']}/jobs"
        metadata = manifest["metadata"]
        busy = {space for space, name in self.jobs if not self.jobs[space, name]["spec"]["suspend"]}
        spec = manifest["spec"] | {"suspend": metadata["namespace"] in busy | self.full}
        self.jobs[metadata["namespace"], metadata["name"]] = manifest | {"spec": spec, "status": {"ready": 1}}

    def get(self, path: str) -> dict[str, Any]:
        """Return a list of all Jobs."""
        self.asked.append(path)
        return {"items": list(self.jobs.values())}

    def delete(self, path: str) -> None:
        """Note what was deleted; it is gone when it is looked for the second time."""
        self.deleted.append(path)
        self.ending = [{"name": "ends"}]

    def metadata(self, path: str) -> list[dict[str, Any]]:
        """Return the Jobs that end."""
        assert path == f"/apis/batch/v1/jobs?labelSelector={flight.MARK}"
        found, self.ending = self.ending, []
        return found

    def each(self, call: Callable[..., None], arguments: Iterable[tuple[Any, ...]]) -> None:
        """Make the calls, the last one first: nobody may count on an order."""
        for given in reversed(list(arguments)):
            call(*given)


@pytest.fixture
def cluster() -> Cluster:
    """Return an API server."""
    return Cluster()


@pytest.fixture
def hundreds(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Flight:
    """Return the workloads of two hundred teams, on the ground."""
    parts = [dc.replace(PART, namespace=f"team-{number}") for number in range(200)]
    cores = dc.replace(PART, resource="cpu", flavor="system", pool=None)
    monkeypatch.setattr(asking, "parts", lambda _: [*parts, cores])
    api: Any = cluster
    nothing: Any = None
    return Flight(api, nothing, nothing, nothing, real=False)


@pytest.fixture
def launched(hundreds: Flight) -> Flight:
    """Return the Jobs of two hundred teams in flight."""
    assert hundreds.launch(NOTHING) == []
    return hundreds


def lost(of: Flight) -> set[tuple[str, str]]:
    """Return the objects of the findings, each with the message."""
    return {(found.object, found.message) for found in of.jobs_lost()}


def test_each_team_has_a_job_that_runs_and_one_that_waits(cluster: Cluster, launched: Flight) -> None:
    """Made only once the other has been let go, else it might be itself."""
    states = {name: flight.job_state(each) for (_, name), each in cluster.jobs.items()}
    assert states == {"rehearsal-a100-runs": "running", "rehearsal-a100-waits": "waiting"}
    assert len(cluster.jobs) == 400
    assert not lost(launched)


def test_a_job_that_does_not_come_to_run_is_told_and_not_looked_after(
    cluster: Cluster, hundreds: Flight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the base does not let in, the upgrade has not lost."""
    monkeypatch.setattr(flight, "_READY_WITHIN", 0.0)
    cluster.full = {"team-7"}
    assert hundreds.launch(NOTHING) == ["Job team-7/rehearsal-a100-runs is waiting, and was to be running"]
    assert not lost(hundreds)
    del cluster.jobs["team-7", "rehearsal-a100-waits"]
    assert lost(hundreds) == {("Job team-7/rehearsal-a100-waits", "was waiting before, and is gone")}


def test_a_job_that_ended_is_gone_or_was_let_go_is_found(cluster: Cluster, launched: Flight) -> None:
    """And no other one."""
    cluster.jobs["team-1", "rehearsal-a100-runs"]["status"] = {"failed": 1}
    del cluster.jobs["team-2", "rehearsal-a100-runs"]
    cluster.jobs["team-3", "rehearsal-a100-waits"]["spec"]["suspend"] = False
    assert lost(launched) == {
        ("Job team-1/rehearsal-a100-runs", "was running before, and is ended"),
        ("Job team-2/rehearsal-a100-runs", "was running before, and is gone"),
        ("Job team-3/rehearsal-a100-waits", "was waiting before, and is running"),
    }


def test_how_often_the_api_server_is_asked_does_not_grow_with_the_teams(cluster: Cluster, launched: Flight) -> None:
    """One list has the Jobs of all."""
    cluster.asked.clear()
    lost(launched)
    assert cluster.asked == [f"/apis/batch/v1/jobs?labelSelector={flight.MARK}"]


class Serving(Cluster):
    """An API server with KServe behind it: a model of two pods, and a caller whose log grows by a line each look."""

    def __init__(self, *answers: str, ready: int = 2) -> None:
        super().__init__()
        self.answers, self.ready, self.looks = answers, ready, 0

    def create(self, path: str, manifest: dict[str, Any]) -> None:
        """Take what is made."""

    def get(self, path: str) -> dict[str, Any]:
        """Return the model's Deployment."""
        assert path == "/apis/apps/v1/namespaces/team-vision/deployments/rehearsal-predictor"
        return {"status": {"readyReplicas": self.ready}}

    def text(self, path: str) -> str:
        """Return the log, of which the last line is not yet whole."""
        assert path == "/api/v1/namespaces/team-vision/pods/rehearsal-caller/log"
        self.looks += 1
        return "".join(f"{line}\n" for line in self.answers[: self.looks]) + "o"


def serving(api: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Flight, list[str]]:  # noqa: ANN401
    """Return the model in flight, and what was said of it."""
    monkeypatch.setattr("infra.rehearsal.settling._EVERY", 0)
    monkeypatch.setattr("infra.rehearsal.settling._REST", 0)
    monkeypatch.setattr(flight, "_READY_WITHIN", 0.2)
    nothing: Any = None
    made = Flight(api, nothing, nothing, nothing, real=True)
    team = {"metadata": {"name": "team-vision", "labels": {"kiban.dev/team": "vision"}}}
    kserve = {"kind": "Deployment", "metadata": {"name": "kserve-controller-manager", "namespace": "kserve"}}
    now = Snapshot(step="install", objects={"Namespace": (team,), "Deployment.apps": (kserve,)}, declared=())
    return made, made.launch(now)


REFUSED = "failed <urlopen error [Errno 111] Connection refused>"


def test_a_model_is_taken_to_serve_once_each_of_its_pods_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was refused before is nobody's fault; what is refused afterwards is found."""
    api = Serving("ok", REFUSED, REFUSED, *["ok"] * 40, *[REFUSED] * 2, REFUSED)
    made, told = serving(api, monkeypatch)
    assert told == []
    api.looks = 42
    assert served(made) == (1, [])
    api.looks = 60
    (checked, (finding,)) = served(made)
    assert (checked, finding.object) == (1, "InferenceService team-vision/rehearsal")
    assert re.fullmatch(r"3 of \d\d requests were not answered \(<urlopen error .* refused>\)", finding.message)


@pytest.mark.parametrize("api", [Serving(*["ok"] * 99, ready=1), Serving(*["ok", "ok", REFUSED] * 30)])
def test_a_model_that_the_base_does_not_serve_is_told_and_not_looked_after(
    api: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of its pods is never ready, or is refused ever again."""
    made, told = serving(api, monkeypatch)
    assert told == ["InferenceService team-vision/rehearsal does not answer every time"]
    assert served(made) == (0, [])


def served(of: Flight) -> tuple[int, list[Finding]]:
    """Return how much was looked at after the upgrade, and what was found."""
    api: Any = None
    now = Snapshot(step="upgrade", objects={}, declared=())
    found = of.look(Look(now=now, base=None, api=api, images=frozenset()))
    return found.looked_at, list(found.findings)


def test_what_was_in_flight_is_taken_away_with_its_pods(cluster: Cluster, launched: Flight) -> None:
    """In every namespace that has some, and it is waited for: who lets go of it is deleted next."""
    launched.end()
    assert not cluster.ending
    query = f"labelSelector={flight.MARK}&propagationPolicy=Background"
    assert set(cluster.deleted) == {f"/apis/batch/v1/namespaces/team-{n}/jobs?{query}" for n in range(200)}
