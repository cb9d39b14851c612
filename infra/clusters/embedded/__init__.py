"""Embedded clusters: upstream's control plane as host processes, with simulated nodes and, where it can be, a real one.

Several at a time, by name. Each verb converges: it looks at what is there and does the rest, so a run that was killed
is finished by the next. Which flags the processes get is in controlplane.py and node.py, how they are kept in
processes.py, how simulated pods live in stages.yaml, and which pods are real in placement.py.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from infra import system
from infra.clusters import Cluster, kubeconfig
from infra.clusters.embedded import clusterapi, controlplane, karpenter, network, parts, processes, realnode, record
from infra.clusters.embedded.api import Api
from infra.clusters.embedded.bringup import BringUp
from infra.clusters.embedded.layout import layout
from infra.clusters.embedded.processes import Owner
from infra.clusters.embedded.record import folder, names
from infra.clusters.embedded.status import ProcessStatus, Status, status
from infra.errors import BadInput, CouldNotRun

if TYPE_CHECKING:
    from infra.clusters.nodes import Nodes

__all__ = [
    "Api",
    "ProcessStatus",
    "Status",
    "api",
    "down",
    "folder",
    "get",
    "images",
    "logs",
    "names",
    "runs_pods",
    "status",
    "tools",
    "up",
]

Say = Callable[[str], None]


def tools(
    name: str, nodes: "Nodes | None" = None, images: Sequence[str] = (), *, cluster_api: bool | None = None
) -> tuple[str, ...]:
    """The tools that `up` will ask for, in that order."""
    known = record.load(folder(name))
    real = realnode.tools(images) if runs_pods(name) else ()
    managing = known is not None and known.cluster_api if cluster_api is None else cluster_api
    provisioning = bool(known and known.instance_types) if nodes is None else bool(nodes.provisioned)
    return (
        *controlplane.NAMES,
        *real,
        *((clusterapi.CORE,) if managing else ()),
        *((karpenter.NAME,) if provisioning else ()),
    )


def runs_pods(name: str) -> bool:
    """Whether the cluster has a real node, or will have one when it is made."""
    known = record.load(folder(name))
    return known.real if known else network.isolated_by_default() and not system.no_real_node()


def up(
    name: str,
    nodes: "Nodes | None" = None,
    *,
    say: Say,
    tools: Mapping[str, Path] | None = None,
    images: Sequence[str] = (),
    isolated: bool | None = None,
    cluster_api: bool | None = None,
) -> Cluster:
    """Start what does not run of the cluster, wait until it is ready, and give it the nodes.

    nodes: None leaves those that are there; a cluster that has none then gets the default system nodes.
    tools: name to binary, each asked for as it is about to start; by default toolchain.resolve.
    images: references that its real node, if it has one, gets besides those that every one has.
    isolated: whether a new cluster gets a network namespace; by default as root on Linux where that is allowed.
    cluster_api: whether Cluster API's controllers run beside it; None leaves it as it is.
    Raises BadInput for a name that cannot be one, RunFailed naming the process that ended or is not ready.
    """
    where = folder(name)
    with record.locked(where, say):
        return BringUp(where, say=say, tools=tools, isolated=isolated).run(nodes, images, cluster_api=cluster_api)


def down(name: str, *, say: Say) -> None:
    """End the cluster's processes and remove all that `up` made, its data too. A cluster that is not is no error."""
    where = folder(name)
    if not where.exists() and not processes.everything(where):
        network.remove_namespace(where)
        say(f"cluster {name}: there is none; nothing to remove")
        return
    with record.locked(where, say):
        (where / "cluster.json").unlink(missing_ok=True)  # first: what an interrupted run leaves is no cluster
        everything = processes.everything(where)
        say(f"cluster {name}: ending {len(everything)} processes")
        realnode.end(where)
        processes.stop(process for process, name in everything.items() if name not in controlplane.STORE)
        for part in reversed(controlplane.STORE):  # the API server hangs for long where etcd ends first
            processes.stop(process for process, name in everything.items() if name == part)
        network.remove_namespace(where)
        shutil.rmtree(where)
    with contextlib.suppress(OSError):  # other clusters are there, or other state
        where.parent.rmdir()
        where.parent.parent.rmdir()


def get(name: str) -> Cluster:
    """The cluster, if it runs. Raises CouldNotRun where it does not; nothing is started."""
    where = folder(name)
    known = record.load(where)
    if known is None:
        there = ", ".join(names()) or "none"
        raise CouldNotRun(f"cluster {name!r} is not there (there is: {there}); run: kiban cluster up {name}")
    running = processes.running(Owner(folder=where, id=known.id))
    missing = [process for process in parts.names(known) if process not in running]
    at = layout(where, known)
    if missing or not Api(at.server, pki=where / "pki").ready():
        problem = f"{', '.join(missing)} not running" if missing else "its API server is not ready"
        raise CouldNotRun(f"cluster {name!r}: {problem}; run: kiban cluster up {name}")
    return Cluster(name=name, kubeconfig=where / "kubeconfig", context=kubeconfig.context_of(name), uid=known.uid or "")


def api(name: str) -> Api:
    """Requests to a running cluster's API server, as its admin."""
    where = folder(name)
    get(name)
    known = record.load(where)
    assert known is not None  # noqa: S101 - else it would not run
    return Api(layout(where, known).server, pki=where / "pki")


def images(name: str) -> dict[str, str]:
    """Image to how the real node came to have it (`built` or `pulled`), or `absent` where a pod asks in vain."""
    where = folder(name)
    get(name)
    known = record.load(where)
    if known is None or not known.real:
        raise BadInput(f"cluster {name!r} has simulated nodes only; accepted: one with a real node, which has images")
    at = layout(where, known)
    return realnode.found_images(at, Api(at.server, pki=where / "pki"))


def logs(name: str, process: str, *, follow: bool = False, lines: int = 100) -> Iterator[str]:
    """The last lines that a process wrote, and with `follow` what it writes from now on, until the cluster is gone."""
    where = folder(name)
    known = record.load(where)
    if known is None:
        raise BadInput(f"cluster {name!r}; accepted: {', '.join(names()) or 'none exists yet'}")
    if process not in parts.names(known):
        raise BadInput(f"process {process!r}; accepted: {', '.join(parts.names(known))}")
    return _lines(processes.log(where, process), follow=follow, lines=lines)


def _lines(path: Path, *, follow: bool, lines: int) -> Iterator[str]:
    """The end of a log and what is added to it, over restarts of its process."""
    yield from processes.tail(path, lines)
    while follow and path.exists():
        with path.open(errors="replace") as log:
            log.seek(0, os.SEEK_END)
            while _is_still(path, log):
                line = log.readline()
                if line:
                    yield line.rstrip("\n")
                else:
                    time.sleep(0.2)


def _is_still(path: Path, log: TextIO) -> bool:
    """Whether the open log is the one at the path, and not emptied meanwhile."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(log.fileno())) and log.tell() <= there.st_size
