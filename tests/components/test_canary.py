"""A canary is moved on while the objective holds, taken back when it does not, and left where nothing is known."""

import copy
import dataclasses as dc
import http.client
import json
import threading
import time
from typing import Any

import pytest

from components.scripts import canary as program
from components.scripts.canary import BACK, MOVING, PROMOTED, STATE, WAITING, Canary, Seen, State, after, look, metrics

CANARY = Canary(
    team="vision",
    namespace="team-vision",
    name="digits",
    version="4",
    steps=(10, 50, 100),
    step_seconds=600,
    fewest_requests=100,
    availability=0.99,
    latency_ms=300,
)
FINE = Seen(requests=100, errors=1, latency_ms=300)
AT_TEN = State(of="u/4", phase=MOVING, percent=10, since=1000)


def step(state: State, seen: Seen | None = FINE, *, ready: bool = True, at: float = 1600) -> tuple[str, int]:
    """Return phase and share of the next state."""
    found = after(CANARY, state, ready=ready, seen=seen, now=at)
    return found.phase, found.percent


def test_it_begins_when_the_canary_is_ready() -> None:
    """Before, it would answer nothing."""
    waiting = State(of="u/4", since=0)
    assert step(waiting, None, ready=False) == (WAITING, 0)
    assert after(CANARY, waiting, ready=True, seen=None, now=7) == dc.replace(AT_TEN, since=7)


@pytest.mark.parametrize(
    ("percent", "next_"), [(10, (MOVING, 50)), (50, (MOVING, 100)), (100, (PROMOTED, 100)), (30, (MOVING, 50))]
)
def test_it_moves_on_while_the_objective_holds(percent: int, next_: tuple[str, int]) -> None:
    """Ten, fifty, all: after the step's time, with enough requests, as many errors as are allowed, and in time."""
    assert step(dc.replace(AT_TEN, percent=percent)) == next_


@pytest.mark.parametrize(
    ("seen", "at"),
    [(FINE, 1599), (dc.replace(FINE, requests=99, errors=0), 1600), (None, 9999)],
    ids=["too early", "too few", "nothing known"],
)
def test_it_stays_where_that_says_nothing_yet(seen: Seen | None, at: float) -> None:
    """A step is held for its time and its requests; without figures nothing is decided."""
    assert step(AT_TEN, seen, at=at) == (MOVING, 10)


@pytest.mark.parametrize("state", [AT_TEN, dc.replace(AT_TEN, percent=50), State(of="u/4", phase=PROMOTED, since=0)])
@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (Seen(requests=100, errors=2, latency_ms=1), "2 of 100 requests failed; accepted: 1.0"),
        (Seen(requests=2, errors=2, latency_ms=1), "2 of 2 requests failed"),
        (Seen(requests=1000, errors=11, latency_ms=1), "11 of 1000 requests failed; accepted: 10.0"),
        (Seen(requests=100, errors=0, latency_ms=301), "99 of 100 requests took up to 301 ms; accepted: 300 ms"),
    ],
)
def test_it_goes_back_at_once_when_the_objective_does_not_hold(state: State, seen: Seen, reason: str) -> None:
    """At every step and after the last one, without waiting for the step to end; the reason is kept."""
    back = after(CANARY, state, ready=True, seen=seen, now=1001)
    assert (back.phase, back.percent, back.since) == (BACK, 0, 1001)
    assert reason in back.reason


@pytest.mark.parametrize(
    "seen",
    [Seen(requests=50, errors=1, latency_ms=1), Seen(requests=99, errors=0, latency_ms=9999)],
    ids=["one error", "a slow start"],
)
def test_a_few_requests_do_not_condemn_it(seen: Seen) -> None:
    """One error is what the objective allows in a step; of few requests the slowest is no 99th of 100."""
    assert step(AT_TEN, seen, at=1001) == (MOVING, 10)


def test_one_that_was_taken_back_stays_so() -> None:
    """Whatever is measured then."""
    assert step(State(of="u/4", phase=BACK, since=0)) == (BACK, 0)


