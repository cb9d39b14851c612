"""All processes of an embedded cluster: the control plane's, the real node's, and those that make its machines."""

from infra.clusters.embedded import clusterapi, controlplane, karpenter, node
from infra.clusters.embedded.layout import Layout
from infra.clusters.embedded.processes import Process
from infra.clusters.embedded.record import Record


def names(known: Record) -> tuple[str, ...]:
    """What runs of the cluster, in the order of starting."""
    return (
        *controlplane.NAMES,
        *(node.NAMES if known.real else ()),
        *(clusterapi.NAMES if known.cluster_api else ()),
        *((karpenter.NAME,) if known.instance_types else ()),
    )


def processes(at: Layout, known: Record) -> dict[str, Process]:
    """Name to process, in the order of starting."""
    own = node.processes(at) if known.real else {}
    own |= clusterapi.processes(at) if known.cluster_api else {}
    own |= {karpenter.NAME: karpenter.process(at, known.instance_types)} if known.instance_types else {}
    return controlplane.processes(at, pods=known.real) | own
