"""What can go wrong while an upgrade runs, made to happen: begun before the upgrade, ended after it."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import psutil

from components._labels import POOL, SIMULATED
from infra.clusters import embedded
from infra.clusters.embedded.api import Api
from infra.clusters.waiting import until
from infra.errors import RunFailed
from infra.quantities import amount
from infra.rehearsal.places import CLUSTER
from infra.rehearsal.snapshot import Object

Say = Callable[[str], None]
Fault = Callable[[Api, Say], contextlib.AbstractContextManager[None]]
_QUEUES = "/apis/kueue.x-k8s.io/v1beta2/clusterqueues"
_HOOKS = "/apis/admissionregistration.k8s.io/v1"
_SLOW_SECONDS = 20.0
_RESTART_AFTER = 2.0
_SECONDS = 60.0
_HELD = "rehearsal-slow-kinds"


@contextlib.contextmanager
def webhook_down(api: Api, say: Say) -> Iterator[None]:
    """Every webhook that stops what it cannot see has no pod behind it."""
    scales = {}
    for space, selector in _webhook_services(api):
        for each in api.get(f"/apis/apps/v1/namespaces/{space}/deployments")["items"]:
            labels = each["spec"]["template"]["metadata"].get("labels", {})
            if selector and selector <= set(labels.items()):
                path = f"/apis/apps/v1/namespaces/{space}/deployments/{each['metadata']['name']}"
                scales[path] = each["spec"].get("replicas", 1)
    say(f"fault webhook-down: {len(scales)} Deployments behind webhooks are scaled to 0")
    for path in scales:
        api.merge(path, {"spec": {"replicas": 0}})
    _until(lambda: not any(_pods(api, path, "replicas") for path in scales), "their pods are gone", say)
    try:
        yield
    finally:
        for path, replicas in scales.items():
            api.merge(path, {"spec": {"replicas": replicas}})
        _until(
            lambda: all(_pods(api, path, "readyReplicas") >= replicas for path, replicas in scales.items()),
            "all of their pods are back",
            say,
        )


def _pods(api: Api, deployment: str, counted: str) -> int:
    return int(api.get(deployment).get("status", {}).get(counted, 0))


def _webhook_services(api: Api) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    found = set()
    for plural in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"):
        for configuration in api.get(f"{_HOOKS}/{plural}")["items"]:
            for hook in configuration.get("webhooks", ()):
                service = hook["clientConfig"].get("service")
                if service:
                    at = f"/api/v1/namespaces/{service['namespace']}/services/{service['name']}"
                    selector = api.get(at)["spec"].get("selector", {})
                    found.add((service["namespace"], frozenset(selector.items())))
    return found


@contextlib.contextmanager
def slow_kinds(api: Api, say: Say) -> Iterator[None]:
    """For 20 s no kind becomes established: the API server may not write that it is."""
    say(f"fault slow-kinds: no new kind is served for {_SLOW_SECONDS:.0f} s")
    path = f"{_HOOKS}/validatingadmissionpolicies/{_HELD}"
    bound = f"{_HOOKS}/validatingadmissionpolicybindings/{_HELD}"
    api.apply(path, _holding())
    api.apply(bound, _bound())
    late = threading.Timer(_SLOW_SECONDS, api.delete, [bound])
    late.start()
    try:
        yield
    finally:
        late.cancel()
        late.join()
        api.delete(bound)
        api.delete(path)


def _holding() -> Object:
    rule = {
        "apiGroups": ["apiextensions.k8s.io"],
        "apiVersions": ["*"],
        "operations": ["UPDATE"],
        "resources": ["customresourcedefinitions/status"],
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": _HELD},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [
                {
                    "expression": "oldObject.?status.conditions.orValue([]).exists(c, c.type == 'Established' && "
                    "c.status == 'True')",
                    "message": "a rehearsal holds new kinds back",
                }
            ],
        },
    }


def _bound() -> Object:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": _HELD},
        "spec": {"policyName": _HELD, "validationActions": ["Deny"]},
    }


@contextlib.contextmanager
def api_restart(api: Api, say: Say) -> Iterator[None]:
    """The API server is killed while the upgrade runs, and started again."""

    def restart() -> None:
        time.sleep(_RESTART_AFTER)
        server = next(each for each in embedded.status(CLUSTER).processes if each.name == "kube-apiserver")
        say("fault api-restart: the API server is killed")
        if server.pid:
            psutil.Process(server.pid).kill()
        embedded.up(CLUSTER, say=lambda _: None)

    killer = threading.Thread(target=restart, daemon=True)
    killer.start()
    try:
        yield
    finally:
        killer.join()
        _until(api.ready, "the API server is ready", say)


@contextlib.contextmanager
def lost_pool(api: Api, say: Say) -> Iterator[None]:
    """The nodes of the pool that has most of them are gone."""
    nodes = api.get(f"/api/v1/nodes?labelSelector={SIMULATED}%3Dtrue,nvidia.com/gpu.product")["items"]
    pools = [node["metadata"]["labels"][POOL] for node in nodes]
    lost = max(pools, key=pools.count, default=None)
    gone = [node for node in nodes if node["metadata"]["labels"][POOL] == lost]
    say(f"fault lost-pool: the {len(gone)} nodes of pool {lost} are gone")
    for node in gone:
        api.delete(f"/api/v1/nodes/{node['metadata']['name']}")
    try:
        yield
    finally:
        for node in gone:
            kept = {key: node["metadata"][key] for key in ("name", "labels", "annotations")}
            api.apply(
                f"/api/v1/nodes/{node['metadata']['name']}",
                {"apiVersion": "v1", "kind": "Node", "metadata": kept, "spec": node["spec"]},
            )
            api.merge(f"/api/v1/nodes/{node['metadata']['name']}/status", {"status": node["status"]})


@contextlib.contextmanager
def half_quota(api: Api, say: Say) -> Iterator[None]:
    """Every team's own quota of devices is cut in half, by another than Kiban."""
    queues = api.get(_QUEUES)["items"]
    say(f"fault half-quota: the quotas of {len(queues)} ClusterQueues are cut in half")
    for queue in queues:
        halved = [
            group
            | {
                "flavors": [
                    flavor | {"resources": [_halved(each) for each in flavor["resources"]]}
                    for flavor in group["flavors"]
                ]
            }
            for group in queue["spec"]["resourceGroups"]
        ]
        api.merge(f"{_QUEUES}/{queue['metadata']['name']}", {"spec": {"resourceGroups": halved}})
    try:
        yield
    finally:
        for queue in queues:
            groups = {"spec": {"resourceGroups": queue["spec"]["resourceGroups"]}}
            api.merge(f"{_QUEUES}/{queue['metadata']['name']}", groups)


def _halved(resource: Object) -> Object:
    if "/" not in resource["name"]:
        return resource
    return resource | {"nominalQuota": str(int(amount(resource["nominalQuota"])) // 2)}


def _until(condition: Callable[[], bool], what: str, say: Say) -> None:
    """Wait for it; where that takes too long it is said, and what it has led to is for the checks to find."""
    try:
        until(condition, seconds=_SECONDS, what=what, every=0.2)
    except RunFailed as late:
        say(f"fault: {late}")


FAULTS: Mapping[str, Fault] = {
    "webhook-down": webhook_down,
    "slow-kinds": slow_kinds,
    "api-restart": api_restart,
    "lost-pool": lost_pool,
    "half-quota": half_quota,
}
