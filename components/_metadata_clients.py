"""What a team's pods need in its own namespace to reach the metadata store."""

import operator
from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components._metadata import MLFLOW_URI, store_at
from components._metadata_credentials import MetadataCredentials
from components._metadata_ways import reach


def declare(
    name: str,
    team: str,
    credentials: MetadataCredentials,
    *,
    namespace: pulumi.Input[str],
    tags: Mapping[str, str],
    parent: pulumi.Resource,
) -> None:
    """Declare what the team's pods read, under upstream's names where they have some, and let them out to it."""
    keys, store = credentials.keys(team), store_at(credentials.args)
    opts = pulumi.ResourceOptions(parent=parent)

    def named(name: str) -> dict[str, Any]:
        return {"name": name, "namespace": namespace, "labels": tags}

    k8s.core.v1.Secret(
        f"{name}-{team}-object-store",
        metadata=named("mlpipeline-minio-artifact"),
        string_data={
            "accesskey": keys.apply(operator.itemgetter(0)),
            "secretkey": keys.apply(operator.itemgetter(1)),
        },
        opts=opts,
    )
    k8s.core.v1.Secret(
        f"{name}-{team}-mlflow",
        metadata=named("mlflow"),
        string_data={
            "MLFLOW_TRACKING_USERNAME": team,
            "MLFLOW_TRACKING_PASSWORD": credentials.given[f"mlflow-{team}"],
        },
        opts=opts,
    )
    k8s.core.v1.ConfigMap(
        f"{name}-{team}",
        metadata=named("metadata-store"),
        data={
            "MLFLOW_TRACKING_URI": MLFLOW_URI,
            "MLFLOW_EXPERIMENT_NAME": team,
            "MLFLOW_S3_ENDPOINT_URL": store.endpoint,
            "AWS_DEFAULT_REGION": store.region,
            "AWS_RETRY_MODE": "standard",
            "AWS_MAX_ATTEMPTS": "8",  # a minute: a new pod is refused until its NetworkPolicies are in force
            "BUCKET": store.buckets[team],
        },
        opts=opts,
    )
    k8s.networking.v1.NetworkPolicy(
        f"{name}-{team}", metadata=named("allow-metadata-store"), spec=reach(credentials.args, mysql=False), opts=opts
    )
