"""Clusters by name, whatever made them, and an environment's own brought up with the nodes of its pools.

What then runs on a cluster is infra/engine's matter.
"""

from collections.abc import Callable
from typing import Any

from infra import charts, images, target, toolchain
from infra.clusters import Cluster, embedded, kind
from infra.clusters.nodes import Nodes
from infra.target import Target
from stacks._schema import EmbeddedCluster

Say = Callable[[str], None]
_ENGINE = ("pulumi", "kubectl", "pulumi-resource-kubernetes")


def open_for(name: str, on: str | None, *, on_kind: bool, say: Say) -> Target:
    """Bring up an environment's cluster, if it is one that Kiban makes, and return where to apply it.

    on_kind: on a kind cluster, of the environment's name where `on` gives none.
    """
    on = target.meant(name, on) or (name if on_kind else None)
    environment = target.environment(name, on)
    if isinstance(environment.cluster, EmbeddedCluster):
        cluster = environment.cluster.name
        cluster_up(cluster, name, on_kind=on_kind, say=say)
        if not target.runs_pods(cluster):
            say(f"{name}: without controllers, metadata and pipelines, since no pod runs on cluster {cluster}")
    return target.resolve(name, on)


def cluster_up(name: str, environment: str | None, *, on_kind: bool, say: Say) -> Cluster:
    """Start a cluster, or what is missing of it, with the nodes of an environment's pools where one is named."""
    wanted = None
    had: tuple[str, ...] = ()
    if environment:
        moved = target.environment(environment, name)
        target.refuse_second(moved, embedded.folder(name) / "stack")
        wanted = Nodes(system=moved.system_nodes, gpu_pools=moved.gpu_pools)
        if not on_kind and embedded.runs_pods(name):
            had = _obtainable(charts.images(moved), name, say)
    if on_kind or name in kind.names():
        return kind.up(name, wanted or Nodes(), say=say)
    # In the order in which they are needed: the cluster starts while the engine is still being built.
    with toolchain.start(*embedded.tools(name, wanted, had), *_ENGINE, say=say) as tools:
        return embedded.up(name, wanted, tools=tools, images=had, say=say)


def _obtainable(named: tuple[str, ...], cluster: str, say: Say) -> tuple[str, ...]:
    """Those of the images that can be pulled or built; pods of the others are simulated."""
    had = tuple(reference for reference in named if images.obtainable(reference))
    if len(had) < len(named):
        say(
            f"{cluster}: {len(named) - len(had)} of {len(named)} images can neither be pulled nor built: their pods "
            f"are simulated (`kiban cluster images {cluster}` lists them as absent)"
        )
    return had


def cluster(name: str) -> Cluster:
    """The cluster of that name, if it runs."""
    return kind.get(name) if name in kind.names() else embedded.get(name)


def cluster_down(name: str, *, say: Say) -> None:
    """End the cluster and remove all that it had."""
    made = kind if name in kind.names() else embedded
    made.down(name, say=say)


def cluster_items() -> list[dict[str, Any]]:
    """An item a cluster of this checkout."""
    return [
        {"cluster": name, "kind": word}
        for word, made in (("embedded", embedded), ("kind", kind))
        for name in made.names()
    ]
