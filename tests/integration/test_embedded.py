"""Embedded clusters with the real control plane: up, again, side by side, killed in every way, and down."""

import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pyroute2
import pytest

from infra.clusters import Cluster, embedded
from infra.clusters.embedded import controlplane, processes, record
from infra.clusters.embedded.api import Api
from infra.clusters.embedded.layout import layout
from infra.clusters.embedded.network import Loopback, Namespace
from infra.clusters.nodes import Nodes
from infra.clusters.waiting import until
from infra.errors import CouldNotRun, RunFailed
from infra.kubectl import Kubectl
from stacks._schema import SystemNodes
from tests.conftest import Record
from tests.integration.conftest import POOLS, run_job

ONE_NODE = Nodes(system=SystemNodes(count=1))
Named = Callable[[str], str]


def quiet(line: str) -> None:
    """Say nothing."""


def pids(name: str) -> dict[str, int | None]:
    """Process name to id, of what the status says."""
    return {one.name: one.pid for one in embedded.status(name).processes if one.state == "running"}


def marked(home: Path) -> list[psutil.Process]:
    """Every process, whoever's child, that was started for a cluster under this home."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        if environment.get("KIBAN_PROCESS_FOLDER", "").startswith(str(home)):
            found.append(process)
    return found


def kill(*numbers: int | None) -> None:
    """End processes at once, and wait until they are gone."""
    victims = [psutil.Process(number) for number in numbers]
    for victim in victims:
        victim.kill()
    until(lambda: not any(map(processes.alive, victims)), seconds=10, what="killed processes")


def remember(kubectl: Kubectl) -> None:
    """Put data into a cluster that `remembers` finds again."""
    kubectl.run("create", "configmap", "kept", "--from-literal=key=value")


def remembers(kubectl: Kubectl) -> bool:
    """Whether the cluster has the data still."""
    return bool(kubectl.get("configmap", "kept", namespace="default")[0]["data"] == {"key": "value"})


@pytest.fixture(scope="module")
def mortal(cluster_home: Path) -> Iterator[Cluster]:
    """Return a cluster with data in it, for tests that kill parts of it and bring it back."""
    cluster = embedded.up("mortal", ONE_NODE, say=quiet)
    remember(Kubectl(cluster.kubeconfig))
    yield cluster
    embedded.down("mortal", say=quiet)
    assert not [process for process in marked(cluster_home) if "mortal" in process.environ()["KIBAN_PROCESS_FOLDER"]]


def test_up_from_nothing_is_ready(named: Named, record: Record) -> None:
    """From no cluster to a ready one: every process runs, every node is Ready, the figures are written down."""
    said: list[str] = []
    began = time.monotonic()
    cluster = embedded.up(named("fresh"), POOLS, say=said.append)
    seconds = time.monotonic() - began
    status = embedded.status("fresh")
    assert status.ready
    assert (status.nodes, status.nodes_ready) == (5, 5)
    assert status.uid == cluster.uid == embedded.get("fresh").uid
    assert {process.state for process in status.processes} == {"running"}
    command = "./kiban cluster up fresh; ./kiban cluster status fresh"
    record(
        line="8 control plane ready",
        evidence="executed",
        figure=f"{seconds:.1f} s",
        goal="about 4 s idle",
        command=command,
    )
    record(
        line="8 control plane memory",
        evidence="executed",
        figure=f"{status.memory} MiB",
        goal="500 MB",
        command=command,
    )


def test_up_again_changes_nothing(shared_cluster: Cluster) -> None:
    """A second `up` of a running cluster starts nothing, writes nothing, says nothing, and returns the same."""
    before = pids("shared"), record.load(embedded.folder("shared")), (embedded.folder("shared") / "cluster.json").stat()
    said: list[str] = []
    assert embedded.up("shared", POOLS, say=said.append) == shared_cluster
    after = pids("shared"), record.load(embedded.folder("shared")), (embedded.folder("shared") / "cluster.json").stat()
    assert (before, said) == (after, [])


def test_a_connection_that_was_ended_is_made_anew(shared_cluster: Cluster) -> None:
    """The API server ends connections that are idle; the next request meets that and asks again."""
    where = embedded.folder("shared")
    known = record.load(where)
    assert known is not None
    api = Api(layout(where, known).server, pki=where / "pki")
    path = "/api/v1/namespaces/kube-system"
    assert api.get(path)["metadata"]["uid"] == shared_cluster.uid
    api._local.connection.sock.shutdown(socket.SHUT_RDWR)  # noqa: SLF001 - as its other end does
    assert api.get(path)["metadata"]["uid"] == shared_cluster.uid


def test_clusters_side_by_side_do_not_meet(named: Named, shared_cluster: Cluster) -> None:
    """Two clusters have addresses and objects of their own, and one's end leaves the other as it was."""
    other = embedded.up(named("other"), ONE_NODE, say=quiet)
    before = pids("shared")
    Kubectl(other.kubeconfig).run("create", "configmap", "only-here")
    with pytest.raises(RunFailed, match="not found"):
        Kubectl(shared_cluster.kubeconfig).get("configmap", "only-here")
    embedded.down("other", say=quiet)
    assert pids("shared") == before
    assert embedded.status("shared").ready


