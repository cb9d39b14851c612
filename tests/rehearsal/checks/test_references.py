"""What pods name, and have to find."""

from typing import Any

import pytest

from infra.rehearsal.checks.references import CHECKS
from infra.rehearsal.snapshot import Object
from tests.rehearsal.checks.clusters import PLATFORM, deployment, made, outcome, said, snapshot

HERE = "kiban-metadata"
POD = f"Deployment {HERE}/mlflow"
SECRET = made("v1", "Secret", "postgres", HERE, data={"password": ""})
CONFIG = made("v1", "ConfigMap", "scripts", HERE, data={"migrate.py": "..."}, binaryData={"logo.png": ""})
ACCOUNT = made("v1", "ServiceAccount", "default", HERE)
CLAIM = made("v1", "PersistentVolumeClaim", "data", HERE)
PRIORITY = made("scheduling.k8s.io/v1", "PriorityClass", "kiban-platform")
SERVICE = made("v1", "Service", "postgres", HERE, spec={"clusterIP": "10.0.0.9", "ports": [{"port": 5432}]})
THERE = (SECRET, CONFIG, ACCOUNT, CLAIM, PRIORITY, SERVICE)


def env(field: str, name: str, key: str, **more: Any) -> Object:  # noqa: ANN401 - `optional`
    """Return a container's variable that is read from elsewhere."""
    return {"env": [{"name": "X", "valueFrom": {field: {"name": name, "key": key, **more}}}]}


def volume(**source: Any) -> Object:  # noqa: ANN401 - a volume's source
    """Return a pod with a volume."""
    return {"spec": {"volumes": [{"name": "x", **source}]}}


def token(path: str) -> Object:
    """Return a source that is no object."""
    return {"serviceAccountToken": {"path": path}}


@pytest.mark.parametrize(
    "pod",
    [
        env("secretKeyRef", "postgres", "password"),
        env("secretKeyRef", "none", "password", optional=True),
        env("configMapKeyRef", "scripts", "logo.png"),
        {"env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
        {"envFrom": [{"secretRef": {"name": "postgres"}}, {"configMapRef": {"name": "none", "optional": True}}]},
        volume(secret={"secretName": "postgres", "items": [{"key": "password", "path": "p"}]}),
        volume(configMap={"name": "none", "optional": True}),
        volume(projected={"sources": [{"configMap": {"name": "scripts"}}, token("x")]}),
        volume(persistentVolumeClaim={"claimName": "data"}),
        volume(emptyDir={}),
        {"spec": {"imagePullSecrets": [{"name": "postgres"}], "priorityClassName": "kiban-platform"}},
        {"args": ["--host=postgres.kiban-metadata.svc:5432", "http://postgres.kiban-metadata.svc.cluster.local"]},
        {"env": [{"name": "CLUSTER_DOMAIN", "value": ".svc.cluster.local"}, {"name": "ALL", "value": "*.svc"}]},
        {"command": ["sh", "-c", "curl mysql:3306 https://s3.example.com svc.cluster.local"]},
    ],
)
def test_what_is_there_or_need_not_be_is_fine(pod: Object) -> None:
    """A Deployment that names it."""
    found = outcome(CHECKS, "references", snapshot(deployment("mlflow", **pod), *THERE))
    assert (found.evidence, found.looked_at, found.findings) == ("simulated", 1, ())


@pytest.mark.parametrize(
    ("pod", "missing"),
    [
        (env("secretKeyRef", "mysql", "password"), "Secret kiban-metadata/mysql is not there"),
        (env("secretKeyRef", "postgres", "user"), "Secret kiban-metadata/postgres has no key user"),
        (env("configMapKeyRef", "scripts", "x.py"), "ConfigMap kiban-metadata/scripts has no key x.py"),
        ({"envFrom": [{"secretRef": {"name": "mysql"}}]}, "Secret kiban-metadata/mysql is not there"),
        ({"envFrom": [{"configMapRef": {"name": "other"}}]}, "ConfigMap kiban-metadata/other is not there"),
        (volume(secret={"secretName": "mysql"}), "Secret kiban-metadata/mysql is not there"),
        (
            volume(secret={"secretName": "postgres", "items": [{"key": "init.sql", "path": "x"}]}),
            "Secret kiban-metadata/postgres has no key init.sql",
        ),
        (volume(configMap={"name": "other"}), "ConfigMap kiban-metadata/other is not there"),
        (
            volume(projected={"sources": [{"secret": {"name": "mysql"}}]}),
            "Secret kiban-metadata/mysql is not there",
        ),
        (
            volume(persistentVolumeClaim={"claimName": "mysql"}),
            "PersistentVolumeClaim kiban-metadata/mysql is not there",
        ),
        ({"spec": {"imagePullSecrets": [{"name": "mirror"}]}}, "Secret kiban-metadata/mirror is not there"),
        ({"spec": {"serviceAccountName": "jobs"}}, "ServiceAccount kiban-metadata/jobs is not there"),
        ({"spec": {"priorityClassName": "highest"}}, "PriorityClass highest is not there"),
        ({"spec": {"initContainers": [env("secretKeyRef", "a", "b")]}}, "Secret kiban-metadata/a is not there"),
        (
            {"env": [{"name": "URI", "value": "http://mlflow.kiban-metadata.svc:5000/x"}]},
            "it is told of Service kiban-metadata/mlflow, which is not there",
        ),
        (
            {"args": ["--peer=a-0.peers.kiban-metadata.svc:9094"]},
            "it is told of Service kiban-metadata/peers, which is not there",
        ),
        (
            {"command": ["psql", "--host=postgres.kiban-metadata.svc.cluster.local:5433"]},
            "it is told of port 5433 of Service kiban-metadata/postgres; accepted: [5432]",
        ),
    ],
)
def test_what_is_missing_is_found(pod: Object, missing: str) -> None:
    """By the name of what the pods are of."""
    assert said(CHECKS, "references", snapshot(deployment("mlflow", **pod), *THERE)) == [f"{POD}: {missing}"]


def test_what_a_running_pod_needs_is_found_missing() -> None:
    """The template no longer names it, and the pod would not start again."""
    spec = {"containers": [{"name": "main", **env("secretKeyRef", "old", "password")}]}
    pod = made("v1", "Pod", "mlflow-x", HERE, owner=deployment("mlflow"), spec=spec, status={"phase": "Running"})
    now = snapshot(deployment("mlflow"), pod, *THERE)
    assert said(CHECKS, "references", now) == [f"{POD}: Secret {HERE}/old is not there"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("url: http://gone.kiban-metadata.svc:80/", True),
        ("sqlalchemy.url = postgresql://mlflow:x@gone.kiban-metadata.svc:5432/mlflow", True),
        ("# such as gone.kiban-metadata.svc", False),
        ("url: http://postgres.kiban-metadata.svc:5432", False),
    ],
)
def test_addresses_in_mounted_files_are_uses(text: str, *, found: bool) -> None:
    """A name without a scheme may be an example; a file that is not mounted is nobody's."""
    config = made("v1", "ConfigMap", "config", HERE, data={"config.yaml": text})
    mounted = deployment("mlflow", **volume(configMap={"name": "config"}))
    message = f"{POD}: it is told of Service kiban-metadata/gone, which is not there"
    assert said(CHECKS, "references", snapshot(mounted, config, *THERE)) == ([message] if found else [])
    assert not said(CHECKS, "references", snapshot(deployment("mlflow"), config, *THERE))


