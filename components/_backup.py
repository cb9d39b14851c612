"""Backups of what pipelines leave behind: when they are made, how many are kept, and the pods that make and restore.

A backup is written by components/scripts/backup.py, which also says what is in it; a restore is run by
`kiban restore`, from CronJobs that are declared here and never run by themselves: what a restore needs to know of the
cluster is in one place, and the cluster holds it even where no checkout is at hand.
"""

import dataclasses as dc
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components._databases import MYSQL_IMAGE, POSTGRES_IMAGE, Database
from components._labels import selector
from components._object_store import CLIENT_IMAGE, ROOT_ACCOUNT, USER, Store
from components._pods import container, from_secret, plain, pod

SCRIPTS = ("backup.py", "restore.py", "dump.sh", "databases.sh", "tables.sql", "runs.sql")
CONFIG_MAP = "backup-scripts"
BACKUP, CHECK, RESTORE = "backup", "restore-check", "restore"
"""Names of the CronJobs, and of the container in each pod that says the result in its last line."""
_SCRIPTS = Path(__file__).with_name("scripts")
_FOLDER = "/kiban/components/scripts"
_MOUNTS = {f"{_FOLDER}:ro": "scripts", "/dumps": "dumps", "/ca": "ca"}
_OWN_DATABASES = "^(mysql|sys|information_schema|performance_schema)$"
_FIELD = r"(\*|[0-9]+(-[0-9]+)?)(/[0-9]+)?"
_SCHEDULE = re.compile(rf"({_FIELD}(,{_FIELD})* ){{4}}{_FIELD}(,{_FIELD})*")

Spec = dict[str, Any]


@dc.dataclass(frozen=True, kw_only=True)
class Backup:
    """schedule: of cron, five fields of numbers, in UTC. keep: how many complete backups stay.

    Backups from before a migration are not counted, and stay.
    """

    schedule: str = "0 3 * * *"
    keep: int = 7

    def __post_init__(self) -> None:
        if not _SCHEDULE.fullmatch(self.schedule):
            raise ValueError(f"backup: schedule={self.schedule!r}; accepted: five fields of cron, such as '0 3 * * *'")
        if not 1 <= self.keep <= 1000:
            raise ValueError(f"backup: keep={self.keep!r}; accepted: 1 to 1000")


@dc.dataclass(frozen=True, kw_only=True)
class Sources:
    """What is backed up, as its clients reach it.

    mysql: None where there is no Kubeflow Pipelines.
    """

    postgres: Database
    mysql: Database | None
    store: Store

    @property
    def own_store(self) -> bool:
        """Whether the object store is Kiban's, which has an account that may make buckets."""
        return self.store.endpoint.startswith("http://")


def declare(
    name: str,
    backup: Backup,
    sources: Sources,
    *,
    namespace: pulumi.Input[str],
    priority: str,
    tags: dict[str, str],
    parent: pulumi.Resource,
    after: Sequence[pulumi.Resource],
) -> list[pulumi.Resource]:
    """Declare the scripts and the CronJobs. after: what they read and whom they ask."""
    opts = pulumi.ResourceOptions(parent=parent, depends_on=list(after))

    def metadata(of: str) -> dict[str, Any]:
        return {"name": of, "namespace": namespace, "labels": tags}

    files = k8s.core.v1.ConfigMap(f"{name}-{CONFIG_MAP}", metadata=metadata(CONFIG_MAP), data=scripts(), opts=opts)
    jobs = {
        BACKUP: cron_job(backup_pod(backup, sources, priority=priority), BACKUP, name, tags, schedule=backup.schedule),
        CHECK: cron_job(check_pod(sources, priority=priority), CHECK, name, tags),
        RESTORE: cron_job(restore_pod(sources, priority=priority), RESTORE, name, tags),
    }
    declared = [
        k8s.batch.v1.CronJob(
            f"{name}-{job}",
            metadata=metadata(job),
            spec=spec,
            opts=pulumi.ResourceOptions(parent=parent, depends_on=[files, *after]),
        )
        for job, spec in jobs.items()
    ]
    return [files, *declared]


