"""Kinds that the platform brings: declared here, since a chart's go with it and take all objects along."""

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_kubernetes as k8s


def definitions(
    name: str, crds: Mapping[str, Mapping[str, Any]], tags: dict[str, str], parent: pulumi.Resource
) -> list[pulumi.Resource]:
    """Declare each CustomResourceDefinition; who depends on the result waits until the API server serves it.

    crds: a definition's name to its manifest. It is upgraded in place, and left in the cluster with all objects of the
    kind when it leaves the program and when the environment is destroyed.
    """
    return [
        k8s.apiextensions.v1.CustomResourceDefinition(
            f"{name}-{crd}",
            metadata={
                "name": crd,
                "labels": {**manifest["metadata"].get("labels", {}), **tags},
                "annotations": manifest["metadata"].get("annotations", {}),
            },
            spec=manifest["spec"],
            opts=pulumi.ResourceOptions(parent=parent, retain_on_delete=True),
        )
        for crd, manifest in crds.items()
    ]


def without_descriptions(schema: Any) -> Any:  # noqa: ANN401 - any part of a manifest
    """A kind's manifest without the prose in its schemas: two thirds of two megabytes, that every state would have."""
    if isinstance(schema, Mapping):
        prose = {key for key, value in schema.items() if key == "description" and isinstance(value, str)}
        return {key: without_descriptions(value) for key, value in schema.items() if key not in prose}
    if isinstance(schema, list):
        return [without_descriptions(each) for each in schema]
    return schema
