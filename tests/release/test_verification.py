"""What an environment is looked at for after a release came in: each check passes, fails and says why.

On a cluster that only answers and a clock that only a sleep moves. On real ones: tests/acceptance/test_promotion.py.
"""

import dataclasses as dc
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import stacks
from components._labels import ENVIRONMENT, TEAM
from infra import target
from infra.clusters import Cluster
from infra.errors import RunFailed
from infra.kubectl import Object
from infra.release import verification
from infra.release.entry import Check
from infra.target import Target
from stacks._schema import EmbeddedCluster

if TYPE_CHECKING:
    from collections.abc import Callable

PROD = stacks.load("prod")
FIRING = "ModelDown team-vision critical"


class Answers:
    """A cluster, and its clock. now: seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.objects: dict[str, list[Object]] = {
            "namespaces": [space("team-vision"), space("kiban-metadata", team=False)]
        }
        self.alerts: Callable[[float], list[str] | None] = lambda _: None
        self.ends: Callable[[Object], Object] = lambda _: {"succeeded": 1} if self.now > 3 else {}
        self.refuses = False
        self.jobs: list[Object] = []

    def monotonic(self) -> float:
        """How late it is."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        assert seconds > 0
        self.now += seconds

    def get(self, kind: str, *, selector: str = "", **_where: Any) -> list[Object]:  # noqa: ANN401
        """What there is of kinds."""
        if kind == "jobs":
            return [each | {"status": self.ends(each)} for each in self.jobs if fits(each, selector)]
        if kind == "pigs":
            raise RunFailed("no such kind")
        return [each for one in kind.split(",") for each in self.objects.get(one, []) if fits(each, selector)]

    def raw(self, path: str) -> str:
        """What Prometheus says."""
        assert "prometheus:9090/proxy/api/v1/query" in path
        firing = self.alerts(self.now)
        if firing is None:
            raise RunFailed("503")
        return json.dumps({"data": {"result": [{"metric": dict(_named(each))} for each in firing]}})

    def create(self, manifest: Object) -> Object:
        """Make a Job."""
        if self.refuses:
            raise RunFailed("exceeded quota: count/jobs")
        self.jobs.insert(0, manifest)  # in what order they are listed is nobody's matter
        return manifest

    def run(self, *words: str) -> str:
        """Delete the Jobs."""
        assert words[:3] == ("delete", "jobs", "--all-namespaces")
        self.jobs = [each for each in self.jobs if not fits(each, words[3].removeprefix("--selector="))]
        return ""


def _named(alert: str) -> list[tuple[str, str]]:
    return list(zip(("alertname", "namespace", "severity"), alert.split(), strict=True))


def fits(each: Object, selector: str) -> bool:
    """Whether an object has the labels of a selector."""
    labels = each["metadata"].get("labels", {})
    for term in filter(None, selector.split(",")):
        key, is_valued, value = term.removeprefix("!").partition("=")
        there = labels.get(key) == value if is_valued else key in labels
        if there == term.startswith("!"):
            return False
    return True


def space(name: str, *, team: bool = True, environment: str = "prod") -> Object:
    """Return a namespace of the platform."""
    return {"metadata": {"name": name, "labels": {ENVIRONMENT: environment} | ({TEAM: name} if team else {})}}


def deployment(namespace: str, ready: int = 1, **labels: str) -> Object:
    """Return one that wants one pod."""
    status = {"observedGeneration": 1, "readyReplicas": ready, "updatedReplicas": 1}
    metadata = {"name": "a", "namespace": namespace, "generation": 1, "labels": labels}
    return {"kind": "Deployment", "metadata": metadata, "spec": {"replicas": 1}, "status": status}


def service(status: str | None, message: str = "") -> Object:
    """Return an InferenceService that says so of being ready."""
    conditions = [] if status is None else [{"type": "Ready", "status": status, "message": message}]
    metadata = {"name": "churn", "namespace": "team-vision", "labels": {ENVIRONMENT: "prod"}}
    return {"kind": "InferenceService", "metadata": metadata, "status": {"conditions": conditions}}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """The cluster that is looked at."""
    answers = Answers()
    monkeypatch.setattr(verification, "Kubectl", lambda *_: answers)
    monkeypatch.setattr(verification, "time", answers)
    return answers


