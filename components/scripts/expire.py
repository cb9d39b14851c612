"""Removes artifacts of runs that are older than so many days, for a store that has no lifecycle rules.

Runs in a pod. /buckets/buckets.json: as for buckets.py; /teams: TEAM.access and TEAM.secret of each team. Models and
all else that MLflow knows stay: only what lies under PREFIXES goes.
"""
# ruff: noqa: INP001 - a program of its own

import datetime as dt
import json
import os
import sys
from pathlib import Path

import boto3  # type: ignore[import-not-found,unused-ignore]
from botocore.config import Config  # type: ignore[import-not-found,unused-ignore]


def main() -> None:
    """Remove them, bucket by bucket."""
    before = dt.datetime.now(dt.UTC) - dt.timedelta(days=int(os.environ["EXPIRE_DAYS"]))
    for bucket, who in json.loads(Path("/buckets/buckets.json").read_text()).items():
        if not who["team"]:
            continue
        access, secret = (Path("/teams", f"{who['team']}.{part}").read_text() for part in ("access", "secret"))
        store = boto3.client(
            "s3",
            endpoint_url=os.environ["S3_ENDPOINT"],
            aws_access_key_id=access,
            aws_secret_access_key=secret,
            config=Config(s3={"addressing_style": "path"}),
        )
        removed = 0
        for prefix in os.environ["PREFIXES"].split():
            for page in store.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for found in page.get("Contents", ()):
                    if found["LastModified"] < before:
                        store.delete_object(Bucket=bucket, Key=found["Key"])
                        removed += 1
        sys.stdout.write(f"{bucket}: {removed} objects from before {before:%Y-%m-%d} removed\n")


if __name__ == "__main__":
    main()
