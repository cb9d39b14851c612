"""Makes the buckets and says who may use them; in a store that is not Kiban's, checks that each team can use its own.

Runs in a pod, as often as one likes. /buckets/buckets.json: bucket to who may use it,
{"BUCKET": {"write": [ACCOUNT, ...], "team": TEAM or null}}. With AWS_ACCESS_KEY_ID, the buckets are made by that
account; without, /teams has TEAM.access and TEAM.secret.
"""
# ruff: noqa: INP001 - a program of its own

import json
import os
import sys
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-not-found,unused-ignore]
from botocore.config import Config  # type: ignore[import-not-found,unused-ignore]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-not-found,unused-ignore]

_OF_BUCKETS = ("s3:ListBucket", "s3:ListBucketMultipartUploads")
_OF_OBJECTS = (
    "s3:GetObject",
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:GetObjectTagging",
    "s3:PutObjectTagging",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
)


def policy(bucket: str, accounts: list[str]) -> dict[str, Any]:
    """The bucket's policy: these accounts may list, read, write and remove objects, and nobody else may do anything."""

    def allow(actions: tuple[str, ...], *resources: str) -> dict[str, Any]:
        return {
            "Effect": "Allow",
            "Principal": {"AWS": accounts},
            "Action": list(actions),
            "Resource": [f"arn:aws:s3:::{resource}" for resource in resources],
        }

    # To delete several objects at once is asked of the bucket (versitygw 1.0.14, DeleteObjects).
    return {
        "Version": "2012-10-17",
        "Statement": [allow(_OF_BUCKETS, bucket), allow(_OF_OBJECTS, f"{bucket}/*", bucket)],
    }


def make(store: Any, bucket: str, accounts: list[str]) -> None:  # noqa: ANN401 - boto3 has no types
    """Make one bucket where it is missing, and put its policy."""
    try:
        store.create_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] != "BucketAlreadyOwnedByYou":
            raise
    store.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy(bucket, accounts)))


def main() -> None:
    """Go through the buckets; the first that cannot be had ends it in one line."""
    options = {"endpoint_url": os.environ["S3_ENDPOINT"], "config": Config(s3={"addressing_style": "path"})}
    own = "AWS_ACCESS_KEY_ID" in os.environ
    for bucket, who in json.loads(Path("/buckets/buckets.json").read_text()).items():
        try:
            if own:
                make(boto3.client("s3", **options), bucket, who["write"])
            elif who["team"]:
                keys = [Path("/teams", f"{who['team']}.{part}").read_text() for part in ("access", "secret")]
                team = boto3.client("s3", aws_access_key_id=keys[0], aws_secret_access_key=keys[1], **options)
                team.list_objects_v2(Bucket=bucket, MaxKeys=1)
        except (BotoCoreError, ClientError) as error:
            whose = f", as the account of team {who['team']}" if who["team"] and not own else ""
            sys.exit(f"bucket {bucket}{whose}: {error}; accepted: a bucket that exists and is its own")


if __name__ == "__main__":
    main()
