"""Moves a model's requests to its canary, share by share while the objective holds, and back when it does not.

Runs in a pod. Each canary is an entry of the file CANARIES (components/_serving.py, canaries()). Its share is the
weights of the model's HTTPRoute, out of WHOLE. What was decided is in the route's annotation STATE: a new pod goes on
where the last one was, and weights that somebody else wrote are put right. A canary gets no share before all its pods
are of its version and ready. One that was taken back stays so until there is another: another version, or one that was
removed and put in again.
"""
# ruff: noqa: INP001 - a program of its own

import dataclasses as dc
import http.server
import json
import math
import os
import ssl
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

STATE = "kiban.dev/canary"
WAITING, MOVING, PROMOTED, BACK = "Waiting", "Moving", "Promoted", "RolledBack"
EVERY = 5.0
"""Seconds between two looks."""
PATIENCE = 15.0
WHOLE, LEAST = 1_000_000, 1
"""Weight of all requests, and the least there is.

A backend of weight 0 is no cluster of Envoy's (Envoy Gateway 1.9). It hears of clusters and of the routes to them in no
certain order, and answers 500 for a cluster that it does not have (issue 6287 of Envoy Gateway). So requests go only to
a cluster that has been there for a look, and a cluster goes only when no more than one request in a million goes to it.
"""
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_ROUTES = "apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes/{name}"
_DEPLOYMENTS = "apis/apps/v1/namespaces/{namespace}/deployments/{name}-canary-predictor"

Object = dict[str, Any]


@dc.dataclass(frozen=True, kw_only=True)
class Canary:
    """What is promised of a model, and how its canary gets its requests.

    name: the model's. steps: percent of the requests, rising to 100. step_seconds: how long each is held at least.
    fewest_requests: below which a step says nothing.
    """

    team: str
    namespace: str
    name: str
    version: str
    steps: Sequence[int]
    step_seconds: float
    fewest_requests: int
    availability: float
    latency_ms: float


@dc.dataclass(frozen=True, kw_only=True)
class State:
    """Where a canary is. of: which canary, by its Deployment's UID and its version. since: Unix seconds."""

    of: str
    phase: str = WAITING
    percent: int = 0
    since: float
    reason: str = ""


@dc.dataclass(frozen=True, kw_only=True)
class Seen:
    """What Envoy has counted since the step began. latency_ms: what 99 of 100 took at most."""

    requests: float
    errors: float
    latency_ms: float


def after(canary: Canary, state: State, *, ready: bool, seen: Seen | None, now: float) -> State:
    """The next state. seen: None where nothing is known, with which nothing is decided."""
    if state.phase == WAITING and ready:
        return dc.replace(state, phase=MOVING, percent=canary.steps[0], since=now)
    if state.phase in (WAITING, BACK) or seen is None:
        return state
    if reason := broken(canary, seen):
        at = f"at {state.percent} %: {reason}"
        return dc.replace(state, phase=BACK, percent=0, since=now, reason=at)
    if state.phase == PROMOTED or now - state.since < canary.step_seconds or seen.requests < canary.fewest_requests:
        return state
    higher = [step for step in canary.steps if step > state.percent]
    if higher:
        return dc.replace(state, percent=higher[0], since=now)
    return dc.replace(state, phase=PROMOTED, since=now)


def broken(canary: Canary, seen: Seen) -> str:
    """Why the objective does not hold; empty where it does.

    Errors count against what the objective allows in as many requests as a step needs, so that a canary which answers
    nothing goes back after a few; latency is judged when there are so many.
    """
    allowed = (1 - canary.availability) * max(seen.requests, canary.fewest_requests)
    if seen.errors > allowed:
        return f"{seen.errors:.0f} of {seen.requests:.0f} requests failed; accepted: {allowed:.1f}"
    if seen.requests >= canary.fewest_requests and seen.latency_ms > canary.latency_ms:
        return f"99 of 100 requests took up to {seen.latency_ms:.0f} ms; accepted: {canary.latency_ms:.0f} ms"
    return ""


