"""Bringing an embedded cluster up: from whatever is there to a ready control plane with its nodes.

The caller holds the cluster's lock. Every step may be the last one of a run that is killed: the record is written
before what it names is made, and what runs is read from the processes themselves.
"""

import dataclasses as dc
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from infra import system, toolchain
from infra.clusters import Cluster, files, kubeconfig
from infra.clusters.embedded import (
    addons,
    clusterapi,
    controlplane,
    karpenter,
    network,
    node,
    parts,
    pki,
    placement,
    processes,
    realnode,
    record,
    simulation,
)
from infra.clusters.embedded.api import Api, Object, Unanswered
from infra.clusters.embedded.layout import Layout, layout
from infra.clusters.embedded.network import Loopback
from infra.clusters.embedded.processes import Owner, Process
from infra.clusters.embedded.realnode import RealNode
from infra.clusters.embedded.record import Record, Started
from infra.clusters.waiting import until
from infra.errors import CouldNotRun, RunFailed

if TYPE_CHECKING:
    from infra.clusters.nodes import Nodes

Say = Callable[[str], None]
_READY_WITHIN = 180.0  # seconds; takes 3 on an idle machine, and a process that ends is noticed at once
_LISTENERS = {
    "etcd": "etcd",
    "etcd-peer": "etcd",
    "kube-apiserver": "kube-apiserver",
    "cluster-api": "cluster-api",
}


class _OnDemand(dict[str, Path]):
    """Tools by name, each found, fetched or built when it is asked for."""

    def __missing__(self, name: str) -> Path:
        self.update(toolchain.resolve(name))
        return self[name]