@pytest.fixture
def where() -> Target:
    """The environment prod on it."""
    return Target(
        environment=PROD,
        on=None,
        cluster=Cluster(name="c", kubeconfig=Path("kubeconfig"), context="c", uid="u"),
        backend=None,
        home=Path("home"),
        folder=None,
        pulumi=Path("pulumi"),
        environ={},
    )


def looked(where: Target, before: frozenset[str] | None = None, window: float = 60) -> dict[str, Check]:
    """What each check says. Whatever it is, a record can have it."""
    said: list[str] = []
    found = verification.verify(where, before, window, said.append)
    assert [each.split(": ")[1] for each in said] == [each.check for each in found]
    for each in found:
        Check(**dc.asdict(each))
        assert "\n" not in each.says
    return {each.check: each for each in found}


def told(found: Check) -> tuple[str, str, str]:
    """All that it says but its name."""
    return found.outcome, found.evidence, found.says


def test_an_environment_in_order_passes(cluster: Answers, where: Target) -> None:
    """Each check says how much it has seen; what was made for that is gone."""
    cluster.objects |= {
        "deployments": [deployment("kiban-metadata"), deployment("kiban-metadata")],
        verification._SERVICES: [service("True")],  # noqa: SLF001
    }
    cluster.alerts = lambda _: [FIRING]
    assert {name: told(each) for name, each in looked(where, frozenset({FIRING})).items()} == {
        "components": ("passed", "executed", "2 are ready"),
        "models": ("passed", "executed", "1 are ready"),
        "queues": ("not-tested", "not-tested", "there are none"),
        "smoke": ("passed", "executed", "a Job ran in each of 1 namespaces"),
        "objectives": ("passed", "executed", "no new alert within 60 s"),
    }
    assert cluster.jobs == []


