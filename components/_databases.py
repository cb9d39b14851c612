"""PostgreSQL and MySQL: where each is, and the specs of those that run in the cluster."""

import dataclasses as dc
import re
from typing import Any

import pulumi

from components._labels import selector
from components._pods import container, from_secret, plain, pod

POSTGRES_IMAGE = "docker.io/library/postgres:15.20-bookworm"
MYSQL_IMAGE = "docker.io/library/mysql:8.4"
PORTS = {"postgres": 5432, "mysql": 3306, "object-store": 9000}
_USER = 999  # of both images
_BIN = "/usr/lib/postgresql/15/bin"
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,47}")


@dc.dataclass(frozen=True, kw_only=True)
class InCluster:
    """A service that runs in the cluster, with a volume of its own.

    storage_gib: of the volume; it can grow where the storage class lets it, and never shrink.
    storage_class: None: the cluster's default.
    """

    storage_gib: int
    storage_class: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.storage_gib <= 65536:
            raise ValueError(f"storage_gib={self.storage_gib!r}; accepted: 1 to 65536")
        if self.storage_class == "":
            raise ValueError("storage_class=''; accepted: the name of one, or None for the cluster's default")


@dc.dataclass(frozen=True, kw_only=True)
class ExternalDatabase:
    """A server that somebody else runs; reached by TLS only, its certificate checked against its name.

    name: of the database. For MLflow there has to be a second one, `NAME_auth`; both exist already, empty or MLflow's,
    and belong to the user. For Kubeflow Pipelines it is the first of its databases, which the user may make.
    user: its password is the credential of the service's name (`kiban credentials set`).
    ca: what signed the certificate, in PEM; None: one of the public authorities.
    """

    host: str
    port: int
    name: str
    user: str
    ca: str | None = None

    def __post_init__(self) -> None:
        if not _HOST.fullmatch(self.host):
            raise ValueError(f"host={self.host!r}; accepted: a host name in lower case, without a scheme or port")
        if not 1 <= self.port <= 65535:
            raise ValueError(f"port={self.port!r}; accepted: 1 to 65535")
        for field in ("name", "user"):
            if not _NAME.fullmatch(getattr(self, field)):
                raise ValueError(
                    f"{field}={getattr(self, field)!r}; accepted: letters, digits and '_', not a digit first, "
                    "at most 48 characters"
                )
        if self.ca is not None and "-----BEGIN CERTIFICATE-----" not in self.ca:
            raise ValueError("ca: no certificate in it; accepted: PEM text, or None for the public authorities")


@dc.dataclass(frozen=True, kw_only=True)
class Database:
    """How a client reaches a database server.

    host: a full name. databases: on it. secret: of the metadata namespace, whose key `password` is the user's.
    ca: None: without TLS, within the cluster; "": TLS, of a public authority; else what signed the certificate, in PEM.
    """

    host: str
    port: int
    user: str
    databases: tuple[str, ...]
    secret: str
    ca: str | None

    @property
    def sslmode(self) -> str:
        """For libpq."""
        return "disable" if self.ca is None else "verify-full"


def postgres_at(args: InCluster | ExternalDatabase, namespace: str) -> Database:
    """Where MLflow's databases are: that of its records, and that of its accounts."""
    if isinstance(args, InCluster):
        return _here("postgres", "mlflow", ("mlflow", "mlflow_auth"), namespace)
    return _there("postgres", args, (args.name, f"{args.name}_auth"))


def mysql_at(args: InCluster | ExternalDatabase, namespace: str) -> Database:
    """Where the databases of Kubeflow Pipelines are; it makes them itself."""
    if isinstance(args, InCluster):
        return _here("mysql", "root", (), namespace)
    return _there("mysql", args, (args.name,))


def _here(name: str, user: str, databases: tuple[str, ...], namespace: str) -> Database:
    return Database(
        host=f"{name}.{namespace}.svc", port=PORTS[name], user=user, databases=databases, secret=name, ca=None
    )


def _there(name: str, args: ExternalDatabase, databases: tuple[str, ...]) -> Database:
    return Database(host=args.host, port=args.port, user=args.user, databases=databases, secret=name, ca=args.ca or "")


def claim(args: InCluster) -> dict[str, Any]:
    """Spec of the volume claim."""
    return {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": f"{args.storage_gib}Gi"}},
        **({"storageClassName": args.storage_class} if args.storage_class else {}),
    }


def service(component: str, instance: str) -> dict[str, Any]:
    """Spec of the Service before one pod, whose port has the component's name."""
    port = {"name": component, "port": PORTS[component], "targetPort": component, "protocol": "TCP"}
    return {"selector": selector(component, instance), "ports": [port]}


def stateful(
    component: str, instance: str, spec: dict[str, Any], inputs: pulumi.Input[str], tags: dict[str, str]
) -> dict[str, Any]:
    """Spec of a StatefulSet of one pod. inputs: a digest of what the pod reads only when it starts."""
    return {
        "replicas": 1,
        "serviceName": component,
        "selector": {"matchLabels": selector(component, instance)},
        "template": {
            "metadata": {"labels": tags | selector(component, instance), "annotations": {"kiban.dev/inputs": inputs}},
            "spec": spec,
        },
    }


