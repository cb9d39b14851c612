"""Writes a backup into the object store: dumps of MLflow's databases, every object of the teams, and an inventory.

Runs in a pod, after dump.sh has filled the folder that it is given:

    backup.py FOLDER --keep 7 [--versions JSON] BUCKET...

DATABASES: names of the databases that were dumped. S3_ENDPOINT: the store. BACKUPS: the bucket of backups.
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY: an account that may read the teams' buckets and write that one. What is
written there:

    objects/SHA256                    what an object contains, once however many objects and backups have it
    TIMESTAMP/*.dump, *.json          as dump.sh left them
    TIMESTAMP/inventory.json          last: a backup is complete when it has this

The databases come first, the objects after them: an artifact is uploaded before a run names it, so every run of the
dump finds its artifacts. Kept of an object are key and content.
"""
# ruff: noqa: INP001 - a program of its own

import argparse
import concurrent.futures
import datetime as dt
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

SCHEMA = "kiban/backup/v1"
INVENTORY = "inventory.json"
OBJECTS = "objects"
_AT_ONCE = 8
# With pauses: a pod is let through only some time after it has started, where NetworkPolicies are in force.
_ATTEMPTS = 8
_PIECE = 1 << 20
_TIMESTAMP = "%Y%m%dT%H%M%SZ"
# Content that no inventory names may belong to a backup that is being written.
_GRACE = dt.timedelta(days=1)
_GONE = {"404", "NoSuchKey", "NoSuchBucket"}
_REPLACED = {"412", "PreconditionFailed"}

Object = dict[str, Any]


def store() -> Any:  # noqa: ANN401 - boto3 has no types
    """The object store of S3_ENDPOINT."""
    config = Config(
        s3={"addressing_style": "path"},
        max_pool_connections=_AT_ONCE * 2,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
    )
    return boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT"], config=config)


def code(error: ClientError) -> str:
    """S3's name for what went wrong."""
    return str(error.response["Error"]["Code"])


def listed(s3: Any, bucket: str, prefix: str = "") -> Iterator[Object]:  # noqa: ANN401
    """Every object of the bucket: Key, Size, ETag, LastModified. A bucket that is missing has none."""
    try:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            yield from page.get("Contents", ())
    except ClientError as error:
        if code(error) not in _GONE:
            raise


def digest(s3: Any, bucket: str, key: str, **conditions: str) -> str:  # noqa: ANN401
    """The SHA-256 of what an object contains."""
    found = hashlib.sha256()
    for piece in s3.get_object(Bucket=bucket, Key=key, **conditions)["Body"].iter_chunks(_PIECE):
        found.update(piece)
    return found.hexdigest()


def is_timestamp(name: str) -> bool:
    """Whether a backup of that name is one of these, not one that was made before a migration."""
    return re.fullmatch(r"\d{8}T\d{6}Z", name) is not None


def surplus(names: Mapping[str, bool], keep: int) -> list[str]:
    """Which backups to remove, of names that say whether each is complete.

    Of complete ones the newest `keep` stay, one at least. Incomplete ones older than the newest complete one were cut
    off, and go; a newer one may be under way.
    """
    complete = sorted(name for name, whole in names.items() if whole)
    stay = set(complete[-max(keep, 1) :])
    newest = complete[-1] if complete else ""
    return sorted(name for name, whole in names.items() if name not in stay and (whole or name < newest))


def unreferenced(content: Iterable[Object], inventories: Iterable[Object], now: dt.datetime) -> list[str]:
    """The keys of content that no inventory names and that no backup under way can count on."""
    named = {each["sha256"] for kept in inventories for bucket in kept["buckets"].values() for each in bucket.values()}
    return [
        each["Key"]
        for each in content
        if each["Key"].removeprefix(f"{OBJECTS}/") not in named and each["LastModified"] < now - _GRACE
    ]


