"""A database and a bucket that somebody else has: tried before anything depends on them, and then used.

Executed: the server is PostgreSQL with a certificate of its own, in a pod outside the platform's namespaces.
"""

import datetime as dt
import functools
import json
import textwrap

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from components._metadata import NAMESPACE
from infra.clusters.waiting import until
from tests.checkout import Checkout
from tests.conftest import Record

pytestmark = pytest.mark.full
HOST = "postgres.outside.svc"
PASSWORD = "the-one-that-is-right"  # noqa: S105 - of a server that lives as long as this test
IN_CLUSTER = "postgres=InCluster(storage_gib=2)"
SERVER = """
    set -e
    PATH=/usr/lib/postgresql/15/bin:$PATH
    umask 077
    cp /given/* /tmp/
    initdb --pgdata=/tmp/data --username=postgres > /dev/null
    echo 'hostssl all all all scram-sha-256' >> /tmp/data/pg_hba.conf
    postgres --single -D /tmp/data postgres < /tmp/made.sql > /dev/null
    exec postgres -D /tmp/data -c listen_addresses=* -c unix_socket_directories=/tmp -c ssl=on \
        -c ssl_cert_file=/tmp/server.crt -c ssl_key_file=/tmp/server.key
"""
MADE = f"create role kiban login password '{PASSWORD}'\ncreate database records owner kiban\n"
MADE += "create database records_auth owner kiban\n"


def certificate(host: str) -> tuple[str, str]:
    """Return a certificate for a host that it signed itself, and its key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    made = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return signed.public_bytes(serialization.Encoding.PEM).decode(), made.decode()


def server(signed: str, key: str) -> str:
    """Return a PostgreSQL that lets nobody in but by TLS, with its Service and namespace."""
    labels = {"outside": "postgres"}
    meta = {"name": "postgres", "namespace": "outside"}
    security = {"runAsNonRoot": True, "runAsUser": 999, "fsGroup": 999, "seccompProfile": {"type": "RuntimeDefault"}}
    container = {
        "name": "postgres",
        "image": "docker.io/library/postgres:15.20-bookworm",
        "command": ["sh", "-c", textwrap.dedent(SERVER)],
        "volumeMounts": [{"name": "given", "mountPath": "/given"}],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "readinessProbe": {"tcpSocket": {"port": 5432}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "containers": [container],
        "volumes": [{"name": "given", "secret": {"secretName": "postgres"}}],
        "securityContext": security,
    }
    given = {"server.crt": signed, "server.key": key, "made.sql": MADE}
    items = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "outside"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": given},
        {"apiVersion": "v1", "kind": "Pod", "metadata": meta | {"labels": labels}, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"selector": labels, "ports": [{"port": 5432}]},
        },
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


@pytest.fixture(scope="module")
def platform(checkout: Checkout) -> Checkout:
    """Return a checkout whose environment `local` is up."""
    checkout.run("up", "local")
    return checkout


def point(platform: Checkout, host: str, ca: str) -> None:
    """Have the environment's records kept in an external database."""
    file = platform.root / "stacks" / "local.py"
    text = file.read_text()
    assert IN_CLUSTER in text
    external = f"ExternalDatabase(host={host!r}, port=5432, name='records', user='kiban', ca={ca!r})"
    imports = ("import InCluster,", "import ExternalDatabase, InCluster,")
    file.write_text(text.replace(IN_CLUSTER, f"postgres={external}").replace(*imports))


def test_an_external_database_is_tried_before_anything_needs_it(platform: Checkout, record: Record) -> None:
    """Unreachable, or with a wrong password: told in a line, and MLflow runs on as it was; then it is used."""
    kubectl = functools.partial(platform.kubectl, "local")
    signed, key = certificate(HOST)
    kubectl("apply", "-f", "-", stdin=server(signed, key))
    kubectl("-n", "outside", "wait", "pod/postgres", "--for=condition=Ready", "--timeout=120s")
    of_mlflow = ("-n", NAMESPACE, "get", "deployment/mlflow", "statefulset/postgres", "-o")
    generations = (*of_mlflow, "jsonpath={.items[*].metadata.generation} {.items[*].metadata.uid}")
    before = kubectl(*generations)
    file = platform.root / "stacks" / "local.py"
    text = file.read_text()
    given = {"nowhere.outside.svc": "wrong", HOST: "wrong"}
    expected = {"nowhere.outside.svc": "could not translate host name", HOST: "password authentication failed"}
    for host, password in given.items():
        point(platform, host, signed)
        platform.shell(f"./kiban credentials set local postgres <<< {password}")
        done = platform.run("up", "local", expect=1)
        assert f"database records at {host}:5432, as kiban: " in done.stderr, done.stderr
        assert expected[host] in done.stderr, done.stderr
        assert PASSWORD not in done.stderr
        assert kubectl(*generations) == before
        file.write_text(text)
        record(
            line=f"7 an external database: {expected[host]}",
            evidence="executed",
            figure="refused, MLflow and its database unchanged",
            goal="a clear error before anything is changed",
            command="./kiban up local",
        )
    point(platform, HOST, signed)
    platform.shell(f"./kiban credentials set local postgres <<< {PASSWORD}")
    platform.run("up", "local")
    (item,) = platform.json("runs", "start", "local", "--team", "vision", "--wait")["items"]
    query = "select count(*) from registered_models"
    psql = (
        "psql",
        "--host=/tmp",
        "--username=postgres",
        "--tuples-only",
        "--no-align",
        f"--command={query}",
        "records",
    )
    assert kubectl("-n", "outside", "exec", "postgres", "--", "/usr/bin/env", *psql).strip() == "1"
    record(
        line="an external PostgreSQL, by TLS",
        evidence="executed",
        figure=f"{item['run']} succeeded and is recorded there",
        goal="external by host and secret, TLS",
        command="./kiban credentials set local postgres; ./kiban up local",
    )


def test_a_bucket_of_somebody_elses_is_refused(platform: Checkout, record: Record) -> None:
    """What an `up` runs for an external store, in a pod: the bucket is there, and the team's account is not its own."""
    kubectl = functools.partial(platform.kubectl, "local", "-n", NAMESPACE)
    buckets = json.dumps({"language": {"write": [], "team": "vision"}})
    kubectl("create", "configmap", "foreign", f"--from-literal=buckets.json={buckets}")
    cronjob = json.loads(kubectl("get", "cronjob", "expire", "-o", "json"))
    template = cronjob["spec"]["jobTemplate"]["spec"]["template"]
    (container,) = template["spec"]["containers"]
    container["command"] = ["python3", "/scripts/buckets.py"]
    for volume in template["spec"]["volumes"]:
        if volume["name"] == "buckets":
            volume["configMap"] = {"name": "foreign"}
    meta = {"name": "foreign", "namespace": NAMESPACE, "labels": template["metadata"]["labels"]}
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}
    kubectl("apply", "-f", "-", stdin=json.dumps(made))
    phase = ("get", "pod", "foreign", "-o", "jsonpath={.status.phase}")
    until(lambda: kubectl(*phase) in {"Succeeded", "Failed"}, seconds=120, what="the check to end", every=1)
    assert kubectl(*phase) == "Failed"
    told = kubectl("logs", "foreign")
    assert "bucket language, as the account of team vision: " in told
    assert "accepted: a bucket that exists and is its own" in told
    record(
        line="7 a bucket that exists under another owner",
        evidence="executed",
        figure=told.strip().splitlines()[-1][:80],
        goal="a clear error before anything depends on it",
        command="buckets.py, as an `up` with an external object store runs it",
    )