class BringUp:
    """One run of `up` on the cluster in a folder; `tools` maps a name to a binary."""

    def __init__(self, where: Path, *, say: Say, tools: Mapping[str, Path] | None, isolated: bool | None) -> None:
        self._where = where
        self._say: Say = lambda line: say(f"cluster {where.name}: {line}")
        self._tools = _OnDemand() if tools is None else tools
        self._launched: dict[str, processes.Handle] = {}
        self._api_seconds: float | None = None
        self._known = record.load(where) or self._create(isolated)
        self._owner = Owner(folder=where, id=self._known.id)

    def run(self, nodes: "Nodes | None", images: Sequence[str], *, cluster_api: bool | None) -> Cluster:
        """Do what is missing."""
        began = time.monotonic()
        self._let_end()
        if cluster_api is not None:
            self._write(cluster_api=cluster_api)
        self._ensure_network()
        if nodes is not None:
            self._choose_instance_types(nodes)
        at = layout(self._where, self._known)
        wanted = parts.processes(at, self._known)
        self._end_outdated(wanted)
        running = processes.running(self._owner)
        missing = [name for name in controlplane.NAMES if name not in running]
        if wanted.keys() - running.keys() or not (self._where / "kubeconfig").exists():
            pki.ensure(self._where / "pki", addresses=(at.network.address, at.first_service))
            self._write_kubeconfigs(at, wanted)
        api = Api(at.server, pki=self._where / "pki")
        self._start(missing, wanted, at, api)
        self._until(api.ready, "the API server is not ready")
        uid = str(api.get("/api/v1/namespaces/kube-system")["metadata"]["uid"])
        self._write(uid=uid)
        self._set_nodes(api, nodes)
        if missing:
            self._until(lambda: _has_service_account(api), "the controller manager makes no service accounts")
            own = f", of which the API server's own start {self._api_seconds:.1f} s" if self._api_seconds else ""
            self._say(f"ready after {time.monotonic() - began:.1f} s{own}")
        if self._known.real:
            self._real_node([name for name in node.NAMES if name not in running], wanted, at, api, images)
        if self._known.cluster_api:
            self._cluster_api([name for name in clusterapi.NAMES if name not in running], wanted, at, api)
        if self._known.instance_types:
            self._karpenter(wanted, at, api, nodes, missing=karpenter.NAME not in running)
        processes.cap_logs(self._where)
        context = kubeconfig.context_of(self._where.name)
        return Cluster(name=self._where.name, kubeconfig=self._where / "kubeconfig", context=context, uid=uid)

    def _create(self, isolated: bool | None) -> Record:  # noqa: FBT001 - as the caller was given it
        """Choose addresses and write them down, in place of whatever an unfinished `down` left."""
        realnode.end(self._where)
        processes.stop(processes.everything(self._where))
        files.empty(self._where)
        with network.choosing():
            wanted = network.isolated_by_default() if isolated is None else isolated
            real = isolated is not False and self._can_be_real()
            known = record.new(self._where, isolated=wanted, real=real)
            record.save(self._where, known)
            if isinstance(known.network, Loopback):
                return known
            try:
                known.network.make()
            except CouldNotRun as refused:
                if isolated:
                    raise
                self._say(f"{refused}; on loopback ports instead")
                known = record.new(self._where, isolated=False)
                record.save(self._where, known)
        return known

    def _can_be_real(self) -> bool:
        problem = system.no_real_node()
        if problem:
            self._say(f"simulated nodes only: {problem}")
        else:
            system.ensure(say=self._say)
        return not problem

    def _write(self, **changes: object) -> None:
        changed = dc.replace(self._known, **changes)  # type: ignore[arg-type]
        if changed != self._known:
            self._known = changed
            record.save(self._where, changed)

    def _let_end(self) -> None:
        """Wait for what is just ending, else its ports and files would be taken for another program's."""
        running = processes.running(self._owner)
        ending = [started for name, started in self._known.started.items() if name not in running]
        self._until(lambda: all(processes.ended(one.pid, one.since) for one in ending), "a killed process lingers")

    def _ensure_network(self) -> None:
        """Bring back a namespace that is gone; choose another port for one that another program has taken."""
        now = self._known.network
        if isinstance(now, Loopback):
            running = processes.running(self._owner)
            for listener, process in _LISTENERS.items():
                port = now.ports.get(listener)
                if port is None:  # an earlier Kiban's cluster has none
                    now = now.moved(listener)
                elif process not in running and not network.is_free(port):
                    now = now.moved(listener)
                    self._say(f"port {port} is taken by another program; {listener} is now on {now.ports[listener]}")
            self._write(network=now)
        elif not now.exists:
            realnode.end(self._where)
            processes.stop(processes.everything(self._where))  # they would be in a namespace that has no name
            with network.choosing():
                now.remove()
                self._write(network=(made := network.namespace(self._where)))
                made.make()

    def _choose_instance_types(self, nodes: "Nodes") -> None:
        """Write down what Karpenter can make, under a name that says what is in it; where that is none, there is none.

        Called before anything runs, since what runs with other instance types is ended then.
        """
        from infra.clusters.instance_types import instance_types  # noqa: PLC0415 - loads Pulumi, which takes 1 s

        name = None
        if offered := instance_types(nodes.provisioned):
            text = json.dumps(offered, indent=1)
            name = f"instance-types-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
            files.replace(self._where / name, text)
        self._write(instance_types=name)

    def _end_outdated(self, wanted: Mapping[str, processes.Process]) -> None:
        """End what runs with other flags than it should: an address has changed, or Kiban has."""
        for name, process in processes.running(self._owner).items():
            if name not in wanted or processes.arguments(process) != wanted[name].arguments:
                self._say(f"{name} has new settings; restarting it")
                processes.stop([process])

    def _start(self, missing: Sequence[str], wanted: Mapping[str, Process], at: Layout, api: Api) -> None:
        """Start the missing processes; the API server's clients once it is ready, since some give up after 10 s."""
        if not missing:
            return
        self._announce(missing)
        for name in missing:
            tool = self._program(wanted[name])
            if name not in controlplane.STORE:
                self._until(api.ready, "the API server is not ready")
                if self._api_seconds is None and "kube-apiserver" in self._launched:
                    self._api_seconds = time.time() - self._launched["kube-apiserver"].create_time()
            if name == "kwok":
                simulation.prepare(api)
                files.replace(controlplane.stages(at), controlplane.STAGES)
            self._launch(wanted[name], tool, at.network.command)

    def _real_node(
        self, missing: Sequence[str], wanted: Mapping[str, Process], at: Layout, api: Api, images: Sequence[str]
    ) -> None:
        """Start what is missing of the real node, give it its images, and wait until it is Ready."""
        began = time.monotonic()
        real = RealNode(at, self._tools)
        if missing:
            self._announce(missing)
            real.prepare(system.cni_plugins())
            self._apply(api, addons.permissions())
            real.furnish(images, self._say)
        for name in missing:
            if name == "kube-router":  # it gives up where there is no such node
                self._until(lambda: realnode.registered(api), "the kubelet makes no node")
            self._launch(wanted[name], self._program(wanted[name]), (*at.network.command, *real.command()))
            if name == "containerd":
                self._until(real.serves, "containerd does not answer")
        for reference in realnode.BASE:
            real.load(reference, self._say)
        self._apply(api, addons.rules(real.images()))
        self._until(lambda: placement.holds(api), "the API server does not place pods")
        self._apply(api, addons.workloads(at))
        self._until(lambda: realnode.ready(api), "the real node is not Ready")
        if missing:
            self._say(f"real node ready after {time.monotonic() - began:.1f} s")
        if [reference for reference in images if real.load(reference, self._say)]:
            api.apply(addons.IMAGES, placement.images(real.images()))

    def _cluster_api(self, missing: Sequence[str], wanted: Mapping[str, Process], at: Layout, api: Api) -> None:
        """Start what is missing of Cluster API, with the kinds and permissions that it needs before it."""
        if missing:
            self._announce(missing)
            self._apply(api, applied := clusterapi.objects(at))
            self._until(lambda: api.serves(applied.values()), "the API server does not serve Cluster API's kinds")
        for name in missing:
            self._launch(wanted[name], self._program(wanted[name]), at.network.command)
        self._until(lambda: clusterapi.ready(api), "Cluster API's webhooks do not answer")

    def _program(self, process: Process) -> Path:
        return process.program or self._tools[process.name]

    def _karpenter(
        self, wanted: Mapping[str, Process], at: Layout, api: Api, nodes: "Nodes | None", *, missing: bool
    ) -> None:
        """Start Karpenter where it is missing, with all that it needs there before it."""
        if missing:
            self._announce([karpenter.NAME])
            self._apply(api, karpenter.permissions())
            self._apply(api, kinds := karpenter.kinds(toolchain.module_folder(*karpenter.MODULE)))
            self._until(lambda: api.serves(kinds.values()), "the API server does not serve Karpenter's kinds")
            self._apply(api, karpenter.node_class())
        if nodes is not None:
            from infra.clusters.nodes import devices  # noqa: PLC0415 - loads Pulumi, which takes 1 s

            self._apply(api, karpenter.device_plugin({one.name: devices(one) for one in nodes.provisioned}))
        if missing:
            self._launch(wanted[karpenter.NAME], self._tools[karpenter.NAME], at.network.command)

    def _apply(self, api: Api, manifests: Mapping[str, Object]) -> None:
        for path, manifest in manifests.items():
            api.apply(path, manifest)

    def _announce(self, missing: Sequence[str]) -> None:
        died = [name for name in missing if name in self._known.started]
        self._say(f"starting {', '.join(missing)}" + (f" ({', '.join(died)} had ended)" if died else ""))

    def _launch(self, wanted: Process, tool: Path, within: Sequence[str]) -> None:
        process = processes.start(self._owner, wanted, tool, within=within)
        self._launched[wanted.name] = process
        self._write(started={**self._known.started, wanted.name: Started.of(process, tool)})

    def _write_kubeconfigs(self, at: Layout, wanted: Iterable[str]) -> None:
        names = {"admin": self._where / "kubeconfig"}
        names |= {name: at.pki(f"{name}.kubeconfig") for name in wanted if at.pki(f"{name}.crt").exists()}
        for name, path in names.items():
            document = kubeconfig.document(
                self._where.name,
                at.server,
                authority=at.pki("ca.crt"),
                certificate=at.pki(f"{name}.crt"),
                key=at.pki(f"{name}.key"),
            )
            files.replace(path, yaml.safe_dump(document, sort_keys=False))

    def _set_nodes(self, api: Api, nodes: "Nodes | None") -> None:
        if nodes is not None or simulation.readiness(api) == (0, 0):
            from infra.clusters.nodes import Nodes, manifests  # noqa: PLC0415 - loads Pulumi, which takes 1 s

            made, removed = simulation.converge(api, manifests(nodes or Nodes()))
            if made or removed:
                self._say(f"{made} simulated nodes set, {removed} removed")
        self._until(lambda: len(set(simulation.readiness(api))) == 1, "not every simulated node is Ready")

    def _until(self, condition: Callable[[], bool], problem: str) -> None:
        def holds() -> bool:
            for name, process in self._launched.items():
                if not processes.alive(process):
                    path = processes.log(self._where, name)
                    end = " | ".join(processes.tail(path, 3)) or "nothing"
                    raise RunFailed(f"cluster {self._where.name}: {name} ended; its log ends: {end} (all: {path})")
            try:
                return condition()
            except Unanswered:
                return False

        until(holds, seconds=_READY_WITHIN, what=f"cluster {self._where.name}: {problem} (logs: {self._where / 'log'})")


def _has_service_account(api: Api) -> bool:
    return bool(api.metadata("/api/v1/namespaces/default/serviceaccounts"))