class Backups:
    """The bucket of backups."""

    def __init__(self, s3: Any, bucket: str) -> None:  # noqa: ANN401
        self.s3 = s3
        self.bucket = bucket

    def names(self) -> dict[str, bool]:
        """Name to whether it is complete, of the backups that this program wrote."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Delimiter="/")
        found = [each["Prefix"].rstrip("/") for page in pages for each in page.get("CommonPrefixes", ())]
        return {name: self.has(f"{name}/{INVENTORY}") for name in sorted(found) if is_timestamp(name)}

    def has(self, key: str) -> bool:
        """Whether the bucket has the key."""
        try:
            self.s3.head_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if code(error) in _GONE:
                return False
            raise
        return True

    def inventory(self, name: str) -> Object:
        """What a complete backup says of itself."""
        found: Object = json.loads(self.s3.get_object(Bucket=self.bucket, Key=f"{name}/{INVENTORY}")["Body"].read())
        return found

    def content(self) -> list[Object]:
        """All objects under objects/."""
        return list(listed(self.s3, self.bucket, f"{OBJECTS}/"))

    def write(self, name: str, folder: Path, buckets: Sequence[str], versions: Mapping[str, str]) -> Object:
        """Write a backup and return its inventory."""
        complete = [other for other, whole in self.names().items() if whole]
        before = self.inventory(complete[-1])["buckets"] if complete else {}
        databases = [*os.environ["DATABASES"].split(), *(["mysql"] if (folder / "mysql.sql").exists() else [])]
        taken = {database: self._keep_database(name, database, folder) for database in databases}
        there = {each["Key"] for each in self.content()}
        kept = {bucket: self._keep_bucket(bucket, before.get(bucket, {}), there) for bucket in buckets}
        inventory = {
            "schema": SCHEMA,
            "backup": name,
            "versions": dict(versions),
            "databases": taken,
            "buckets": kept,
        }
        missing = {f"{OBJECTS}/{each['sha256']}" for bucket in kept.values() for each in bucket.values()}
        missing -= {each["Key"] for each in self.content()}
        if missing:
            raise SystemExit(f"backup {name}: {len(missing)} contents were removed meanwhile; run it again")
        body = json.dumps(inventory, indent=1, sort_keys=True).encode()
        self.s3.put_object(Bucket=self.bucket, Key=f"{name}/{INVENTORY}", Body=body)
        return inventory

    def _keep_database(self, name: str, database: str, folder: Path) -> Object:
        """Have what dump.sh wrote of a database, and return what it says of its contents."""
        files = {file.name: self._put(name, file) for file in sorted(folder.glob(f"{database}.*"))}
        told = {part: folder / f"{database}.{part}.json" for part in ("tables", "runs")}
        return {"files": files, **{part: json.loads(file.read_text()) for part, file in told.items() if file.exists()}}

    def _put(self, name: str, file: Path) -> Object:
        with file.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        self.s3.upload_file(str(file), self.bucket, f"{name}/{file.name}")
        return {"size": file.stat().st_size, "sha256": sha256}

    def _keep_bucket(self, bucket: str, before: Mapping[str, Object], there: set[str]) -> dict[str, Object]:
        """Key to size, etag and sha256 of all that a bucket has; what the last backup saw unchanged is not read."""

        def keep(found: Object) -> tuple[str, Object | None]:
            seen = {"size": found["Size"], "etag": found["ETag"].strip('"')}
            known = before.get(found["Key"], {})
            if {name: known.get(name) for name in seen} == seen and f"{OBJECTS}/{known['sha256']}" in there:
                return found["Key"], known
            return found["Key"], self._keep(bucket, found["Key"], there)

        try:
            with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
                return {key: each for key, each in pool.map(keep, listed(self.s3, bucket)) if each is not None}
        except ClientError as error:
            raise SystemExit(f"bucket {bucket}: {error}") from None

    def _keep(self, bucket: str, key: str, there: set[str]) -> Object | None:
        """Have the content of an object, copied within the store; None where it is gone meanwhile."""
        while True:
            try:
                found = self.s3.head_object(Bucket=bucket, Key=key)
                sha256 = digest(self.s3, bucket, key, IfMatch=found["ETag"])
                if f"{OBJECTS}/{sha256}" not in there:
                    self.s3.copy(
                        {"Bucket": bucket, "Key": key},
                        self.bucket,
                        f"{OBJECTS}/{sha256}",
                        ExtraArgs={"CopySourceIfMatch": found["ETag"]},
                    )
            except ClientError as error:
                if code(error) in _GONE:
                    return None
                if code(error) not in _REPLACED:
                    raise
            else:
                return {"size": found["ContentLength"], "etag": found["ETag"].strip('"'), "sha256": sha256}

    def remove_surplus(self, keep: int, now: dt.datetime) -> dict[str, int]:
        """Remove what retention does not keep; content last, and what other backups name never."""
        names = self.names()
        gone = surplus(names, keep)
        for name in gone:
            # The inventory first: a backup that is cut off here is no longer complete.
            keys = [f"{name}/{INVENTORY}", *(each["Key"] for each in listed(self.s3, self.bucket, f"{name}/"))]
            self._delete(keys)
        inventories = [self.inventory(name) for name, whole in names.items() if whole and name not in gone]
        content = unreferenced(self.content(), inventories, now)
        self._delete(content)
        return {"backups_removed": len(gone), "contents_removed": len(content)}

    def _delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.s3.delete_object(Bucket=self.bucket, Key=key)


def records(inventory: Mapping[str, Any]) -> Object:
    """Of an inventory's databases the one that has MLflow's runs."""
    return next(dict(database) for database in inventory["databases"].values() if "runs" in database)


def summary(inventory: Mapping[str, Any]) -> Object:
    """What is told of a backup in a list of them."""
    runs = records(inventory)["runs"]
    objects = [each for bucket in inventory["buckets"].values() for each in bucket.values()]
    return {
        "backup": inventory["backup"],
        "runs": len(runs["runs"]),
        "models": runs["registered_models"],
        "model_versions": len(runs["model_versions"]),
        "newest_run_end": runs["newest_run_end"]
        and dt.datetime.fromtimestamp(runs["newest_run_end"] / 1000, dt.UTC).isoformat(timespec="seconds"),
        "database_revision": runs["schema"],
        "objects": len(objects),
        "bytes": sum(each["size"] for each in objects),
    }


def main() -> None:
    """Write one backup, remove surplus ones, and say in a line of JSON what there is."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("buckets", nargs="*", metavar="BUCKET")
    parser.add_argument("--keep", type=int, default=7)
    parser.add_argument("--versions", type=json.loads, default={})
    given = parser.parse_args()
    now = dt.datetime.now(dt.UTC)
    backups = Backups(store(), os.environ["BACKUPS"])
    try:
        written = backups.write(now.strftime(_TIMESTAMP), given.folder, given.buckets, given.versions)
        removed = backups.remove_surplus(given.keep, now)
    except (BotoCoreError, ClientError) as error:
        sys.exit(f"backup to bucket {backups.bucket}: {error}")
    sys.stdout.write(json.dumps({**summary(written), **removed}) + "\n")


if __name__ == "__main__":
    main()