@pytest.mark.parametrize("victim", controlplane.NAMES)
def test_a_killed_process_is_reported_and_restored(mortal: Cluster, victim: str) -> None:
    """One process killed: the status shows it dead with the end of its log; `up` starts it alone, and all works on."""
    before = pids("mortal")
    kill(before[victim])
    dead = [process for process in embedded.status("mortal").processes if process.state != "running"]
    assert [(process.name, process.state, process.pid) for process in dead] == [(victim, "dead", before[victim])]
    assert dead[0].tail
    with pytest.raises(CouldNotRun, match=victim):
        embedded.get("mortal")
    assert embedded.up("mortal", ONE_NODE, say=quiet) == mortal
    after = pids("mortal")
    assert {name for name in before if before[name] != after[name]} == {victim}
    works_on(mortal, f"after-{victim}")


def works_on(cluster: Cluster, job: str) -> None:
    """The data is there, and a new Job is made, scheduled, run and completed."""
    kubectl = Kubectl(cluster.kubeconfig)
    assert remembers(kubectl)
    run_job(kubectl, job, duration="100ms")
    kubectl.run("wait", "--for=condition=Complete", f"job/{job}", "--timeout=60s")


@pytest.mark.parametrize("left", ["nothing", "a namespace without its link"])
def test_a_restarted_machine_loses_nothing(mortal: Cluster, left: str) -> None:
    """All processes killed and the network gone, whole or in part: `up` brings the same cluster back, data and all."""
    kill(*pids("mortal").values())
    known = record.load(embedded.folder("mortal"))
    assert known is not None
    if isinstance(known.network, Namespace):
        if left == "nothing":
            known.network.remove()
        else:
            with pyroute2.IPRoute() as host:
                host.link("del", ifname=known.network.link)
        assert not known.network.exists
    assert not embedded.status("mortal").ready
    assert embedded.up("mortal", ONE_NODE, say=quiet) == mortal
    works_on(mortal, f"after-{len(left)}")


def test_an_up_that_is_killed_is_finished_by_the_next(named: Named, cluster_home: Path, *, full: bool) -> None:
    """`up` killed at points spread over its run: the next one converges, and `down` leaves nothing of either."""
    name = named("cut")
    script = f"from infra.clusters import embedded; embedded.up({name!r}, say=print)"
    for point in range(20 if full else 2):
        child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
        try:
            child.wait(timeout=0.3 + point * (0.2 if full else 2))
        except subprocess.TimeoutExpired:
            child.kill()
        child.wait()
        cluster = embedded.up(name, ONE_NODE, say=quiet)
        assert embedded.status(name).ready
        assert len(pids(name)) == len(marked_in(cluster_home, name)) == len(controlplane.NAMES)
        assert cluster.uid == embedded.get(name).uid
        embedded.down(name, say=quiet)
        assert marked_in(cluster_home, name) == []


def marked_in(home: Path, name: str) -> list[psutil.Process]:
    """The processes of one cluster under the home."""
    return marked(home / "clusters" / name)


def test_two_ups_at_once_make_one_cluster(named: Named, cluster_home: Path) -> None:
    """Two runs of `up` on one name at the same time: one waits for the other, and there is one of each process."""
    name = named("twice")
    script = f"from infra.clusters import embedded; embedded.up({name!r}, say=print)"
    both = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("another kiban works on it" in words for words in said) == 1
    assert len(marked_in(cluster_home, name)) == len(controlplane.NAMES)


