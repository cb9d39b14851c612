"""Backups: what is kept, what is removed, what a restore puts back; against a real object store on loopback.

The databases' part needs PostgreSQL: the restore drill on the cluster (tests/acceptance) runs it.
"""

import datetime as dt
import hashlib
import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from components import _backup
from components._backup import Backup, Sources
from components._databases import Database, InCluster, mysql_at, postgres_at
from components._object_store import BACKUP_ACCOUNT, Store, accounts
from components.scripts import restore
from components.scripts.backup import INVENTORY, OBJECTS, Backups, digest, listed, summary, surplus, unreferenced
from components.scripts.buckets import make
from infra import backup, toolchain
from infra.clusters.waiting import until
from infra.errors import BadInput

SECRET = "of-a-test"  # noqa: S105
NOW = dt.datetime(2026, 1, 8, 3, tzinfo=dt.UTC)
MLFLOW = {
    "runs": {"f00": "md5 1 2 3"},
    "model_versions": {"vision-digits/1": "md5"},
    "registered_models": 1,
    "newest_run_end": 1767225600000,
    "schema": "dc11669786a5",
}
TABLES = {"runs": {"rows": 1, "digest": "7"}}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Return what makes a client of a running object store, as one of its accounts."""
    folder = tmp_path_factory.mktemp("store")
    for name in ("data", "accounts"):
        folder.joinpath(name).mkdir()
    folder.joinpath("accounts", "users.json").write_text(accounts({BACKUP_ACCOUNT: SECRET}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        str(toolchain.resolve("versitygw")["versitygw"]),
        f"--port={address}",
        "--access=root",
        f"--secret={SECRET}",
    ]
    with folder.joinpath("log").open("w") as log:
        options = [f"--iam-dir={folder}/accounts", "posix", f"{folder}/data"]
        server = subprocess.Popen([*command, *options], stdout=log, stderr=log)

    def of(account: str) -> Any:  # noqa: ANN401
        return boto3.client(
            "s3",
            endpoint_url=f"http://{address}",
            region_name="us-east-1",
            aws_access_key_id=account,
            aws_secret_access_key=SECRET,
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )

    def answers() -> bool:
        assert server.poll() is None, folder.joinpath("log").read_text()
        with socket.socket() as asking:
            return asking.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) == 0

    try:
        until(answers, seconds=10, what="the object store to answer")
        yield of
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def store(client: Callable[[str], Any]) -> Iterator[Any]:
    """Return the store as its root, with the buckets of one team and of backups, which are gone after the test."""
    root = client("root")
    for bucket in ("vision", "backups"):
        make(root, bucket, [BACKUP_ACCOUNT])
    yield root
    for bucket in ("vision", "backups"):
        empty(root, bucket)


def empty(root: Any, bucket: str) -> None:  # noqa: ANN401
    """Remove a bucket and all that is in it."""
    for found in list(listed(root, bucket)):
        root.delete_object(Bucket=bucket, Key=found["Key"])
    root.delete_bucket(Bucket=bucket)


@pytest.fixture
def backups(store: Any, client: Callable[[str], Any]) -> Backups:  # noqa: ANN401
    """Return the bucket of backups as the account that writes them sees it."""
    assert store is not None
    return Backups(client(BACKUP_ACCOUNT), "backups")


@pytest.fixture
def dumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder as dump.sh leaves it."""
    monkeypatch.setenv("DATABASES", "mlflow mlflow_auth")
    for database in ("mlflow", "mlflow_auth"):
        tmp_path.joinpath(f"{database}.dump").write_bytes(database.encode())
        tmp_path.joinpath(f"{database}.tables.json").write_text(json.dumps(TABLES))
    tmp_path.joinpath("mlflow.runs.json").write_text(json.dumps(MLFLOW))
    return tmp_path


def day(number: int) -> str:
    """Return the name of a backup."""
    return f"202601{number:02}T030000Z"


def put(store: Any, **objects: bytes) -> None:  # noqa: ANN401
    """Write objects into the team's bucket."""
    for key, body in objects.items():
        store.put_object(Bucket="vision", Key=key, Body=body)


def contents(store: Any) -> dict[str, bytes]:  # noqa: ANN401
    """Read all that the team's bucket has."""
    keys = [found["Key"] for found in listed(store, "vision")]
    return {key: store.get_object(Bucket="vision", Key=key)["Body"].read() for key in keys}


