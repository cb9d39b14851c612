"""The cluster that keeps Cluster API's objects while it makes another.

It is embedded for the simulated provider, and on Docker for those that have a cloud to reach: an embedded cluster's
network has no way outside. Which providers it then has is providers.py's matter.
"""

from collections.abc import Callable

from infra.clusters import Cluster, embedded, kind
from infra.clusters.nodes import Nodes
from infra.errors import BadInput
from infra.provision import providers
from stacks._schema import ProvisionedCluster, SystemNodes

Say = Callable[[str], None]


def name(environment: str) -> str:
    """What the management cluster of an environment is called."""
    return f"{environment}-management"


def exists(environment: str) -> bool:
    """Whether there is one, running or not."""
    return name(environment) in (*embedded.names(), *kind.names())


def check(environment: str, made: ProvisionedCluster, *, on_kind: bool) -> None:
    """Raise BadInput where the provider cannot run on such a cluster."""
    simulated = made.infrastructure == providers.SIMULATED
    if simulated and on_kind:
        raise BadInput(
            f"{environment}: --kind with infrastructure={made.infrastructure!r}; accepted: without --kind, since that "
            "provider runs beside an embedded cluster only; nothing was changed"
        )
    if not simulated and not on_kind and name(environment) not in kind.names():
        raise BadInput(
            f"{environment}: infrastructure={made.infrastructure!r} without --kind; accepted: with --kind, since that "
            "provider's controllers have to reach the cloud, and from an embedded cluster's network nothing leads "
            "outside; nothing was changed"
        )


def up(environment: str, made: ProvisionedCluster, *, say: Say) -> Cluster:
    """Start it, or what is missing of it, with the providers that the cluster asks for."""
    here = name(environment)
    if made.infrastructure == providers.SIMULATED:
        return embedded.up(here, Nodes(system=SystemNodes(count=0)), say=say, cluster_api=True)
    cluster = kind.up(here, Nodes(), say=say)
    providers.install(made, cluster, say=say)
    return cluster


def down(environment: str, *, say: Say) -> None:
    """End it, with all that it had."""
    here = name(environment)
    (kind if here in kind.names() else embedded).down(here, say=say)