def postgres(*, priority: str) -> dict[str, Any]:
    """Spec of PostgreSQL's pod: its data made or recovered and its roles set first, then the server.

    The binaries are called where both upstream's image and Debian's package have them; the image's entry point, which
    would make a data folder itself, is not used.
    """
    mounts = {"/data": "data", "/scripts:ro": "scripts"}
    env = plain(PGDATA="/data/pgdata")
    server = ["postgres", "-c", "listen_addresses=*", "-c", "unix_socket_directories=/tmp"]
    ready = {"exec": {"command": [f"{_BIN}/pg_isready", "--host=127.0.0.1", "--port=5432", "--username=postgres"]}}
    stop = [f"{_BIN}/pg_ctl", "stop", "--mode=fast", "--timeout=50"]  # SIGTERM alone waits for clients to leave
    return pod(
        [
            container(
                "postgres",
                POSTGRES_IMAGE,
                [f"{_BIN}/{server[0]}", *server[1:], "-c", "hba_file=/scripts/pg_hba.conf"],
                mounts=mounts,
                env=env,
                cpu="100m",
                memory="256Mi",
                most="1Gi",
                ports=[{"name": "postgres", "containerPort": 5432}],
                startupProbe=ready | {"periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 900},
                readinessProbe=ready | {"periodSeconds": 5, "timeoutSeconds": 5},
                livenessProbe=ready | {"periodSeconds": 20, "timeoutSeconds": 10, "failureThreshold": 6},
                lifecycle={"preStop": {"exec": {"command": stop}}},
            )
        ],
        init=[
            container(
                "prepare",
                POSTGRES_IMAGE,
                ["sh", "/scripts/postgres.sh"],
                mounts=mounts | {"/secrets:ro": "password"},
                env=env,
                cpu="100m",
                memory="256Mi",
                most="1Gi",
            )
        ],
        account="postgres",
        user=_USER,
        priority=priority,
        volumes={
            "data": {"persistentVolumeClaim": {"claimName": "postgres"}},
            "scripts": {"configMap": {"name": "metadata-scripts"}},
            "password": {"secret": {"secretName": "postgres"}},
        },
        terminationGracePeriodSeconds=60,
    )


def mysql(*, priority: str) -> dict[str, Any]:
    """Spec of MySQL's pod, with what ML Metadata needs: passwords of the kind that MySQL 9 has no more (KFP 2.17.0).

    /sql/init.sql sets the password at every start.
    """
    alive = {"tcpSocket": {"port": 3306}}
    mounts = {"/var/lib/mysql": "data", "/var/run/mysqld": "run"}
    options = ["--datadir=/var/lib/mysql/data", "--init-file=/sql/init.sql", "--disable-log-bin"]
    passwords = ["--mysql-native-password=ON", "--authentication-policy=mysql_native_password"]
    return pod(
        [
            container(
                "mysql",
                MYSQL_IMAGE,
                ["mysqld", *options, *passwords],
                mounts=mounts | {"/sql:ro": "sql"},
                cpu="100m",
                memory="512Mi",
                most="2Gi",
                ports=[{"name": "mysql", "containerPort": 3306}],
                startupProbe=alive | {"periodSeconds": 5, "failureThreshold": 240},
                readinessProbe=alive | {"periodSeconds": 5},
                livenessProbe=alive | {"periodSeconds": 20, "failureThreshold": 6},
            )
        ],
        init=[
            container(
                "prepare",
                MYSQL_IMAGE,
                ["sh", "/scripts/mysql.sh"],
                mounts=mounts | {"/scripts:ro": "scripts"},
                cpu="100m",
                memory="512Mi",
                most="2Gi",
            )
        ],
        account="mysql",
        user=_USER,
        priority=priority,
        volumes={
            "data": {"persistentVolumeClaim": {"claimName": "mysql"}},
            "run": {"emptyDir": {}},
            "scripts": {"configMap": {"name": "metadata-scripts"}},
            "sql": {"secret": {"secretName": "mysql", "items": [{"key": "init.sql", "path": "init.sql"}]}},
        },
        terminationGracePeriodSeconds=60,
    )


def mysql_init(password: str) -> str:
    """What MySQL runs at every start, so that a new password is the database's too."""
    quoted = password.replace("\\", "\\\\").replace("'", "\\'")
    identified = f"IDENTIFIED WITH mysql_native_password BY '{quoted}'"
    return (
        f"ALTER USER 'root'@'localhost' {identified};\n"
        f"CREATE USER IF NOT EXISTS 'root'@'%' {identified};\n"
        f"ALTER USER 'root'@'%' {identified};\n"
        "GRANT ALL PRIVILEGES ON *.* TO 'root'@'%' WITH GRANT OPTION;\n"
    )


def mysql_check(database: Database, *, priority: str) -> dict[str, Any]:
    """Spec of the pod that asks an external MySQL whether it lets the user in, by TLS, before anything needs it."""
    ca = "/ca/ca.crt" if database.ca else "/etc/pki/tls/certs/ca-bundle.crt"
    where = [f"--host={database.host}", f"--port={database.port}", f"--user={database.user}"]
    asked = ["--ssl-mode=VERIFY_IDENTITY", f"--ssl-ca={ca}", "--connect-timeout=10", "--execute=SELECT 1"]
    return pod(
        [
            container(
                "connect",
                MYSQL_IMAGE,
                ["mysql", *where, *asked],
                mounts={"/ca:ro": "ca"},
                env=[from_secret("MYSQL_PWD", database.secret, "password")],
                cpu="10m",
                memory="32Mi",
                most="256Mi",
            )
        ],
        account="jobs",
        user=_USER,
        priority=priority,
        volumes={"ca": {"configMap": {"name": "metadata-certificates", "items": [{"key": "mysql", "path": "ca.crt"}]}}},
        restartPolicy="Never",
    )
