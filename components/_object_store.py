"""The object store: where it is, who its accounts are, and the specs of what runs for it in the cluster.

One bucket a team, and `backups`. A team has two accounts for its bucket, so that a new key can be handed out while
running pods keep theirs. versitygw reads its accounts from a file at each request, here of a mounted Secret.
"""

import dataclasses as dc
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from components._pods import container, from_secret, plain, pod

IMAGE = "ghcr.io/versity/versitygw:v1.0.14"
CLIENT_IMAGE = "ghcr.io/mlflow/mlflow:v3.17.2-full"
REGION = "us-east-1"
BACKUPS = "backups"
BACKUP_ACCOUNT = "backup"
ROOT_ACCOUNT = "root"
SLOTS = ("a", "b")
EXPIRING = ("runs/", "v2/artifacts/", "requests/", "labels/", "monitoring/")
"""What expires: artifacts of Argo's runs and of Kubeflow Pipelines', logged requests with their labels, drift reports.

MLflow's stay, since its models lead to them, and so do training references and proposals.
"""
USER = 65532


@dc.dataclass(frozen=True, kw_only=True)
class ExternalObjectStore:
    """An S3 that somebody else runs.

    endpoint: https://HOST[:PORT].
    prefix: of the buckets' names; bucket PREFIX + TEAM exists for each team, and PREFIX + `backups`.
    Credentials are given, `ACCESS_KEY:SECRET_KEY` each: `object-store-TEAM-a` and `-b`, `object-store-backup`.
    """

    endpoint: str
    region: str
    prefix: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"https://[a-z0-9.-]+(:\d+)?", self.endpoint):
            raise ValueError(f"endpoint={self.endpoint!r}; accepted: https://HOST[:PORT]")
        if not re.fullmatch(r"[a-z0-9-]+", self.region):
            raise ValueError(f"region={self.region!r}; accepted: the name of a region, such as eu-central-1")
        if not re.fullmatch(r"([a-z0-9][a-z0-9-]{0,19})?", self.prefix):
            raise ValueError(
                f"prefix={self.prefix!r}; accepted: up to 20 lower-case letters, digits and '-', or nothing"
            )


@dc.dataclass(frozen=True, kw_only=True)
class Store:
    """How a client reaches the object store.

    endpoint: its address. buckets: team to bucket. backups: the bucket of backups; the Secret `object-store-backup` of
    the metadata namespace has AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the account that writes there.
    """

    endpoint: str
    region: str
    buckets: Mapping[str, str]
    backups: str

    @property
    def port(self) -> int:
        """The port of its endpoint."""
        scheme, _, rest = self.endpoint.partition("://")
        _, _, port = rest.partition(":")
        return int(port or (443 if scheme == "https" else 80))


def account(team: str, slot: str) -> str:
    """One of a team's two accounts in the cluster's own store, also its access key."""
    return f"{team}-{slot}"


def accounts(secrets: Mapping[str, str]) -> str:
    """users.json of versitygw. secrets: account to secret key."""
    users = {
        name: {"access": name, "secret": secret, "role": "user", "userID": 0, "groupID": 0}
        for name, secret in sorted(secrets.items())
    }
    return json.dumps({"accessAccounts": users})


def buckets(store: Store) -> str:
    """What buckets.py and expire.py read."""
    of_teams = {
        bucket: {"team": team, "write": [*(account(team, slot) for slot in SLOTS), BACKUP_ACCOUNT]}
        for team, bucket in store.buckets.items()
    }
    return json.dumps(of_teams | {store.backups: {"team": None, "write": [BACKUP_ACCOUNT]}})


def experiments(store: Store) -> str:
    """What accounts.py reads: team to where its experiment keeps artifacts."""
    return json.dumps({team: f"s3://{bucket}/mlflow" for team, bucket in store.buckets.items()})


def object_store(*, priority: str) -> dict[str, Any]:
    """Spec of the store's pod. Files have their metadata in extended attributes, which their file system must have."""
    alive = {"httpGet": {"path": "/healthz", "port": 9000}}
    return pod(
        [
            container(
                "object-store",
                IMAGE,
                ["/app/versitygw", "--port=:9000", f"--region={REGION}", "--health=/healthz", "--quiet"],
                args=["--iam-dir=/accounts", "--iam-cache-disable", "posix", "/data"],
                mounts={"/data": "data", "/accounts:ro": "accounts"},
                env=[
                    *plain(ROOT_ACCESS_KEY=ROOT_ACCOUNT),
                    from_secret("ROOT_SECRET_KEY", "object-store", "password"),
                ],
                cpu="100m",
                memory="64Mi",
                most="512Mi",
                ports=[{"name": "object-store", "containerPort": 9000}],
                startupProbe=alive | {"periodSeconds": 1, "failureThreshold": 60},
                readinessProbe=alive | {"periodSeconds": 5},
                livenessProbe=alive | {"periodSeconds": 20, "failureThreshold": 6},
            )
        ],
        account="object-store",
        user=USER,
        priority=priority,
        volumes={
            "data": {"persistentVolumeClaim": {"claimName": "object-store"}},
            "accounts": {"secret": {"secretName": "object-store-accounts"}},
        },
    )


def script(
    name: str,
    *,
    priority: str,
    env: Sequence[dict[str, Any]],
    secrets: Mapping[str, str],
    certificates: bool = False,
) -> dict[str, Any]:
    """Spec of a pod that runs one script once. secrets: folder to the Secret that is mounted there."""
    files = ("scripts", "buckets", *(("certificates",) if certificates else ()))
    volumes: dict[str, Any] = {name: {"configMap": {"name": f"metadata-{name}"}} for name in files}
    volumes |= {name: {"secret": {"secretName": secret}} for name, secret in secrets.items()}
    return pod(
        [
            container(
                name,
                CLIENT_IMAGE,
                ["python3", f"/scripts/{name}.py"],
                mounts={f"/{volume}:ro": volume for volume in volumes},
                env=[*plain(HOME="/tmp", MLFLOW_DISABLE_TELEMETRY="true"), *env],  # noqa: S108 - in the container
                cpu="50m",
                memory="256Mi",
                most="1Gi",
            )
        ],
        account="jobs",
        user=USER,
        priority=priority,
        volumes=volumes,
        restartPolicy="Never",
    )
