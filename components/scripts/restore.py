"""Brings MLflow's databases and the teams' objects back to what a backup has.

Runs in pods, in this order, MLflow being stopped:

    restore.py check BACKUP                     what would be replaced and what lost, as one line of JSON; reads only
    restore.py objects BACKUP FOLDER [--discard]
                                                the dumps into the folder, the objects into their buckets
    databases.sh FOLDER                         the databases
    restore.py verify BACKUP                    compares all with the backup, as one line of JSON

Each may be run again after it was cut off. BACKUP: a timestamp, `latest`, or the name of a backup that was made before
a migration, which has the databases only. S3_ENDPOINT, BACKUPS, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY: an account
that may make buckets and write them all. PGHOST and so on: PostgreSQL, for libpq. DATABASES: the names of its
databases, that of MLflow's records first.
"""
# ruff: noqa: INP001 - a program of its own

import argparse
import concurrent.futures
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from components.scripts import backup
from components.scripts.backup import OBJECTS, Backups, Object, code, digest, listed

_ABOUT = "about.json"
_AT_ONCE = 8
_SHOWN = 10
# Seconds: a pod is let through to the server only some time after it has started, where NetworkPolicies are in force.
_PATIENCE = 60
_UNKNOWN = "not compared"  # a backup from before a migration is the dumps alone
# What MLflow's processes write to tell each other who does what; no one misses it.
_TRANSIENT = {"scheduler_leases", "job_locks"}


def chosen(backups: Backups, name: str) -> str:
    """The name of the backup that is meant. Ends the program where there is none or it is not complete."""
    complete = [each for each, whole in backups.names().items() if whole]
    if name == "latest" and complete:
        return complete[-1]
    if name in complete or (not backup.is_timestamp(name) and backups.has(f"{name}/{_ABOUT}")):
        return name
    sys.exit(f"backup {name!r}; accepted: latest, {', '.join(complete) or 'but there is none'}")


def read(backups: Backups, name: str) -> Object:
    """The inventory; of a backup that was made before a migration, what stands for one: dumps and the time."""
    if backup.is_timestamp(name):
        return backups.inventory(name)
    about = backups.s3.get_object(Bucket=backups.bucket, Key=f"{name}/{_ABOUT}")
    databases = json.loads(about["Body"].read())["databases"]
    return {
        "backup": name,
        "taken_ms": int(about["LastModified"].timestamp() * 1000),
        "databases": {database: {"files": {f"{database}.dump": {}}} for database in databases},
        "buckets": {},
    }


def asked(database: str, question: str, *values: object) -> Any:  # noqa: ANN401 - what the one column holds
    """The one value that a query gives; None where the database is missing. A server that is away ends the program."""
    import psycopg2  # noqa: PLC0415 - the object store is reached without

    end = time.monotonic() + _PATIENCE
    while True:
        try:
            connection = psycopg2.connect(dbname=database)
            break
        except psycopg2.OperationalError as error:
            if f'database "{database}" does not exist' in str(error):
                return None
            if time.monotonic() > end:
                sys.exit(f"database {database}: {' '.join(str(error).split())}")
            time.sleep(1)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET TimeZone = 'UTC'")
            cursor.execute(question, values or None)
            return cursor.fetchone()[0]
    finally:
        connection.close()


def tables(database: str) -> Object:
    """Table to rows and digest, of a database as it is."""
    return asked(database, Path(__file__).with_name("tables.sql").read_text()) or {}


def records() -> str:
    """The name of the database that has MLflow's runs."""
    return os.environ["DATABASES"].split()[0]


def runs() -> Object:
    """What MLflow's database remembers now; nothing where it is missing or was never migrated."""
    if asked(records(), "SELECT to_regclass('runs')::text") is None:
        return {"runs": {}, "model_versions": {}}
    found: Object = asked(records(), Path(__file__).with_name("runs.sql").read_text())
    return found


