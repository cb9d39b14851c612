"""JobSet's controller: several Jobs that start, fail and are started again as one, and find each other by name.

How Kueue queues them is components/gpu_node_pools.py.
"""

from collections.abc import Mapping
from typing import Any

import pulumi

from components._charts import UpstreamChart, controller
from components._crds import definitions, without_descriptions
from components.foundation import Foundation


def declare(
    name: str,
    chart: UpstreamChart,
    crds: Mapping[str, Mapping[str, Any]],
    *,
    foundation: Foundation,
    tags: dict[str, str],
    parent: pulumi.Resource,
) -> list[pulumi.Resource]:
    """Declare the kinds and their controller; return the kinds, which are all that others need of it at their start."""
    lean = {kind: without_descriptions(manifest) for kind, manifest in crds.items()}
    kinds = definitions(f"{name}-crd", lean, tags, parent=parent)
    priority = foundation.highest

    def fit(args: pulumi.ResourceTransformArgs) -> pulumi.ResourceTransformResult:
        return pulumi.ResourceTransformResult(props=fitted(args.type_, args.props, priority=priority), opts=args.opts)

    controller(
        name,
        chart,
        namespace="jobset-system",
        called_on=[9443],
        values=values(version=chart.version),
        tags=tags,
        parent=parent,
        after=[foundation.priorities[priority], *kinds],
        skip_crds=True,
        transforms=[fit],
    )
    return kinds


def values(*, version: str) -> dict[str, Any]:
    """Values of JobSet's chart (0.12). It signs its webhooks' certificate itself, as Kueue does.

    Its webhooks are for JobSets and their pods alone, so that its being down stops nothing else.
    """
    return {
        # the chart in the module names a staging registry
        "image": {"repository": "registry.k8s.io/jobset/jobset", "tag": f"v{version}", "pullPolicy": "IfNotPresent"},
        "controller": {
            "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
        },
    }


def fitted(type_: str, props: Mapping[str, Any], *, priority: str) -> Mapping[str, Any]:
    """One of the chart's objects, with what the chart (0.12) has no values for.

    The Deployment goes before everything else, and is seen to be ready when it is. The Secret comes without keys: the
    chart's are empty, and applied again they would take the place of the certificate that the controller writes there.
    """
    if type_ == "kubernetes:core/v1:Secret":
        return {key: value for key, value in props.items() if key != "data"}
    if type_ != "kubernetes:apps/v1:Deployment":
        return props
    spec = props["spec"]
    pod = spec["template"]["spec"]
    containers = [
        each | {"readinessProbe": each["readinessProbe"] | {"initialDelaySeconds": 1, "periodSeconds": 2}}
        for each in pod["containers"]
    ]
    template = spec["template"] | {"spec": pod | {"priorityClassName": priority, "containers": containers}}
    return {**props, "spec": spec | {"template": template}}
