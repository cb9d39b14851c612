"""The check `network`: what a pod is told of, and whether it gets there."""

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from components._network import api_server, policies
from infra.rehearsal import reach
from infra.rehearsal.checks.network import network
from infra.rehearsal.flows import Told
from infra.rehearsal.look import Look, Outcome
from infra.rehearsal.snapshot import Object, Snapshot

Objects = dict[str, list[Object]]
TOKEN = {"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
WEB, DB = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no pod run on this machine, unless a test says so."""
    monkeypatch.setattr(reach, "processes", dict)


def pod(name: str, namespace: str, uid: str, **container: Any) -> Object:  # noqa: ANN401 - fields of a container
    """Return a pod of one container."""
    metadata = {"name": name, "namespace": namespace, "uid": uid, "labels": {"app": name}}
    spec = {"containers": [{"name": name} | container], "nodeName": "host", "serviceAccountName": name}
    status = {"phase": "Running", "podIP": "127.0.0.1"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


def cluster(**container: Any) -> Objects:  # noqa: ANN401 - fields of a container
    """Return a pod `web` that is told of what it has in its container, and a database in another namespace."""
    database = pod("db", "data", DB, ports=[{"name": "sql", "containerPort": 15432}])
    service: Object = {
        "metadata": {"name": "db", "namespace": "data"},
        "spec": {"clusterIP": "127.0.0.1", "selector": {"app": "db"}, "ports": [{"port": 5432, "targetPort": "sql"}]},
    }
    spaces: list[Object] = [
        {"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}} for name in ("front", "data")
    ]
    return {"Pod": [pod("web", "front", WEB, **container), database], "Service": [service], "Namespace": spaces}


def closed(namespace: str, more: dict[str, Any] | None = None) -> list[Object]:
    """Return the policies of a closed namespace, as the platform has them, and others."""
    return [
        {"metadata": {"name": name, "namespace": namespace}, "spec": spec}
        for name, spec in (policies() | (more or {})).items()
    ]


def looked(objects: Objects, *rules: Object) -> Outcome:
    """Look at a cluster with these objects and policies."""
    all_of = objects | {"NetworkPolicy.networking.k8s.io": list(rules)}
    now = Snapshot(step="install", objects={kind: tuple(those) for kind, those in all_of.items()}, declared=())
    return network(Look(now=now, base=None, api=None, images=frozenset()))  # type: ignore[arg-type]  # it asks nothing


def told(objects: Objects) -> set[tuple[str, int]]:
    """Return the Services that web is told of, with their ports."""
    now = Snapshot(step="install", objects={kind: tuple(those) for kind, those in objects.items()}, declared=())
    return {(flow.service, flow.port) for flow in Told(now).flows("front", objects["Pod"][0]["spec"])}


@pytest.mark.parametrize(
    "container",
    [
        {"env": [{"name": "URL", "value": "postgresql://me:pw@db.data.svc:5432/app"}]},
        {"env": [{"name": "URL", "value": "db.data:5432,other:1"}]},
        {"args": ["--store=db.data.svc.cluster.local:5432"]},
        {"command": ["sh", "-c", "exec connect http://db.data.svc.cluster.local.:5432"]},
        {"env": [{"name": "PGHOST", "value": "db.data"}, {"name": "PGPORT", "value": "5432"}]},
        {"env": [{"name": "STORE", "value": "db.data.svc"}, {"name": "STORE_PORT", "value": "5432"}]},
        {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "url"}}}]},
        {"envFrom": [{"configMapRef": {"name": "settings"}}]},
        {"volumeMounts": [{"name": "settings", "mountPath": "/etc/web"}]},
    ],
)
def test_a_service_with_its_port_is_what_a_pod_is_told_of(container: dict[str, Any]) -> None:
    """In variables, plain or of ConfigMaps, in pairs of them, in commands, arguments and mounted files."""
    objects = cluster(**container)
    settings = {"metadata": {"name": "settings", "namespace": "front"}, "data": {"url": "tcp://db.data.svc:5432"}}
    objects["ConfigMap"] = [settings]
    objects["Pod"][0]["spec"]["volumes"] = [{"name": "settings", "configMap": {"name": "settings"}}]
    assert told(objects) == {("db", 5432)}


@pytest.mark.parametrize(
    "text",
    [
        "db.data.svc",  # a name alone, as in a certificate
        "db.data.svc:5433",  # no port of the Service
        "docker.io/library/db:5432",  # a path, and of another namespace
        "db:5432.1",
        "db.data.example.com:5432",
        "http://db.data.svc/",  # port 80
    ],
)
def test_other_words_are_no_connection(text: str) -> None:
    """Nothing is found in what may be something else."""
    assert told(cluster(args=[text])) == set()


def test_dns_and_the_api_server_are_needed_by_those_who_use_them() -> None:
    """DNS by every pod; the API server where a token is mounted whose account has rights."""
    objects = cluster(volumeMounts=[TOKEN])
    objects["Service"] += [
        {"metadata": {"name": "kubernetes", "namespace": "default"}, "spec": {"clusterIP": "10.96.0.1"}},
        {"metadata": {"name": "kube-dns", "namespace": "kube-system"}, "spec": {"ports": [{"port": 53}]}},
    ]
    assert told(objects) == {("kube-dns", 53)}
    subject = {"kind": "ServiceAccount", "name": "web", "namespace": "front"}
    objects["RoleBinding.rbac.authorization.k8s.io"] = [{"subjects": [subject]}]
    assert told(objects) == {("kube-dns", 53), ("kubernetes", 443)}


TELLS = {"args": ["--store=db.data.svc:5432"]}
OUT = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"protocol": "TCP", "port": 15432}]}]}
INTO = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"protocol": "TCP", "port": "sql"}]}]}


def test_what_both_ends_let_through_is_fine() -> None:
    """Read only, since no pod runs here."""
    outcome = looked(cluster(**TELLS), *closed("front", {"out": OUT}), *closed("data", {"into": INTO}))
    assert (outcome.evidence, outcome.looked_at, outcome.findings) == ("simulated", 1, ())


@pytest.mark.parametrize(
    ("front", "data", "why"),
    [
        ({}, {"into": INTO}, "NetworkPolicies let it not out of front: allow-dns, allow-within, default-deny"),
        ({"out": OUT}, {}, "NetworkPolicies let it not into data: allow-within, default-deny"),
    ],
)
def test_what_either_end_shuts_is_found(front: dict[str, Any], data: dict[str, Any], why: str) -> None:
    """Who cannot reach what, where it is told of it, and by which policies."""
    (finding,) = looked(cluster(**TELLS), *closed("front", front), *closed("data", data)).findings
    assert finding.object == "Pod front/web"
    assert finding.message == f"cannot reach TCP db.data:5432 (args of web): {why}"


def test_the_api_server_is_reached_by_either_of_its_addresses() -> None:
    """The platform's own policy lets pods out to it; without that it is found."""
    objects = cluster(volumeMounts=[TOKEN])
    objects["Service"] = [
        {"metadata": {"name": "kubernetes", "namespace": "default"}, "spec": {"clusterIP": "10.96.0.1"}}
    ]
    endpoint = {"endpoints": [{"addresses": ["198.19.0.2"]}], "ports": [{"port": 6443}]}
    objects["EndpointSlice.discovery.k8s.io"] = [
        {"metadata": {"name": "kubernetes", "namespace": "default"}} | endpoint
    ]
    subject = {"kind": "ServiceAccount", "name": "web", "namespace": "front"}
    objects["ClusterRoleBinding.rbac.authorization.k8s.io"] = [{"subjects": [subject]}]
    (finding,) = looked(objects, *closed("front")).findings
    assert "cannot reach TCP kubernetes.default:443" in finding.message
    assert looked(objects, *closed("front", api_server())).findings == ()
    only = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": 6443}]}]}
    assert looked(objects, *closed("front", {"only": only})).findings == ()


def test_what_a_cron_job_is_yet_to_make_is_looked_at() -> None:
    """Its pods are not there when they would fail."""
    objects = cluster()
    template = {"metadata": {"labels": {"app": "backup"}}, "spec": {"containers": [{"name": "backup"} | TELLS]}}
    spec = {"jobTemplate": {"spec": {"template": template}}}
    metadata = {"name": "backup", "namespace": "front", "uid": "uid-backup"}
    objects["CronJob.batch"] = [{"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata, "spec": spec}]
    (finding,) = looked(objects, *closed("front"), *closed("data", {"into": INTO})).findings
    assert finding.object == "CronJob front/backup"


def test_a_pod_always_reaches_itself() -> None:
    """Told of its own Service."""
    objects = cluster()
    objects["Pod"] = [pod("db", "data", DB, args=["--advertise=db:5432"], ports=[{"name": "sql", "containerPort": 1}])]
    outcome = looked(objects, *closed("data"))
    assert (outcome.looked_at, outcome.findings) == (0, ())


@contextlib.contextmanager
def listening() -> Iterator[int]:
    """Give a port of this machine on which something listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def executed(monkeypatch: pytest.MonkeyPatch, *, service: int, target: int) -> Outcome:
    """Look at pods that run here: the Service is at one port of this machine, the pod behind it at another."""
    monkeypatch.setattr(reach, "processes", lambda: {WEB: os.getpid(), DB: os.getpid()})
    monkeypatch.setattr(reach, "_enter", lambda _: None)  # this test has no network namespace of its own
    objects = cluster(args=[f"--store=db.data.svc:{service}"])
    objects["Service"][0]["spec"]["ports"] = [{"port": service, "targetPort": target}]
    return looked(objects)


def unused() -> int:
    """Return a port on which nothing listens."""
    with listening() as port:
        return port


def test_a_connection_that_comes_about_is_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real call to the Service's address."""
    with listening() as port:
        outcome = executed(monkeypatch, service=port, target=port)
    assert (outcome.evidence, outcome.findings) == ("executed", ())


def test_a_call_that_fails_though_the_pod_listens_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the policies say."""
    with listening() as port:
        (finding,) = executed(monkeypatch, service=unused(), target=port).findings
    assert finding.message.endswith("nothing came back within 2 s, though it listens there")


def test_where_nothing_listens_nothing_is_held_against_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is down is another check's."""
    outcome = executed(monkeypatch, service=unused(), target=unused())
    assert (outcome.evidence, outcome.findings) == ("simulated", ())


def test_a_process_that_has_ended_is_left_out() -> None:
    """A pod may end at any time."""
    assert reach.answered({2**22 + 1: [("127.0.0.1", 1)]}) == {}