class Cluster(program.Cluster):
    """Has one route and one Deployment, and takes patches as the API server does."""

    def __init__(self, seen: Seen | None = FINE) -> None:
        self.figures = seen
        self.windows: list[float] = []
        names = ("digits-predictor", "digits-canary-predictor")
        self.route: dict[str, Any] = {
            "metadata": {"resourceVersion": "1", "annotations": {"kept": "x"}},
            "spec": {
                "rules": [{"backendRefs": [{"name": names[0], "weight": 999_999}, {"name": names[1], "weight": 1}]}]
            },
        }
        labels = {"kiban.dev/model-version": "4"}
        self.deployment: dict[str, Any] = {
            "metadata": {"uid": "u", "generation": 2},
            "spec": {"template": {"metadata": {"labels": labels}}},
            "status": {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1},
        }

    def get(self, path: str) -> dict[str, Any]:
        """Return one of the two."""
        if path == "apis/gateway.networking.k8s.io/v1/namespaces/team-vision/httproutes/digits":
            return copy.deepcopy(self.route)
        assert path == "apis/apps/v1/namespaces/team-vision/deployments/digits-canary-predictor"
        return self.deployment

    def patch(self, path: str, changes: Any) -> None:  # noqa: ANN401 - a JSON patch
        """Change the route."""
        assert path.endswith("/httproutes/digits")
        test, *rest = changes
        assert test == {"op": "test", "path": "/metadata/resourceVersion", "value": "1"}
        for change in rest:
            *parents, last = [int(part) if part.isdigit() else part for part in change["path"].split("/")[1:]]
            target: Any = self.route
            for part in parents:
                target = target[part]
            target[last] = change["value"]

    def seen(self, canary: Canary, seconds: float) -> Seen | None:
        """Return the figures."""
        assert canary is CANARY
        self.windows.append(seconds)
        return self.figures

    @property
    def weights(self) -> list[int]:
        """The weights of model and canary."""
        return [each["weight"] for each in self.route["spec"]["rules"][0]["backendRefs"]]


def test_the_route_has_state_and_weights() -> None:
    """Both are written at once; what else the route has stays, and so does the model's cluster at Envoy."""
    cluster = Cluster()
    look(cluster, CANARY, 1000)
    assert cluster.weights == [900_000, 100_000]
    annotations = cluster.route["metadata"]["annotations"]
    assert annotations["kept"] == "x"
    assert json.loads(annotations[STATE]) == dc.asdict(AT_TEN)
    look(cluster, CANARY, 1600)
    look(cluster, CANARY, 2200)
    assert cluster.weights == [1, 999_999]
    assert look(cluster, CANARY, 2800).phase == PROMOTED


def test_only_what_was_counted_since_the_step_began_says_something() -> None:
    """Nothing of an earlier step, and nothing of a canary before this one."""
    cluster = Cluster(None)
    for at in (1000, 1030, 9000):
        look(cluster, CANARY, at)
    assert cluster.windows == [30, 600]


def test_weights_that_somebody_else_wrote_are_put_right() -> None:
    """An `up` that changes the route writes the weights of the start."""
    cluster = Cluster(Seen(requests=9, errors=9, latency_ms=1))
    look(cluster, CANARY, 1000)
    look(cluster, CANARY, 1010)
    cluster.route["spec"]["rules"][0]["backendRefs"][1]["weight"] = 10
    for _ in range(2):
        assert look(cluster, CANARY, 1020).phase == BACK
    assert cluster.weights == [1_000_000, 0]


def test_a_share_begins_and_ends_with_one_request_in_a_million() -> None:
    """Envoy would answer 500 to requests for a cluster that it does not have yet, or has no more."""
    cluster = Cluster()
    cluster.deployment["status"], status = {}, cluster.deployment["status"]
    seen = []
    for at in (1000, 1005, 1010, 1015, 1020):
        look(cluster, CANARY, at)
        seen.append(cluster.weights[1])
        cluster.deployment["status"] = status
        cluster.figures = FINE if at < 1010 else Seen(requests=9, errors=9, latency_ms=1)
    assert seen == [0, 1, 100_000, 1, 0]