@pytest.mark.parametrize("listener", ["kube-apiserver", "etcd"])
def test_a_taken_port_is_replaced(named: Named, listener: str) -> None:
    """On loopback: where another program took the port of a dead process, `up` says so and moves to another one."""
    cluster = embedded.up(named("ports"), ONE_NODE, say=quiet, isolated=False)
    kubectl = Kubectl(cluster.kubeconfig)
    remember(kubectl)
    known = record.load(embedded.folder("ports"))
    assert known is not None
    assert isinstance(known.network, Loopback)
    port = known.network.ports[listener]
    kill(pids("ports")[listener])
    said: list[str] = []
    with socket.create_server(("127.0.0.1", port)):
        assert embedded.up("ports", ONE_NODE, say=said.append) == cluster
        assert any(f"port {port} is taken by another program" in line for line in said)
        works_on(cluster, "moved")


def traces(name: str) -> list[str]:
    """What the machine shows of a cluster besides processes: its folder's key is in every name."""
    key = hashlib.sha256(os.fsencode(embedded.folder(name))).hexdigest()[:8]
    mounts = Path("/proc/self/mounts").read_text().splitlines() if Path("/proc").exists() else []
    shown = [*psutil.net_if_addrs(), *mounts, *map(str, Path("/run/kiban").glob("*"))]
    return [line for line in shown if key in line]


def test_down_leaves_nothing(named: Named, cluster_home: Path) -> None:
    """After `down` there is no process, interface, namespace, mount or file of the cluster."""
    embedded.up(named("gone"), ONE_NODE, say=quiet)
    isolated = embedded.status("gone").namespace is not None
    assert len(traces("gone")) == (3 if isolated else 0)
    embedded.down("gone", say=quiet)
    assert traces("gone") == []
    assert marked_in(cluster_home, "gone") == []
    assert not embedded.folder("gone").exists()
    assert "gone" not in embedded.names()


def test_down_ends_what_lost_its_folder(named: Named, cluster_home: Path) -> None:
    """A cluster whose folder was removed by hand is still found by its processes and taken down whole."""
    embedded.up(named("lost"), ONE_NODE, say=quiet)
    subprocess.run(["rm", "-rf", embedded.folder("lost")], check=True)
    embedded.down("lost", say=quiet)
    assert marked_in(cluster_home, "lost") == []


def test_a_process_that_ends_at_start_is_named_with_its_words(named: Named, tmp_path: Path) -> None:
    """A tool that fails is a failed run that names it and quotes the end of its log, at once."""
    broken = tmp_path / "kube-scheduler"
    broken.write_text("#!/bin/sh\necho this scheduler is broken >&2\nexit 1\n")
    broken.chmod(0o755)
    name = named("broken")
    embedded.up(name, ONE_NODE, say=quiet)
    kill(pids(name)["kube-scheduler"])
    with pytest.raises(RunFailed, match="kube-scheduler ended; its log ends: this scheduler is broken"):
        embedded.up(name, ONE_NODE, say=quiet, tools={"kube-scheduler": broken})


def test_keys_are_private_and_roles_are_narrow(shared_cluster: Cluster, kubectl: Kubectl) -> None:
    """Only the owner reads keys and kubeconfigs; strangers are refused; the simulator may not read secrets."""
    folder = embedded.folder("shared")
    files = [shared_cluster.kubeconfig, *(folder / "pki").iterdir()]
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o600"}
    server = embedded.status("shared").server
    stranger = Kubectl(Path(os.devnull))
    for words in (["--token=nobody"], ["--username=nobody", "--password=x"]):
        with pytest.raises(RunFailed, match="logged in"):
            stranger.run("get", "namespaces", f"--server={server}", "--insecure-skip-tls-verify", *words)
    with pytest.raises(RunFailed, match=r"forbidden|Forbidden"):
        kubectl.run("get", "secrets", "--all-namespaces", "--as=kiban:kwok")
    with pytest.raises(RunFailed, match=r"forbidden|Forbidden"):
        kubectl.run("get", "secrets", "--all-namespaces", "--as=system:node:a100-0", "--as-group=system:nodes")


def test_a_log_is_followed_over_a_restart(mortal: Cluster) -> None:
    """`logs --follow` goes on with what a process writes after it was killed and started again."""
    following = embedded.logs("mortal", "kwok", follow=True, lines=1)
    assert next(following)
    kill(pids("mortal")["kwok"])
    assert embedded.up("mortal", ONE_NODE, say=quiet) == mortal
    assert next(following)
