"""What `kiban cluster status` says of an embedded cluster: each process, the addresses, the simulated nodes."""

import contextlib
import dataclasses as dc
import time
from pathlib import Path
from typing import Any, Literal

import psutil

from infra.clusters.embedded import controlplane, karpenter, node, parts, processes, realnode, record, simulation
from infra.clusters.embedded.api import Api, Unanswered
from infra.clusters.embedded.layout import layout
from infra.clusters.embedded.network import Namespace
from infra.clusters.embedded.processes import Owner
from infra.clusters.embedded.record import Record, folder
from infra.errors import BadInput

State = Literal["running", "dead", "never started"]
_TAIL = 5
_UNKNOWN: tuple[int | None, int | None] = (None, None)


@dc.dataclass(frozen=True, kw_only=True)
class ProcessStatus:
    """One process. `memory` is resident, in MiB; `uptime` in seconds; `tail` the end of a dead one's log."""

    name: str
    state: State
    pid: int | None = None
    memory: int | None = None
    uptime: int | None = None
    log: Path
    tail: tuple[str, ...] = ()


@dc.dataclass(frozen=True, kw_only=True)
class Status:
    """A cluster.

    nodes, nodes_ready: counts of the simulated nodes of the data; None while the API server is not ready.
    provisioned, provisioned_ready: of those that Karpenter has made; None also where it does not run.
    real_node: whether the real node is Ready; None where there is none, or while the API server is not ready.
    """

    name: str
    ready: bool
    server: str
    namespace: str | None
    kubeconfig: Path
    uid: str | None
    processes: tuple[ProcessStatus, ...]
    real: bool
    nodes: int | None = None
    nodes_ready: int | None = None
    provisioned: int | None = None
    provisioned_ready: int | None = None
    real_node: bool | None = None

    @property
    def memory(self) -> int:
        """What all processes have resident, in MiB."""
        return sum(process.memory or 0 for process in self.processes)

    def as_items(self) -> list[dict[str, Any]]:
        """An item for the cluster, one for its nodes, one a process."""
        whole = {
            "cluster": self.name,
            "ready": self.ready,
            "server": self.server,
            "namespace": self.namespace,
            "kubeconfig": str(self.kubeconfig),
            "uid": self.uid,
            "memory_mib": self.memory,
            "evidence": "executed",
        }
        nodes = {"nodes": self.nodes, "ready": self.nodes_ready, "evidence": "simulated"}
        made = (
            [{"provisioned": self.provisioned, "ready": self.provisioned_ready, "evidence": "simulated"}]
            if any(process.name == karpenter.NAME for process in self.processes)
            else []
        )
        real = [{"node": node.NAME, "is_ready": self.real_node, "evidence": "executed"}] if self.real else []
        return [whole, nodes, *made, *real, *map(_item, self.processes)]


def status(name: str) -> Status:
    """What runs of the cluster and what does not; nothing is changed. Raises BadInput for a cluster that is not."""
    where = folder(name)
    known = record.load(where)
    if known is None:
        raise BadInput(f"cluster {name!r}; accepted: {', '.join(record.names()) or 'none exists yet'}")
    running = processes.running(Owner(folder=where, id=known.id))
    seen = tuple(_process(where, known, one, running.get(one)) for one in parts.names(known))
    at = layout(where, known)
    counts = made = _UNKNOWN
    real_node = None
    ready = False
    if running.keys() >= set(controlplane.STORE):
        api = Api(at.server, pki=where / "pki")
        if api.ready():
            ready = all(process.state == "running" for process in seen)
            with contextlib.suppress(Unanswered):
                counts = simulation.readiness(api)
                made = simulation.provisioned(api) if known.instance_types else _UNKNOWN
                real_node = realnode.ready(api) if known.real else None
    return Status(
        name=name,
        ready=ready,
        server=at.server,
        namespace=str(known.network.path) if isinstance(known.network, Namespace) else None,
        kubeconfig=where / "kubeconfig",
        uid=known.uid,
        processes=seen,
        real=known.real,
        nodes=counts[0],
        nodes_ready=counts[1],
        provisioned=made[0],
        provisioned_ready=made[1],
        real_node=real_node,
    )


def _process(where: Path, known: Record, name: str, process: psutil.Process | None) -> ProcessStatus:
    log = processes.log(where, name)
    if process is not None:
        with contextlib.suppress(psutil.NoSuchProcess), process.oneshot():
            return ProcessStatus(
                name=name,
                state="running",
                pid=process.pid,
                memory=process.memory_info().rss >> 20,
                uptime=int(time.time() - process.create_time()),
                log=log,
            )
    if name not in known.started:
        return ProcessStatus(name=name, state="never started", log=log)
    return ProcessStatus(
        name=name, state="dead", pid=known.started[name].pid, log=log, tail=tuple(processes.tail(log, _TAIL))
    )


def _item(process: ProcessStatus) -> dict[str, Any]:
    return {
        "process": process.name,
        "state": process.state,
        "pid": process.pid,
        "memory_mib": process.memory,
        "uptime_s": process.uptime,
        "log": str(process.log),
        "tail": list(process.tail),
        "evidence": "executed",
    }
