"""Brings MLflow's databases to the revision of this image, after a backup; tells the administrator's password.

Runs in init containers, before MLflow: `migrate.py compare`, then whoever can dumps the databases that /migration/dump
names into /migration, then `migrate.py apply`. TRACKING and AUTH: addresses of the databases, without the password.
A database that this image is too old for ends it with what to do.
"""
# ruff: noqa: INP001 - a program of its own

import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-not-found,unused-ignore]
import certifi  # type: ignore[import-not-found,unused-ignore]
from alembic.migration import MigrationContext  # type: ignore[import-not-found,unused-ignore]
from alembic.script import ScriptDirectory  # type: ignore[import-not-found,unused-ignore]
from alembic.util import CommandError  # type: ignore[import-not-found,unused-ignore]
from botocore.config import Config  # type: ignore[import-not-found,unused-ignore]
from sqlalchemy import create_engine, make_url, text  # type: ignore[import-not-found,unused-ignore]
from sqlalchemy.exc import OperationalError  # type: ignore[import-not-found,unused-ignore]
from werkzeug.security import check_password_hash  # type: ignore[import-not-found,unused-ignore]

WORK = Path("/migration")
PREFIX = "before-migration"
_EMPTY = "empty"
_PATIENCE = 60  # seconds
_MIGRATIONS = {
    "TRACKING": ("store/db_migrations", "alembic_version"),
    "AUTH": ("server/auth/db/migrations", "alembic_version_auth"),
}
"""Where MLflow (3.17) has the migrations of each database, and the table that says how far it is."""


def revisions(kind: str) -> tuple[str, str, bool]:
    """Of one database: its revision, the image's, and whether the image knows the first."""
    folder, table = _MIGRATIONS[kind]
    found = importlib.util.find_spec("mlflow")  # not imported: that takes a while
    scripts = ScriptDirectory(str(Path(found.origin).parent / folder))  # type: ignore[union-attr,arg-type]
    with create_engine(os.environ[kind]).connect() as connection:
        current = MigrationContext.configure(connection, opts={"version_table": table}).get_current_revision()
    try:
        known = current is None or scripts.get_revision(current) is not None
    except CommandError:
        known = False
    return current or _EMPTY, str(scripts.get_current_head()), known


def wait() -> None:
    """Wait until the server lets this pod in: NetworkPolicies take a moment to know a new one."""
    engine = create_engine(os.environ["TRACKING"])
    for left in range(_PATIENCE, -1, -1):
        try:
            engine.connect().close()
        except OperationalError:
            if not left:
                raise
            time.sleep(1)
        else:
            return


def compare() -> None:
    """Write which databases are to be dumped, as /migration/dump, and why, as /migration/about.json."""
    WORK.joinpath("ca.crt").write_bytes(Path(os.environ.get("CA") or certifi.where()).read_bytes())
    wait()
    found = {kind: revisions(kind) for kind in _MIGRATIONS}
    before, after = ".".join(each[0] for each in found.values()), ".".join(each[1] for each in found.values())
    if not all(known for _, _, known in found.values()):
        sys.exit(
            f"MLflow's databases are of revision {before}, which this image ({after}) is too old for; "
            f"go back to the newer release, or {way_back(after, before)}"
        )
    filled = any(current != _EMPTY for current, _, _ in found.values())
    names = [make_url(os.environ[kind]).database for kind in _MIGRATIONS] if filled and before != after else []
    WORK.joinpath("dump").write_text("\n".join(names))
    WORK.joinpath("about.json").write_text(json.dumps({"from": before, "to": after, "databases": names}))
    sys.stdout.write(f"from {before} to {after}: {'dump' if names else 'no dump'}\n")


def way_back(older: str, newer: str) -> str:
    """How to get back what the databases were before they left the older revision."""
    found = store().list_objects_v2(Bucket=os.environ["BACKUPS"], Prefix=f"{PREFIX}/{older}-").get("Contents", [])
    kept = sorted({str(each["Key"]).rpartition("/")[0] for each in found})
    if not kept:
        return "restore a backup that was made before that (kiban restore ENV --from BACKUP)"
    exact = f"{PREFIX}/{older}-{newer}"
    return f"run: kiban restore ENV --from {exact if exact in kept else kept[-1]}"


def store() -> Any:  # noqa: ANN401 - boto3 has no types
    """The object store, as the account of backups."""
    return boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT"], config=Config(s3={"addressing_style": "path"}))


def apply() -> None:
    """Keep the dumps, migrate, and tell the password."""
    about = json.loads(WORK.joinpath("about.json").read_text())
    if about["databases"]:
        folder = f"{PREFIX}/{about['from']}-{about['to']}"
        for name in (*(f"{name}.dump" for name in about["databases"]), "about.json"):
            store().upload_file(str(WORK / name), os.environ["BACKUPS"], f"{folder}/{name}")
        sys.stdout.write(f"backup: {folder}\n")
    name, password = os.environ["MLFLOW_AUTH_ADMIN_USERNAME"], os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"]
    if about["from"] != about["to"]:
        migrate()
    if about["from"] != about["to"] or not knows(name, password):
        tell(name, password)


def migrate() -> None:
    """Bring the records to the image's revision, as `mlflow db upgrade` does it."""
    from mlflow.store.db import utils  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415 - takes a while

    engine = utils.create_sqlalchemy_engine_with_retry(os.environ["TRACKING"])
    if utils._is_empty_database(engine):  # noqa: SLF001 - there is no public way
        utils._initialize_tables(engine)  # noqa: SLF001
    else:
        utils._upgrade_db(engine)  # noqa: SLF001


def knows(name: str, password: str) -> bool:
    """Whether that is the administrator's password already."""
    asked = text("SELECT password_hash FROM users WHERE username = :name AND is_admin")
    with create_engine(os.environ["AUTH"]).connect() as connection:
        found = connection.execute(asked, {"name": name}).scalar()
    return found is not None and check_password_hash(found, password)


def tell(name: str, password: str) -> None:
    """Bring the accounts to the image's revision, and give the administrator the password."""
    from mlflow.server.auth.sqlalchemy_store import (  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415
        SqlAlchemyStore,
    )

    accounts = SqlAlchemyStore()
    accounts.init_db(os.environ["AUTH"])  # migrates
    if accounts.has_user(name):
        accounts.update_user(name, password=password, is_admin=True)
    else:
        accounts.create_user(name, password, is_admin=True)


if __name__ == "__main__":
    {"compare": compare, "apply": apply}[sys.argv[1]]()