def test_what_only_simulated_nodes_run_is_simulated(
    cluster: Answers, where: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in without a real node proves no more than that."""
    monkeypatch.setattr(target, "runs_pods", lambda name: name == "real")
    cluster.objects["deployments"] = [deployment("kiban-metadata")]
    for name, evidence in (("real", "executed"), ("stand-in", "simulated")):
        on = PROD.on(EmbeddedCluster(name=name))
        assert looked(dc.replace(where, environment=on))["components"].evidence == evidence


def test_a_component_that_does_not_get_ready_fails(cluster: Answers, where: Target) -> None:
    """Once it had its time. One that a controller made, without a label, counts in the platform's namespaces."""
    cluster.objects["deployments"] = [deployment("kiban-metadata", ready=0)]
    assert told(looked(where)["components"]) == ("failed", "executed", "Deployment kiban-metadata/a is not ready")
    assert cluster.now >= 120
    cluster.objects["deployments"] = [deployment("elsewhere", ready=0, **{ENVIRONMENT: "prod"})]
    assert looked(where)["components"].outcome == "failed"


def test_what_is_not_the_platforms_is_no_reason_to_go_back(cluster: Answers, where: Target) -> None:
    """A Deployment of a team's, of another tenant of the cluster, or of another environment."""
    cluster.objects["namespaces"].append(space("kiban-other", team=False, environment="other"))
    cluster.objects["deployments"] = [
        deployment("kiban-metadata"),
        *(deployment(each, ready=0) for each in ("team-vision", "kube-system", "kiban-other")),
    ]
    assert told(looked(where)["components"]) == ("passed", "executed", "1 are ready")


def test_a_component_may_take_its_time(cluster: Answers, where: Target) -> None:
    """Within two minutes."""
    late = deployment("kiban-metadata", ready=0)
    cluster.objects["deployments"] = [late]
    slept = cluster.sleep

    def sleep(seconds: float) -> None:
        slept(seconds)
        late["status"]["readyReplicas"] = int(cluster.now > 100)

    cluster.sleep = sleep  # type: ignore[method-assign]
    assert looked(where)["components"].outcome == "passed"
    assert 100 < cluster.now < 120


def test_of_many_failures_the_first_are_named(cluster: Answers, where: Target) -> None:
    """In one line, as a record has it."""
    many = [deployment("kiban-metadata", ready=0) for _ in range(8)]
    for number, each in enumerate(many):
        each["metadata"]["name"] = f"a{number}"
    cluster.objects["deployments"] = many
    says = looked(where)["components"].says
    assert says.count("is not ready") == 5
    assert says.endswith("; 3 more")


@pytest.mark.parametrize(
    ("status", "message", "says"),
    [
        ("False", "no\nimage", "InferenceService team-vision/churn: no image"),
        ("False", "", "InferenceService team-vision/churn: not Ready"),
        (None, "", "InferenceService team-vision/churn: nothing is said of Ready"),
    ],
)
def test_a_model_that_does_not_serve_fails(
    cluster: Answers, where: Target, status: str | None, message: str, says: str
) -> None:
    """With what its controller says of it."""
    cluster.objects[verification._SERVICES] = [service(status, message)]  # noqa: SLF001
    assert told(looked(where)["models"]) == ("failed", "executed", says)


@pytest.mark.parametrize(
    ("ends", "says"),
    [
        ({"failed": 1}, "the Job of team-vision failed"),
        ({}, "the Job of team-vision has not ended"),
    ],
)
def test_a_job_that_does_not_run_to_its_end_fails(cluster: Answers, where: Target, ends: Object, says: str) -> None:
    """And is taken away."""
    cluster.ends = lambda _: ends
    assert told(looked(where)["smoke"]) == ("failed", "executed", says)
    assert cluster.jobs == []


def test_a_job_that_is_refused_suspended_or_taken_away_fails(
    cluster: Answers, where: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each says which."""
    cluster.refuses = True
    assert looked(where)["smoke"].says == "the Job of team-vision was refused: exceeded quota: count/jobs"
    cluster.refuses = False
    cluster.ends = lambda _: {}
    made = cluster.create
    monkeypatch.setattr(cluster, "create", lambda job: made(job | {"spec": job["spec"] | {"suspend": True}}))
    assert looked(where)["smoke"].says == "the Job of team-vision waits for quota"
    monkeypatch.setattr(cluster, "create", lambda job: job)
    assert looked(where)["smoke"].says == "the Job of team-vision is gone"


def test_a_job_that_an_earlier_run_has_left_says_nothing(cluster: Answers, where: Target) -> None:
    """It was killed before it could take it away, and the Job had failed."""
    left = verification.job("team-vision", "earlier")
    cluster.jobs.append(left)
    cluster.ends = lambda job: {"failed": 1} if job is left else {"succeeded": 1}
    assert looked(where)["smoke"].outcome == "passed"
    assert cluster.jobs == []


def test_an_alert_that_did_not_fire_before_fails(cluster: Answers, where: Target) -> None:
    """Whenever within the window it begins to; one that fires anyway, or later, does not."""
    cluster.alerts = lambda at: [FIRING] if at > 50 else []
    assert told(looked(where, frozenset(), 60)["objectives"]) == ("failed", "executed", f"{FIRING} fires")
    cluster.now = 0
    assert looked(where, frozenset(), 30)["objectives"].outcome == "passed"
    assert looked(where, frozenset({FIRING}), 60)["objectives"].outcome == "passed"


def test_objectives_are_not_tested_where_nobody_could_be_asked_before(cluster: Answers, where: Target) -> None:
    """Which alerts are new is not known then."""
    cluster.alerts = lambda _: [FIRING]
    assert told(looked(where)["objectives"])[:2] == ("not-tested", "not-tested")


def test_a_prometheus_that_stops_answering_fails(cluster: Answers, where: Target) -> None:
    """Unless the release is without one; a short silence, as of a restart, is none."""
    cluster.objects["services"] = [{"metadata": {"name": "prometheus"}}]
    silent = told(looked(where, frozenset())["objectives"])
    assert silent == ("failed", "executed", "Prometheus has not answered for 120 s")
    cluster.objects["services"] = []
    assert looked(where, frozenset())["objectives"].outcome == "not-tested"
    began = cluster.now
    cluster.alerts = lambda at: None if 1000 < at - began < 1090 else []
    assert looked(where, frozenset(), 1800)["objectives"].outcome == "passed"
    assert cluster.now - began >= 1800


def test_the_alerts_that_fire(cluster: Answers, where: Target) -> None:
    """None where Kiban has no Prometheus there, or it does not answer."""
    assert verification.alerts(where) is None
    cluster.alerts = lambda _: [FIRING]
    assert verification.alerts(where) == frozenset({FIRING})
    none = dc.replace(PROD, monitoring=None, retraining=None)
    assert verification.alerts(dc.replace(where, environment=none)) is None