@pytest.mark.parametrize(
    ("names", "keep", "gone"),
    [
        ({day(1): True, day(2): True, day(3): True}, 2, [day(1)]),
        ({day(1): True, day(2): False, day(3): True}, 2, [day(2)]),
        ({day(1): True, day(2): False}, 1, []),
        ({day(1): False, day(2): False}, 1, []),
        ({day(1): True}, 0, []),
    ],
    ids=["oldest", "cut-off", "under-way", "none-complete", "last"],
)
def test_retention_keeps_the_newest_complete_ones(names: dict[str, bool], keep: int, gone: list[str]) -> None:
    """The last complete backup always stays, and one that was cut off goes once a newer one is complete."""
    assert surplus(names, keep) == gone


def test_content_of_a_backup_under_way_is_not_removed() -> None:
    """What no inventory names may be about to be named: it stays for a day."""
    content = [
        {"Key": f"{OBJECTS}/{name}", "LastModified": NOW - dt.timedelta(hours=age)}
        for name, age in (("named", 99), ("old", 99), ("young", 1))
    ]
    inventory = {"buckets": {"vision": {"model": {"sha256": "named"}}}}
    assert unreferenced(content, [inventory], NOW) == [f"{OBJECTS}/old"]


def test_a_backup_has_every_object_once(store: Any, backups: Backups, dumps: Path) -> None:  # noqa: ANN401
    """Equal contents are kept once, under their SHA-256, and the inventory says what each object and dump was."""
    put(store, model=b"weights", copy=b"weights", **{"a b/é+%": b""})
    inventory = backups.write(day(1), dumps, ["vision"], {"client": "image:1"})
    assert inventory == backups.inventory(day(1))
    sha256 = hashlib.sha256(b"weights").hexdigest()
    assert {key: each["sha256"] for key, each in inventory["buckets"]["vision"].items()} == {
        "model": sha256,
        "copy": sha256,
        "a b/é+%": hashlib.sha256().hexdigest(),
    }
    assert digest(backups.s3, "backups", f"{OBJECTS}/{sha256}") == sha256
    assert len(backups.content()) == 2
    assert inventory["databases"]["mlflow"]["files"]["mlflow.dump"]["sha256"] == hashlib.sha256(b"mlflow").hexdigest()
    assert summary(inventory) | {"backup": ""} == {
        "backup": "",
        "runs": 1,
        "models": 1,
        "model_versions": 1,
        "newest_run_end": "2026-01-01T00:00:00+00:00",
        "database_revision": "dc11669786a5",
        "objects": 3,
        "bytes": 14,
    }


def test_a_backup_without_an_inventory_is_none(store: Any, backups: Backups, dumps: Path) -> None:  # noqa: ANN401
    """Cut off before its end it is never restored, and goes with the next one that is complete."""
    put(store, model=b"weights")
    backups.write(day(2), dumps, ["vision"], {})
    store.delete_object(Bucket="backups", Key=f"{day(2)}/{INVENTORY}")
    with pytest.raises(SystemExit, match=f"backup '{day(2)}'; accepted: latest, but there is none"):
        restore.chosen(backups, day(2))
    backups.write(day(3), dumps, ["vision"], {})
    assert restore.chosen(backups, "latest") == day(3)
    assert backups.remove_surplus(7, NOW)["backups_removed"] == 1
    assert backups.names() == {day(3): True}


def test_what_only_removed_backups_had_goes_with_them(store: Any, backups: Backups, dumps: Path) -> None:  # noqa: ANN401
    """Content that a kept backup shares with a removed one stays."""
    put(store, old=b"old", shared=b"shared")
    backups.write(day(1), dumps, ["vision"], {})
    store.delete_object(Bucket="vision", Key="old")
    backups.write(day(2), dumps, ["vision"], {})
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=2)
    assert backups.remove_surplus(1, later) == {"backups_removed": 1, "contents_removed": 1}
    assert [each["Key"] for each in backups.content()] == [f"{OBJECTS}/{hashlib.sha256(b'shared').hexdigest()}"]


def test_a_destroyed_bucket_comes_back(store: Any, backups: Backups, dumps: Path) -> None:  # noqa: ANN401
    """Every object is there again with its content; run once more, there is nothing left to do."""
    put(store, model=b"weights", data=b"rows")
    kept = backups.write(day(1), dumps, ["vision"], {})["buckets"]["vision"]
    empty(store, "vision")
    as_root = Backups(store, "backups")
    assert restore.newer_objects(store, "vision", kept) == []
    assert restore.put_back(as_root, "vision", kept, discard=False)["restored"] == 2
    assert contents(store) == {"model": b"weights", "data": b"rows"}
    again = restore.put_back(as_root, "vision", kept, discard=False)
    assert again == {"restored": 0, "unchanged": 2, "discarded": 0}


