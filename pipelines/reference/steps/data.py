"""Step `data`: bring the data set into the run.

Its source is `digits` (scikit-learn's own copy) or where a CSV file is: a path, or s3://BUCKET/KEY of a bucket that the
pod's credentials may read. What is in the file is not judged here: that is the step `validate`.
"""

import os
import shutil
from pathlib import Path

import click

from . import digits, options
from .ending import Refused, step
from .tracking import Tracked

DIGITS = "digits"
ACCEPTED = f"accepted: {DIGITS}, the path of a CSV file, or s3://BUCKET/KEY that this team may read"


@click.command()
@click.option("--source", required=True, help="`digits`, a path, or s3://BUCKET/KEY.")
@options.out
@click.option("--git-commit", default="", help="Commit of the source that the run was started from.")
@options.run_name
@options.run_uid
@step
def main(*, source: str, out: Path, git_commit: str, run_name: str, run_uid: str) -> None:
    """Write the data set as CSV."""
    run = Tracked(run_name, run_uid)
    run.tag({"kiban.git_commit": git_commit})
    run.parameters({"source": source})
    out.parent.mkdir(parents=True, exist_ok=True)
    if source == DIGITS:
        digits.write(out)
    else:
        fetch(source, out)


def fetch(source: str, target: Path) -> None:
    """Copy a file from a path or an object store. Raises Refused where there is none, or none that may be read."""
    if not source.startswith("s3://"):
        if not Path(source).is_file():
            raise Refused(f"source {source!r}: no such file; {ACCEPTED}")
        shutil.copyfile(source, target)
        return
    import boto3  # noqa: PLC0415
    from botocore.exceptions import ClientError  # noqa: PLC0415

    bucket, _, key = source.removeprefix("s3://").partition("/")
    if not (bucket and key):
        raise Refused(f"source {source!r}; {ACCEPTED}")
    try:
        boto3.client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL")).download_file(bucket, key, target)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in {403, 404}:
            raise Refused(f"source {source!r}: {error}; {ACCEPTED}") from error
        raise


if __name__ == "__main__":
    main()
