"""The objects by which nodes are made, for the pools whose source has any."""

from collections.abc import Iterable
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components import _cluster_api, _karpenter
from components._sources import ClusterApi, Karpenter, Machines

Manifest = dict[str, Any]


def manifests(machines: Machines) -> list[Manifest]:
    """What is in the cluster for a pool's nodes to be made; nothing where Kiban makes none."""
    match machines.source:
        case Karpenter() as source:
            return _karpenter.manifests(machines, source)
        case ClusterApi() as source:
            return _cluster_api.manifests(machines, source)
        case _:
            return []


def provision(name: str, pools: Iterable[Machines], tags: dict[str, str], parent: pulumi.Resource) -> None:
    """Declare the pools' objects. Their kinds are there: infra/preflight.py has looked."""
    for made in (manifest for machines in pools for manifest in manifests(machines)):
        metadata = made["metadata"]
        k8s.apiextensions.CustomResource(
            f"{name}-{made['kind'].lower()}-{metadata['name']}",
            api_version=made["apiVersion"],
            kind=made["kind"],
            metadata=metadata | {"labels": tags | metadata.get("labels", {})},
            spec=made["spec"],
            opts=pulumi.ResourceOptions(parent=parent),
        )