def test_what_is_newer_is_found_and_discarded_only_if_told(store: Any, backups: Backups, dumps: Path) -> None:  # noqa: ANN401
    """An object that was added or changed since the backup is named; what is equal is not, whatever its age."""
    put(store, model=b"weights", data=b"rows")
    kept = backups.write(day(1), dumps, ["vision"], {})["buckets"]["vision"]
    put(store, model=b"Weights", data=b"rows", new=b"new")
    assert restore.newer_objects(store, "vision", kept) == ["model", "new"]
    as_root = Backups(store, "backups")
    restore.put_back(as_root, "vision", kept, discard=False)
    assert contents(store) == {"model": b"weights", "data": b"rows", "new": b"new"}
    restore.put_back(as_root, "vision", kept, discard=True)
    assert contents(store) == {"model": b"weights", "data": b"rows"}


def test_a_dump_that_is_not_as_it_was_is_refused(store: Any, backups: Backups, dumps: Path, tmp_path: Path) -> None:  # noqa: ANN401
    """Its SHA-256 is checked before any database is touched."""
    inventory = backups.write(day(1), dumps, [], {})
    store.put_object(Bucket="backups", Key=f"{day(1)}/mlflow.dump", Body=b"rotten")
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(SystemExit, match=r"mlflow\.dump: its SHA-256 is .*, not the inventory's"):
        restore.fetch(backups, inventory, into)


def test_the_account_of_backups_needs_each_bucket(client: Callable[[str], Any], backups: Backups, dumps: Path) -> None:
    """A bucket that the account may not read ends the backup with its name, and leaves no complete one."""
    client("root").create_bucket(Bucket="closed")
    try:
        with pytest.raises(SystemExit, match=r"bucket closed: .*AccessDenied"):
            backups.write(day(1), dumps, ["closed"], {})
        assert backups.names() == {day(1): False}
    finally:
        client("root").delete_bucket(Bucket="closed")


def test_what_is_newer_in_a_database_is_found() -> None:
    """Runs that are new or differ from the backup's, and tables that have grown, but for what only processes keep."""
    assert restore.newer({"a": "1", "b": "1"}, {"a": "1", "b": "2", "c": "1"}) == ["b", "c"]
    now = {"runs": {"rows": 3}, "tags": {"rows": 1}, "job_locks": {"rows": 9}, "new": {"rows": 1}}
    assert restore.more_rows({"runs": {"rows": 1}, "tags": {"rows": 5}}, now) == [
        "new: 1 rows more",
        "runs: 2 rows more",
    ]


def sources(*, mysql: bool = False) -> Sources:
    """Return what is backed up of two teams in the cluster."""
    there = InCluster(storage_gib=1)
    endpoint = "http://object-store.kiban-metadata.svc:9000"
    buckets = {"vision": "vision", "language": "language"}
    return Sources(
        postgres=postgres_at(there, "kiban-metadata"),
        mysql=mysql_at(there, "kiban-metadata") if mysql else None,
        store=Store(endpoint=endpoint, region="us-east-1", buckets=buckets, backups="backups"),
    )


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a pod's containers in the order in which they run."""
    return [*pod.get("initContainers", []), *pod["containers"]]


@pytest.mark.parametrize("mysql", [False, True])
def test_the_pods_meet_pod_security_restricted(mysql: bool) -> None:  # noqa: FBT001
    """No container may gain rights, write its root file system or go without bounds, and none has a token."""
    pods = [
        _backup.backup_pod(Backup(), sources(mysql=mysql), priority="high"),
        _backup.check_pod(sources(mysql=mysql), priority="high"),
        _backup.restore_pod(sources(mysql=mysql), priority="high"),
    ]
    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }
            assert set(container["resources"]) == {"requests", "limits"}


def test_databases_are_dumped_before_objects_are_copied() -> None:
    """An artifact is uploaded before a run names it, so each run of the dump finds its artifacts."""
    pod = _backup.backup_pod(Backup(keep=3), sources(mysql=True), priority="high")
    assert [container["name"] for container in containers(pod)] == ["dump", "dump-mysql", "backup"]
    assert "--keep=3" in containers(pod)[-1]["command"]
    assert {"vision", "language"} < set(containers(pod)[-1]["command"])