def test_a_headless_service_leads_to_any_port() -> None:
    """Its name is its pods'."""
    headless = made("v1", "Service", "peers", HERE, spec={"clusterIP": "None", "ports": [{"port": 80}]})
    told = deployment("mlflow", args=["http://peers.kiban-metadata.svc:9094"])
    assert not said(CHECKS, "references", snapshot(told, headless, *THERE))


def leading(label: str) -> Object:
    """Return a Service of the platform's for pods with app=LABEL."""
    return made("v1", "Service", "mlflow", HERE, labels=PLATFORM, spec={"selector": {"app": label}})


def test_a_service_that_leads_nowhere_is_found() -> None:
    """A label changed on one side only."""
    base = snapshot(deployment("mlflow"), leading("mlflow"), ACCOUNT)
    now = snapshot(deployment("mlflow"), leading("tracking"), ACCOUNT)
    message = f"Service {HERE}/mlflow: no pod and no pod template has the labels that it selects (app=tracking)"
    assert said(CHECKS, "references", now, base=base) == [message]
    assert said(CHECKS, "references", now) == [message]


def test_a_service_that_never_led_anywhere_is_meant_to() -> None:
    """Nor is one somebody else's of interest, or one that a controller's pods are behind."""
    nowhere = snapshot(deployment("mlflow"), leading("tracking"), ACCOUNT)
    assert not said(CHECKS, "references", nowhere, base=nowhere)
    foreign = made("v1", "Service", "x", HERE, spec={"selector": {"app": "x"}})
    assert not said(CHECKS, "references", snapshot(foreign))
    operated = deployment("mlflow")
    operated["metadata"]["ownerReferences"] = [{"uid": "x", "controller": True}]
    assert not said(CHECKS, "references", snapshot(operated, leading("mlflow")))