@pytest.mark.parametrize("change", ["uid", "version"])
def test_another_canary_begins_anew(change: str) -> None:
    """Another version, or the same one after it was removed and put in again."""
    cluster = Cluster(Seen(requests=9, errors=9, latency_ms=1))
    look(cluster, CANARY, 1000)
    assert look(cluster, CANARY, 1010).phase == BACK
    canary = CANARY
    if change == "uid":
        cluster.deployment["metadata"]["uid"] = "v"
    else:
        canary = dc.replace(CANARY, version="5")
        cluster.deployment["spec"]["template"]["metadata"]["labels"]["kiban.dev/model-version"] = "5"
    assert look(cluster, canary, 1020).phase == MOVING
    assert cluster.weights == [900_000, 100_000]


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1},
        {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 2},
        {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1},
    ],
)
def test_a_canary_that_is_not_there_yet_gets_nothing(status: dict[str, int]) -> None:
    """Nor one of whose pods some are still the last canary's."""
    cluster = Cluster()
    cluster.deployment["status"] = status
    assert look(cluster, CANARY, 1000).phase == WAITING
    assert cluster.weights == [1_000_000, 0]


def test_a_deployment_of_another_version_is_not_ready() -> None:
    """KServe has not changed it yet."""
    cluster = Cluster()
    cluster.deployment["spec"]["template"]["metadata"]["labels"]["kiban.dev/model-version"] = "3"
    assert look(cluster, CANARY, 1000).phase == WAITING


@pytest.mark.parametrize("said", ["", "{", "[]", '{"of": "u/4", "more": 1}'])
def test_a_state_that_cannot_be_read_begins_anew(said: str) -> None:
    """Somebody's edit must not stop the controller."""
    cluster = Cluster()
    cluster.route["metadata"]["annotations"][STATE] = said
    assert look(cluster, CANARY, 1000).phase == MOVING


def test_what_prometheus_is_asked() -> None:
    """Of the canary's own cluster, in whole seconds."""
    asked = program.queries(CANARY, 90.9)
    cluster = 'envoy_cluster_name="httproute/team-vision/digits/rule/0/backend/1"'
    assert asked == {
        "requests": f"sum(increase(envoy_cluster_upstream_rq_xx{{{cluster}}}[90s]))",
        "errors": f'sum(increase(envoy_cluster_upstream_rq_xx{{{cluster}, envoy_response_code_class="5"}}[90s]))',
        "latency_ms": "histogram_quantile(0.99, sum by (le) "
        f"(increase(envoy_cluster_upstream_rq_time_bucket{{{cluster}}}[90s])))",
    }


def test_its_figures_name_the_canary() -> None:
    """Share, and whether it was taken back: an alert is made of that."""
    said = metrics({CANARY: State(of="u/4", phase=BACK, since=0)})
    labels = '{team="vision",model="digits",version="4"}'
    assert f"kiban_canary_percent{labels} 0\n" in said
    assert f"kiban_canary_rolled_back{labels} 1\n" in said


@pytest.mark.parametrize(("ago", "status"), [(0.0, 200), (130.0, 503)])
def test_it_is_healthy_while_it_looks(ago: float, status: int) -> None:
    """A look that hangs ends with a new pod; the figures can be read in any case."""
    serving = program.server({}, [time.monotonic() - ago], 0)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    try:
        for path, wanted in (("/healthz", status), ("/metrics", 200)):
            asked = http.client.HTTPConnection("127.0.0.1", serving.server_address[1])
            asked.request("GET", path)
            assert asked.getresponse().status == wanted
            asked.close()
    finally:
        serving.shutdown()
        serving.server_close()


def test_a_route_that_has_no_canary_any_more_is_let_be() -> None:
    """An `up` changes the route before this program hears of it, and the model must not be left without weight."""
    cluster = Cluster()
    promoted = State(of="u/4", percent=100, phase=PROMOTED, since=0)
    cluster.route["spec"]["rules"][0]["backendRefs"] = [{"name": "digits-predictor", "weight": 100}]
    assert program.patch(cluster.route, CANARY, promoted) == []
