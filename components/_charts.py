"""Controllers that upstream publishes as a chart, each in a closed namespace of its own.

Where a chart comes from is the caller's to say (infra/charts.py); its values come from the component that needs it.
"""

import dataclasses as dc
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components._labels import restricted
from components._network import api_server, closed_namespace


@dc.dataclass(frozen=True, kw_only=True)
class UpstreamChart:
    """A chart at its pinned version.

    name: upstream's, also the release's.
    location: what helm takes: an address (oci://, https://) or a folder. The objects must not depend on it.
    """

    name: str
    version: str
    location: str


def controller(
    name: str,
    chart: UpstreamChart,
    *,
    namespace: str,
    called_on: Sequence[int],
    values: Mapping[str, Any],
    tags: dict[str, str],
    parent: pulumi.Resource,
    after: Sequence[pulumi.Resource],
    skip_crds: bool = False,
    transforms: Sequence[pulumi.ResourceTransform] = (),
) -> k8s.helm.v4.Chart:
    """Declare the chart in a namespace that is made for it; who depends on the result waits until its pods are ready.

    name: of the resources. called_on: ports of its pods that the API server calls. after: what its pods need.
    skip_crds: leave out what the chart has in `crds`. transforms: of its objects, for what no value of it can say.
    The chart's hooks are not run (Pulumi renders only).
    """
    space = k8s.core.v1.Namespace(
        f"{name}-system",
        metadata={"name": namespace, "labels": tags | restricted()},
        opts=pulumi.ResourceOptions(parent=parent),
    )
    policies = closed_namespace(f"{name}-system", space, tags, parent, api_server(*called_on))
    return k8s.helm.v4.Chart(
        name,
        name=chart.name,
        chart=chart.location,
        version=chart.version,
        namespace=space.metadata["name"],
        values=dict(values),
        skip_crds=skip_crds or None,
        opts=pulumi.ResourceOptions(parent=parent, depends_on=[*policies, *after], transforms=list(transforms)),
    )