def queries(canary: Canary, seconds: float) -> dict[str, str]:
    """PromQL for what Envoy has counted of the canary in the last seconds.

    A backend with a filter is a cluster of its own, named by its place in the route (Envoy Gateway 1.9).
    """
    cluster = f'envoy_cluster_name="httproute/{canary.namespace}/{canary.name}/rule/0/backend/1"'
    window = f"[{max(1, math.floor(seconds))}s]"
    counted = f"increase(envoy_cluster_upstream_rq_xx{{{cluster}%s}}{window})"
    times = f"increase(envoy_cluster_upstream_rq_time_bucket{{{cluster}}}{window})"
    failed = counted % ', envoy_response_code_class="5"'
    return {
        "requests": f"sum({counted % ''})",
        "errors": f"sum({failed})",
        "latency_ms": f"histogram_quantile(0.99, sum by (le) ({times}))",
    }


def patch(route: Object, canary: Canary, state: State) -> list[Object]:
    """The JSON patch that writes state and weights into the route; empty where it has them.

    Also where the route has no canary any more, of which an `up` tells this program later than the route: then all
    requests are the model's, and none would be answered if its weight were what the canary left it.
    """
    name = f"{canary.name}-canary-predictor"
    backends = route["spec"]["rules"][0]["backendRefs"]
    has = next((backend.get("weight", 1) for backend in backends if backend["name"] == name), None)
    if has is None:
        return []
    share = weight_after(has, state.percent)
    changes: list[Object] = []
    for index, backend in enumerate(backends):
        weight = share if backend["name"] == name else WHOLE - share
        if backend.get("weight", 1) != weight:
            where = f"/spec/rules/0/backendRefs/{index}/weight"
            changes.append({"op": "add", "path": where, "value": weight})
    said = json.dumps(dc.asdict(state), sort_keys=True)
    annotations = route["metadata"].get("annotations") or {}
    if annotations.get(STATE) != said:
        changes.append({"op": "add", "path": "/metadata/annotations", "value": annotations | {STATE: said}})
    unchanged = {"op": "test", "path": "/metadata/resourceVersion", "value": route["metadata"]["resourceVersion"]}
    return [unchanged, *changes] if changes else []


