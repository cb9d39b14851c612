"""The team's bucket, as the pod's environment names it (BUCKET, MLFLOW_S3_ENDPOINT_URL and the keys)."""

import datetime as dt
import os
from collections.abc import Iterator
from typing import Any

from pipelines.reference.steps.ending import Refused

_MISSING = {"NoSuchKey", "404", "NoSuchBucket"}


class Bucket:
    """One bucket. name: another than the team's own, of an s3:// address."""

    def __init__(self, name: str | None = None) -> None:
        import boto3  # noqa: PLC0415

        self.name = name or os.environ["BUCKET"]
        self._store = boto3.client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL"))

    def keys(self, prefix: str, *, since: dt.datetime | None = None) -> Iterator[str]:
        """Keys below a prefix, in order. since: of objects written then or later."""
        for page in self._store.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
            for found in page.get("Contents", ()):
                if since is None or found["LastModified"] >= since:
                    yield found["Key"]

    def read(self, key: str) -> bytes | None:
        """An object's content; None where there is none."""
        from botocore.exceptions import ClientError  # noqa: PLC0415

        try:
            content: bytes = self._store.get_object(Bucket=self.name, Key=key)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] in _MISSING:
                return None
            raise
        return content

    def write(self, key: str, content: bytes, kind: str) -> str:
        """Write an object of a media type and return its address."""
        self._store.put_object(Bucket=self.name, Key=key, Body=content, ContentType=kind)
        return f"s3://{self.name}/{key}"


def fetched(uri: str) -> bytes:
    """What is at s3://BUCKET/KEY. Raises Refused where there is nothing, or no such address."""
    name, _, key = uri.removeprefix("s3://").partition("/")
    content = Bucket(name).read(key) if uri.startswith("s3://") and name and key else None
    if content is None:
        raise Refused(f"{uri!r}: there is nothing; accepted: s3://BUCKET/KEY that this team may read")
    return content


def lines(bucket: Any, keys: Iterator[str]) -> Iterator[str]:  # noqa: ANN401 - a Bucket, or what a test has
    """The lines of the objects."""
    for key in keys:
        content = bucket.read(key)
        if content is not None:  # else it expired meanwhile
            yield from content.decode("utf-8", "replace").splitlines()
