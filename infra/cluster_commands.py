"""`kiban cluster`: words, options and results. What is done is in infra/stage.py and infra/clusters."""

import click

from infra.console import say
from infra.report import Report
from infra.verbs import verb

VERBS = click.Group()
"""What the command line takes over from here."""


@VERBS.group()
def cluster() -> None:
    """Start, see and end embedded clusters."""


CLUSTER = click.argument("name", metavar="NAME")


@verb(cluster, "up", "cluster server context uid", schema="cluster-up")
@CLUSTER
@click.option("--env", "environment", metavar="ENV", help="Give it the nodes of this environment's pools.")
@click.option("--kind", is_flag=True, help="On Docker, by kind; nodes are containers.")
def cluster_up(name: str, environment: str | None, *, kind: bool) -> Report:
    """Start a cluster, or what is missing of it; one that runs is left as it is."""
    from infra import stage

    made = stage.cluster_up(name, environment, on_kind=kind, say=say)
    return Report(
        items=[{"cluster": made.name, "context": made.context, "uid": made.uid, "kubeconfig": made.kubeconfig}]
    )


@verb(cluster, "down", schema="cluster-down")
@CLUSTER
def cluster_down(name: str) -> Report:
    """End a cluster and remove all that it had: processes, interfaces, data, and the stacks that lived on it."""
    from infra import stage

    stage.cluster_down(name, say=say)
    return Report(items=[])


@verb(
    cluster,
    "status",
    "cluster ready server namespace memory_mib evidence |",
    "nodes ready evidence |",
    "provisioned ready evidence |",
    "node is_ready evidence |",
    "process state pid memory_mib uptime_s tail",
    schema="cluster-status",
)
@CLUSTER
def cluster_status(name: str) -> Report:
    """Say what runs of a cluster; status 1 where something does not, with the end of its log."""
    from infra.clusters import embedded

    found = embedded.status(name)
    return Report(items=found.as_items(), exit_status=0 if found.ready else 1)


@verb(cluster, "list", "cluster kind", schema="cluster-list")
def cluster_list() -> Report:
    """List the clusters of this checkout."""
    from infra import stage

    return Report(items=stage.cluster_items())


@verb(cluster, "logs", schema="cluster-logs")
@CLUSTER
@click.argument("process")
@click.option("--follow", "-f", is_flag=True, help="Go on with what is written from now on.")
@click.option("--lines", "-n", default=100, show_default=True, help="How many of the last lines.")
def cluster_logs(name: str, process: str, *, follow: bool, lines: int) -> Report | None:
    """Print what a cluster's process wrote."""
    from infra.clusters import embedded

    written = embedded.logs(name, process, follow=follow, lines=lines)
    if follow:
        for line in written:
            click.echo(line)
        return None
    kept = list(written)
    return Report(items=[{"line": line} for line in kept], text="\n".join(kept))


@verb(cluster, "images", "image how", schema="cluster-images")
@CLUSTER
def cluster_images(name: str) -> Report:
    """List the images that a cluster's real node has: pulled, built from source, or absent though a pod names it."""
    from infra.clusters import embedded

    return Report(items=[{"image": image, "how": how} for image, how in embedded.images(name).items()])


@verb(cluster, "kubeconfig", schema="cluster-kubeconfig")
@CLUSTER
def cluster_kubeconfig(name: str) -> Report:
    """Print the path of a cluster's kubeconfig."""
    from infra import stage

    path = str(stage.cluster(name).kubeconfig)
    return Report(items=[{"cluster": name, "kubeconfig": path}], text=path)