def weight_after(has: int, percent: int) -> int:
    """The canary's weight after one that it has, on the way to its share: LEAST between nothing and more than that."""
    wanted = min(WHOLE * percent // 100, WHOLE - LEAST)
    return LEAST if 0 in (has, wanted) and max(has, wanted) > LEAST else wanted


def state_of(route: Object, of: str, now: float) -> State:
    """The state that the route has of this canary; of another one, a new one."""
    try:
        state = State(**json.loads((route["metadata"].get("annotations") or {})[STATE]))
    except (KeyError, TypeError, ValueError):
        return State(of=of, since=now)
    return state if state.of == of else State(of=of, since=now)


class Cluster:
    """The API server, as the pod's ServiceAccount may ask it, and Prometheus."""

    def __init__(self, prometheus: str) -> None:
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        self._prometheus = prometheus
        self._server = f"https://{host}:{port}"
        self._trust = ssl.create_default_context(cafile=f"{_ACCOUNT}/ca.crt")

    def get(self, path: str) -> Object:
        """Return an object. Raises urllib.error.HTTPError, of code 404 where there is none."""
        return self._asked(urllib.request.Request(f"{self._server}/{path}"))  # noqa: S310 - https

    def patch(self, path: str, changes: Sequence[Object]) -> None:
        """Patch an object. Raises urllib.error.HTTPError where it is another than the patch was made for."""
        kind = {"Content-Type": "application/json-patch+json"}
        address = f"{self._server}/{path}?fieldManager=canary-controller"
        body = json.dumps(list(changes)).encode()
        self._asked(urllib.request.Request(address, body, kind, method="PATCH"))  # noqa: S310 - https

    def seen(self, canary: Canary, seconds: float) -> Seen | None:
        """What has been counted in the last seconds; None where nothing has been yet."""
        asked = {name: self._number(query) for name, query in queries(canary, seconds).items()}
        if math.isnan(asked["requests"]):
            return None
        return Seen(**{name: 0.0 if math.isnan(value) else value for name, value in asked.items()})

    def _number(self, query: str) -> float:
        address = f"{self._prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer:  # noqa: S310 - http(s), by its schema
            result = json.load(answer)["data"]["result"]
        return float(result[0]["value"][1]) if result else math.nan

    def _asked(self, request: urllib.request.Request) -> Object:
        with open(f"{_ACCOUNT}/token") as token:  # noqa: PTH123 - read each time: it is renewed
            request.add_header("Authorization", f"Bearer {token.read()}")
        with urllib.request.urlopen(request, timeout=PATIENCE, context=self._trust) as answer:  # noqa: S310
            found: Object = json.load(answer)
        return found


def look(cluster: Cluster, canary: Canary, now: float) -> State:
    """Look at one canary once, decide, and write what was decided."""
    where = {"namespace": canary.namespace, "name": canary.name}
    route = cluster.get(_ROUTES.format(**where))
    deployment = cluster.get(_DEPLOYMENTS.format(**where))
    state = state_of(route, f"{deployment['metadata']['uid']}/{canary.version}", now)
    seen = None
    if state.phase in (MOVING, PROMOTED):
        seen = cluster.seen(canary, min(now - state.since, canary.step_seconds))
    decided = after(canary, state, ready=is_ready(deployment, canary.version), seen=seen, now=now)
    if changes := patch(route, canary, decided):
        cluster.patch(_ROUTES.format(**where), changes)
    if decided != state:
        said = f"{decided.phase}, {decided.percent} % {decided.reason}".rstrip()
        sys.stdout.write(f"{canary.team}/{canary.name}, version {canary.version}: {said}\n")
        sys.stdout.flush()
    return decided


def is_ready(deployment: Object, version: str) -> bool:
    """Whether all pods are of that version, and one at least can answer."""
    status = deployment.get("status", {})
    if deployment["spec"]["template"]["metadata"]["labels"].get("kiban.dev/model-version") != version:
        return False
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return False
    pods: list[int] = [status.get(count, 0) for count in ("replicas", "updatedReplicas", "availableReplicas")]
    return pods[0] == pods[1] == pods[2] > 0


def metrics(states: Mapping[Canary, State]) -> str:
    """What Prometheus scrapes."""
    lines = ["# TYPE kiban_canary_percent gauge", "# TYPE kiban_canary_rolled_back gauge"]
    for canary, state in list(states.items()):
        labels = f'{{team="{canary.team}",model="{canary.name}",version="{canary.version}"}}'
        lines.append(f"kiban_canary_percent{labels} {state.percent}")
        lines.append(f"kiban_canary_rolled_back{labels} {int(state.phase == BACK)}")
    return "\n".join([*lines, ""])


def server(states: Mapping[Canary, State], looked: list[float], port: int) -> http.server.ThreadingHTTPServer:
    """What answers /metrics, and /healthz while looks are taken (looked: when the last one was)."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            late = time.monotonic() - looked[0] > 120
            body = metrics(states) if self.path == "/metrics" else "late\n" if late else "ok\n"
            self.send_response(503 if late and self.path == "/healthz" else 200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing: what is decided is said."""

    return http.server.ThreadingHTTPServer(("", port), Handler)


def main() -> None:
    """Look at every canary, again and again."""
    with open(os.environ["CANARIES"]) as file:  # noqa: PTH123 - as short as it gets
        canaries = [Canary(**{**each, "steps": tuple(each["steps"])}) for each in json.load(file)]
    cluster = Cluster(os.environ["PROMETHEUS"])
    states: dict[Canary, State] = {}
    looked = [time.monotonic()]
    threading.Thread(target=server(states, looked, int(os.environ["PORT"])).serve_forever, daemon=True).start()
    while True:
        for canary in canaries:
            try:
                states[canary] = look(cluster, canary, time.time())
            except (OSError, KeyError, ValueError) as error:  # away, not there yet, or changed meanwhile: the next look
                sys.stderr.write(f"{canary.team}/{canary.name}: {type(error).__name__}: {error}\n")
            looked[0] = time.monotonic()
        time.sleep(EVERY)


if __name__ == "__main__":
    main()