def scripts() -> dict[str, str]:
    """File name to text."""
    return {name: _SCRIPTS.joinpath(name).read_text() for name in SCRIPTS}


def cron_job(
    spec: Spec, component: str, instance: str, tags: Mapping[str, str], *, schedule: str | None = None
) -> Spec:
    """Spec of a CronJob; without a schedule it never runs, and is there for Jobs to be made from."""
    template = {"metadata": {"labels": dict(tags) | selector(component, instance)}, "spec": spec}
    return {
        "schedule": schedule or "0 0 1 1 *",
        "suspend": schedule is None,
        "timeZone": "Etc/UTC",
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 3600,
        "successfulJobsHistoryLimit": 1,
        "failedJobsHistoryLimit": 3,
        "jobTemplate": {
            "spec": {
                "backoffLimit": 2,
                "activeDeadlineSeconds": 6 * 3600,
                "ttlSecondsAfterFinished": 7 * 86400,
                "template": template,
            }
        },
    }


def backup_pod(backup: Backup, sources: Sources, *, priority: str) -> Spec:
    """Spec of the pod that dumps the databases first, then keeps the objects."""
    images = {"postgres": POSTGRES_IMAGE, "client": CLIENT_IMAGE} | ({"mysql": MYSQL_IMAGE} if sources.mysql else {})
    program = ["python3", "-m", "components.scripts.backup", "/dumps", *sorted(sources.store.buckets.values())]
    options = [f"--keep={backup.keep}", f"--versions={json.dumps(images, sort_keys=True)}"]
    dump = ["sh", f"{_FOLDER}/dump.sh", "/dumps", *sources.postgres.databases]
    return _pod(
        sources,
        priority=priority,
        init=[
            _database("dump", POSTGRES_IMAGE, dump, _libpq(sources.postgres)),
            *([_mysql("dump-mysql", sources.mysql, _DUMP_MYSQL)] if sources.mysql else []),
        ],
        last=_client(BACKUP, [*program, *options], [*_of_store(sources), *_backup_account(), *_databases(sources)]),
    )


def check_pod(sources: Sources, *, priority: str) -> Spec:
    """Spec of the pod that says what restoring $(BACKUP) would replace and lose."""
    return _pod(sources, priority=priority, init=[], last=_restore(CHECK, sources, "check"))


def restore_pod(sources: Sources, *, priority: str) -> Spec:
    """Spec of the pod that restores $(BACKUP): objects, then databases; then it compares all with the backup.

    PostgreSQL in the cluster is asked as its superuser, who has the same password; an external one's user has to be
    allowed to make databases.
    """
    user = "postgres" if sources.postgres.ca is None else sources.postgres.user
    databases = ["sh", f"{_FOLDER}/databases.sh", "/dumps", sources.postgres.user]
    libpq = _libpq(dc.replace(sources.postgres, user=user))
    return _pod(
        sources,
        priority=priority,
        init=[
            _restore("objects", sources, "objects", "/dumps"),
            _database("databases", POSTGRES_IMAGE, databases, libpq),
            *([_mysql("mysql", sources.mysql, _RESTORE_MYSQL)] if sources.mysql else []),
        ],
        last=_restore(RESTORE, sources, "verify"),
    )


_WHERE_MYSQL = '--host="$MYSQL_SERVER" --port="$MYSQL_SERVER_PORT" --user="$MYSQL_USER_NAME" $MYSQL_TLS'
_DUMP_MYSQL = (
    f"names=$(mysql {_WHERE_MYSQL} --skip-column-names --execute='SHOW DATABASES' | grep -vE '{_OWN_DATABASES}') || "
    "exit 0; "  # none yet
    f"mysqldump {_WHERE_MYSQL} --single-transaction --routines --no-tablespaces --add-drop-database "
    "--result-file=/dumps/mysql.sql --databases $names"
)
_RESTORE_MYSQL = f"if [ -f /dumps/mysql.sql ]; then mysql {_WHERE_MYSQL} < /dumps/mysql.sql; fi"


