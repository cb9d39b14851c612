"""What a team's pods need in its own namespace to reach the metadata store."""

import operator
from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components._metadata import MetadataStoreArgs, store_at
from components._metadata_credentials import MetadataCredentials
from components._metadata_ways import reach
from components.tenancy import Team


def declare(
    name: str,
    team: Team,
    args: MetadataStoreArgs,
    credentials: MetadataCredentials,
    *,
    namespace: pulumi.Input[str],
    mlflow_uri: str,
    tags: Mapping[str, str],
    parent: pulumi.Resource,
) -> None:
    """Declare what the team's pods read, under upstream's names where they have some, and let them out to it."""
    keys, store = credentials.keys(team.name), store_at(args)
    opts = pulumi.ResourceOptions(parent=parent)

    def named(name: str) -> dict[str, Any]:
        return {"name": name, "namespace": namespace, "labels": tags}

    k8s.core.v1.Secret(
        f"{name}-{team.name}-object-store",
        metadata=named("mlpipeline-minio-artifact"),
        string_data={
            "accesskey": keys.apply(operator.itemgetter(0)),
            "secretkey": keys.apply(operator.itemgetter(1)),
        },
        opts=opts,
    )
    k8s.core.v1.Secret(
        f"{name}-{team.name}-mlflow",
        metadata=named("mlflow"),
        string_data={
            "MLFLOW_TRACKING_USERNAME": team.name,
            "MLFLOW_TRACKING_PASSWORD": credentials.given[f"mlflow-{team.name}"],
        },
        opts=opts,
    )
    k8s.core.v1.ConfigMap(
        f"{name}-{team.name}",
        metadata=named("metadata-store"),
        data={
            "MLFLOW_TRACKING_URI": mlflow_uri,
            "MLFLOW_EXPERIMENT_NAME": team.name,
            "MLFLOW_S3_ENDPOINT_URL": store.endpoint,
            "AWS_DEFAULT_REGION": store.region,
            "AWS_RETRY_MODE": "standard",
            "AWS_MAX_ATTEMPTS": "8",  # a minute: a new pod is refused until its NetworkPolicies are in force
            "BUCKET": store.buckets[team.name],
        },
        opts=opts,
    )
    k8s.networking.v1.NetworkPolicy(
        f"{name}-{team.name}", metadata=named("allow-metadata-store"), spec=reach(args, mysql=False), opts=opts
    )