def newer(kept: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is there now and was not, or was otherwise, when the backup was made."""
    return sorted(name for name, what in now.items() if kept.get(name) != what)


def more_rows(kept: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Tables that have more rows now than in the backup."""
    return [
        f"{table}: {has['rows'] - kept.get(table, {'rows': 0})['rows']} rows more"
        for table, has in sorted(now.items())
        if table not in _TRANSIENT and has["rows"] > kept.get(table, {"rows": 0})["rows"]
    ]


def newer_than(moment_ms: int) -> tuple[list[str], list[str]]:
    """Runs and model versions that began, ended or changed after a moment, as the clocks of who wrote them said."""
    if asked(records(), "SELECT to_regclass('runs')::text") is None:
        return [], []
    of_runs = (
        "SELECT coalesce(json_agg(run_uuid ORDER BY run_uuid), '[]') FROM runs "
        "WHERE greatest(coalesce(start_time, 0), coalesce(end_time, 0)) > %s"
    )
    of_versions = (
        "SELECT coalesce(json_agg(name || '/' || version ORDER BY name, version), '[]') FROM model_versions "
        "WHERE last_updated_time > %s"
    )
    return asked(records(), of_runs, moment_ms), asked(records(), of_versions, moment_ms)


def newer_objects(s3: Any, bucket: str, kept: Mapping[str, Object]) -> list[str]:  # noqa: ANN401
    """Keys whose content the backup does not have under that key."""

    def differs(found: Object) -> bool:
        known = kept.get(found["Key"])
        if known is None or known["size"] != found["Size"]:
            return True
        same = known["etag"] == found["ETag"].strip('"') or known["sha256"] == digest(s3, bucket, found["Key"])
        return not same

    there = list(listed(s3, bucket))
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        return [found["Key"] for found, lost in zip(there, pool.map(differs, there), strict=True) if lost]


def check(backups: Backups, name: str) -> Object:
    """What a restore would replace, and what of it the backup does not have."""
    inventory = read(backups, name)
    databases = inventory["databases"]
    lost: dict[str, list[str]]
    if "taken_ms" in inventory:
        of_runs, of_versions = newer_than(inventory["taken_ms"])
        lost = {"runs": of_runs, "model versions": of_versions}
    else:
        kept, now = backup.records(inventory)["runs"], runs()
        lost = {
            "runs": newer(kept["runs"], now["runs"]),
            "model versions": newer(kept["model_versions"], now["model_versions"]),
        }
        for database in databases:
            if "tables" in databases[database]:
                lost[f"database {database}"] = more_rows(databases[database]["tables"], tables(database))
    for bucket, objects in inventory["buckets"].items():
        lost[f"bucket {bucket}"] = newer_objects(backups.s3, bucket, objects)
    return {
        "backup": inventory["backup"],
        "replaces": [*(f"database {each}" for each in databases), *(f"bucket {each}" for each in inventory["buckets"])],
        "lost": {what: {"count": len(names), "such_as": names[:_SHOWN]} for what, names in lost.items() if names},
    }


def fetch(backups: Backups, inventory: Object, folder: Path) -> None:
    """Have the dumps in the folder, each as it was written."""
    for file in folder.iterdir():
        file.unlink()
    for database in inventory["databases"].values():
        for file, written in database["files"].items():
            backups.s3.download_file(backups.bucket, f"{inventory['backup']}/{file}", str(folder / file))
            with (folder / file).open("rb") as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            if sha256 != written.get("sha256", sha256):
                sys.exit(f"{inventory['backup']}/{file}: its SHA-256 is {sha256}, not the inventory's; take another")


def missing(s3: Any, bucket: str, objects: Mapping[str, Object]) -> Iterator[str]:  # noqa: ANN401
    """Keys that the bucket lacks, or has with another content. Everything is read."""

    def differs(key: str) -> bool:
        try:
            same = bool(digest(s3, bucket, key) == objects[key]["sha256"])
        except ClientError as error:
            if code(error) not in {"NoSuchKey", "NoSuchBucket"}:
                raise
            return True
        return not same

    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        for key, wrong in zip(objects, pool.map(differs, objects), strict=True):
            if wrong:
                yield key


def put_back(backups: Backups, bucket: str, objects: Mapping[str, Object], *, discard: bool) -> Object:
    """Have a bucket with the backup's objects; what it has besides goes only if told to."""
    try:
        backups.s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if code(error) not in {"404", "NoSuchBucket"}:
            raise
        backups.s3.create_bucket(Bucket=bucket)
    wrong = list(missing(backups.s3, bucket, objects))

    def copy(key: str) -> None:
        source = {"Bucket": backups.bucket, "Key": f"{OBJECTS}/{objects[key]['sha256']}"}
        backups.s3.copy(source, bucket, key)

    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(copy, wrong))
    extra = [each["Key"] for each in listed(backups.s3, bucket) if each["Key"] not in objects] if discard else []
    for key in extra:
        backups.s3.delete_object(Bucket=bucket, Key=key)
    return {"restored": len(wrong), "unchanged": len(objects) - len(wrong), "discarded": len(extra)}


def verify(backups: Backups, name: str) -> Object:
    """Whether databases and buckets have what the backup has, with counts."""
    inventory = read(backups, name)
    items: list[Object] = []
    for database, kept in inventory["databases"].items():
        if database not in os.environ["DATABASES"].split():
            continue
        now = tables(database)
        rows = sum(table["rows"] for table in now.values())
        same = kept["tables"] == now if "tables" in kept else _UNKNOWN
        items.append({"verified": f"database {database}", "count": f"{rows} rows", "same": same})
    for bucket, objects in inventory["buckets"].items():
        wrong = list(missing(backups.s3, bucket, objects))
        items.append({"verified": f"bucket {bucket}", "count": f"{len(objects)} objects", "same": not wrong})
    remembered = runs()
    for what in ("runs", "model_versions"):
        same = _UNKNOWN if "taken_ms" in inventory else backup.records(inventory)["runs"][what] == remembered[what]
        items.append({"verified": what.replace("_", " "), "count": str(len(remembered[what])), "same": same})
    return {"backup": inventory["backup"], "items": items}


def main() -> None:
    """Do the step that is named, and say in a line of JSON what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=("check", "objects", "verify"))
    parser.add_argument("backup")
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--discard", action="store_true")
    given = parser.parse_args()
    backups = Backups(backup.store(), os.environ["BACKUPS"])
    try:
        name = chosen(backups, given.backup)
        if given.step == "check":
            said = check(backups, name)
        elif given.step == "verify":
            said = verify(backups, name)
        else:
            inventory = read(backups, name)
            fetch(backups, inventory, given.folder)
            said = {
                bucket: put_back(backups, bucket, objects, discard=given.discard)
                for bucket, objects in inventory["buckets"].items()
            }
    except (BotoCoreError, ClientError) as error:
        sys.exit(f"restore of {given.backup}: {' '.join(str(error).split())}")
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