def _pod(sources: Sources, *, priority: str, init: Sequence[Spec], last: Spec) -> Spec:
    certificates = {"postgres": sources.postgres.ca, "mysql": sources.mysql.ca if sources.mysql else None}
    tls = any(ca is not None for ca in certificates.values())
    return pod(
        [last],
        init=[*([_authorities([each for each, ca in certificates.items() if ca])] if tls else []), *init],
        account="jobs",
        user=USER,
        priority=priority,
        volumes={
            "scripts": {"configMap": {"name": CONFIG_MAP}},
            "dumps": {"emptyDir": {}},
            "ca": {"emptyDir": {}},
            **(
                {"certificates": {"configMap": {"name": "metadata-certificates"}}} if any(certificates.values()) else {}
            ),
        },
        restartPolicy="Never",
    )


def _authorities(given: Sequence[str]) -> Spec:
    """The container that puts what signed the servers' certificates into /ca: given, or the public authorities."""
    program = (
        "import certifi, pathlib, shutil\n"
        "for name in ('postgres', 'mysql'):\n"
        "    own = pathlib.Path('/certificates', name)\n"
        "    shutil.copyfile(own if own.exists() else certifi.where(), f'/ca/{name}.crt')\n"
    )
    made = _client("authorities", ["python3", "-c", program], [])
    if given:
        made["volumeMounts"].append({"name": "certificates", "mountPath": "/certificates", "readOnly": True})
    return made


def _client(name: str, command: Sequence[str], env: Sequence[Spec]) -> Spec:
    own = plain(HOME="/tmp", PYTHONPATH="/kiban", PYTHONDONTWRITEBYTECODE="1")  # noqa: S108 - in the container
    return container(
        name,
        CLIENT_IMAGE,
        command,
        mounts=_MOUNTS,
        env=[*own, *env],
        cpu="100m",
        memory="256Mi",
        most="2Gi",
    )


def _database(name: str, image: str, command: Sequence[str], env: Sequence[Spec]) -> Spec:
    return container(
        name,
        image,
        command,
        mounts=_MOUNTS,
        env=[*plain(HOME="/tmp"), *env],  # noqa: S108 - in the container
        cpu="100m",
        memory="128Mi",
        most="1Gi",
    )


def _restore(name: str, sources: Sources, step: str, *arguments: str) -> Spec:
    env = [
        *plain(BACKUP=""),
        *_of_store(sources),
        *(_root_account() if sources.own_store else _backup_account()),
        *_databases(sources),
        *_libpq(sources.postgres),
    ]
    return _client(name, ["python3", "-m", "components.scripts.restore", step, "$(BACKUP)", *arguments], env)


def _mysql(name: str, mysql: Database, script: str) -> Spec:
    tls = "--ssl-mode=VERIFY_IDENTITY --ssl-ca=/ca/mysql.crt" if mysql.ca is not None else "--ssl-mode=PREFERRED"
    where = plain(MYSQL_SERVER=mysql.host, MYSQL_SERVER_PORT=str(mysql.port), MYSQL_USER_NAME=mysql.user, MYSQL_TLS=tls)
    return _database(
        name, MYSQL_IMAGE, ["sh", "-ec", script], [*where, from_secret("MYSQL_PWD", mysql.secret, "password")]
    )


def _libpq(database: Database) -> list[Spec]:
    tls = plain(PGSSLROOTCERT="/ca/postgres.crt") if database.ca is not None else []
    where = plain(PGHOST=database.host, PGPORT=str(database.port), PGUSER=database.user, PGSSLMODE=database.sslmode)
    return [*where, *tls, from_secret("PGPASSWORD", database.secret, "password")]


def _databases(sources: Sources) -> list[Spec]:
    return plain(DATABASES=" ".join(sources.postgres.databases))


def _of_store(sources: Sources) -> list[Spec]:
    store = sources.store
    return plain(S3_ENDPOINT=store.endpoint, AWS_DEFAULT_REGION=store.region, BACKUPS=store.backups)


def _backup_account() -> list[Spec]:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    return [from_secret(name, "object-store-backup", name) for name in names]


def _root_account() -> list[Spec]:
    return [
        *plain(AWS_ACCESS_KEY_ID=ROOT_ACCOUNT),
        from_secret("AWS_SECRET_ACCESS_KEY", "object-store", "password"),
    ]
