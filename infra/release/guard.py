"""What keeps an environment of the ladder to its releases, also under the plain `pulumi` command."""

from pathlib import Path

import stacks
from infra import paths
from infra.clusters import Cluster
from infra.errors import BadInput
from infra.kubectl import Kubectl
from infra.release import ladder, marker
from infra.release.contents import applied_in
from infra.versions import LADDER
from stacks._schema import EmbeddedCluster, Environment


def refuse_unpromoted(environment: Environment, cluster: Cluster, root: Path = paths.ROOT) -> None:
    """Raise BadInput where an environment takes releases only, and the tree at the root is not the one in force.

    A cluster that Kiban makes takes what it is given until a release was promoted to it: it stands in for another.
    """
    name = environment.name
    found = marker.read(Kubectl(cluster.kubeconfig, cluster.context))
    if found is None:
        own = not isinstance(environment.cluster, EmbeddedCluster)
        if own and ladder.load(root / LADDER, stacks.names()).rung(name):
            raise BadInput(
                f"{name}: it takes releases only ({LADDER}), and none was promoted to it yet; accepted: "
                f"`kiban promote RELEASE {name}`; nothing was changed"
            )
        return
    if applied_in(root, name) != found.applied:
        raise BadInput(
            f"{name}: release {found.release} is in force, and this checkout is another; accepted: a checkout of its "
            f"commit, or `kiban promote RELEASE {name}`; nothing was changed"
        )