def test_an_external_database_is_reached_by_tls() -> None:
    """Certificates are checked against the given authority, and the user is the data's own, no superuser."""
    outside = Database(host="db.example.org", port=5432, user="ml", databases=("m", "m_auth"), secret="p", ca="PEM")  # noqa: S106
    pod = _backup.restore_pod(Sources(postgres=outside, mysql=None, store=sources().store), priority="high")
    names = [container["name"] for container in containers(pod)]
    assert names == ["authorities", "objects", "databases", "restore"]
    env = {each["name"]: each.get("value") for each in containers(pod)[2]["env"]}
    assert (env["PGUSER"], env["PGSSLMODE"], env["PGSSLROOTCERT"]) == ("ml", "verify-full", "/ca/postgres.crt")
    assert "certificates" in {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"schedule": "every night"}, "schedule='every night'; accepted: five fields of cron"),
        ({"schedule": "0 3 * *"}, "schedule="),
        ({"keep": 0}, "keep=0; accepted: 1 to 1000"),
    ],
)
def test_a_backup_that_cannot_be_is_refused(values: dict[str, Any], why: str) -> None:
    """Schedule and retention are checked before anything is made."""
    with pytest.raises(ValueError, match="backup: ") as refused:
        Backup(**values)
    assert why in str(refused.value)


def cron_job(name: str) -> dict[str, Any]:
    """Return the CronJob of a restore as it is in a cluster."""
    pod = _backup.restore_pod(sources(), priority="high")
    return {
        "metadata": {
            "name": name,
            "namespace": "kiban-metadata",
            "uid": "1",
            "labels": {"kiban.dev/environment": "ci"},
        },
        "spec": _backup.cron_job(pod, name, "metadata", {}),
    }


@pytest.mark.parametrize("discard", [False, True])
def test_a_job_is_told_which_backup(discard: bool) -> None:  # noqa: FBT001
    """The variable is set in each container that has it; newer objects go only if told; the CronJob is as it was."""
    declared = cron_job("restore")
    before = json.dumps(declared)
    job = backup.job_of(declared, {"BACKUP": day(1)}, discard=discard)
    pod = job["spec"]["template"]["spec"]
    told = {c["name"]: {e["name"]: e.get("value") for e in c["env"]}.get("BACKUP") for c in containers(pod)}
    assert told == {"objects": day(1), "databases": None, "restore": day(1)}
    assert ("--discard" in containers(pod)[0]["command"]) is discard
    assert json.dumps(declared) == before
    assert "labels" not in job["metadata"]  # `kiban sweep` would take it for an orphan
    assert declared["spec"]["suspend"] is True


def test_a_target_with_newer_data_is_refused_unless_told() -> None:
    """What would be lost is said by name, and counted in the refusal."""
    lost = {"runs": {"count": 12, "such_as": ["f00", "ba4"]}}
    found = {"backup": day(1), "replaces": ["database mlflow", "bucket vision"], "lost": lost}
    assert backup.told(found) == [
        f"{day(1)} replaces database mlflow, bucket vision",
        "newer than the backup, and lost: runs: f00, ba4 and 10 more",
    ]
    with pytest.raises(BadInput, match=r"newer than 20260101T030000Z: runs \(12\); nothing was changed"):
        backup.refuse_newer(found, discard=False)
    backup.refuse_newer(found, discard=True)
    backup.refuse_newer(found | {"lost": {}}, discard=False)


def test_a_failed_job_says_what_its_container_said() -> None:
    """The last line of the first container that failed, in the newest pod."""

    def pod(created: str, message: str) -> dict[str, Any]:
        ended = {"name": "objects", "state": {"terminated": {"exitCode": 1, "message": message}}}
        started = {"name": "restore", "state": {"waiting": {"reason": "PodInitializing"}}}
        return {
            "metadata": {"creationTimestamp": created},
            "status": {"initContainerStatuses": [ended], "containerStatuses": [started]},
        }

    assert backup.why([pod("2026-01-02", "first\nbucket vision: denied\n"), pod("2026-01-01", "x")]) == (
        "objects: bucket vision: denied"
    )
    assert backup.why([]) is None


def test_a_job_can_be_run_again() -> None:
    """Without what ties the first one's pods to it, under another name, and gone an hour after its end."""
    labels = {"app.kubernetes.io/name": "buckets", "batch.kubernetes.io/controller-uid": "1", "job-name": "buckets-1"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": []}}
    job = {
        "metadata": {"name": "buckets-1", "namespace": "kiban-metadata"},
        "spec": {"backoffLimit": 3, "selector": {}, "template": template},
    }
    again = backup.job_again(job, "buckets-again-1")
    assert again["spec"] == {
        "backoffLimit": 3,
        "ttlSecondsAfterFinished": 3600,
        "template": {"metadata": {"labels": {"app.kubernetes.io/name": "buckets"}}, "spec": {"containers": []}},
    }
