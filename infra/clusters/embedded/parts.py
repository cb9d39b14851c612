"""All processes of an embedded cluster: the control plane's, and the real node's where it has one."""

from infra.clusters.embedded import controlplane, node
from infra.clusters.embedded.layout import Layout
from infra.clusters.embedded.processes import Process
from infra.clusters.embedded.record import Record

ALL = (*controlplane.NAMES, *node.NAMES)


def names(known: Record) -> tuple[str, ...]:
    """What runs of the cluster, in the order of starting."""
    return ALL if known.real else controlplane.NAMES


def processes(at: Layout, known: Record) -> dict[str, Process]:
    """Name to process, in the order of starting."""
    return controlplane.processes(at) | (node.processes(at) if known.real else {})
