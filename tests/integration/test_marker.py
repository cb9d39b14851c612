"""What a real API server remembers of promotions, and that of those who promote at once one has the Lease."""

import contextlib
import datetime as dt
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from infra.clusters import Cluster
from infra.clusters.waiting import until
from infra.errors import CouldNotRun, RunFailed
from infra.kubectl import Kubectl, Object
from infra.release import marker
from infra.release.marker import Marker, held
from tests.release.place import HASH, ONE, TWO

IN = ("--namespace", marker.NAMESPACE)
LEASE = "leases.coordination.k8s.io"
FOUND = Marker(release=ONE.id, applied=HASH, number=2, head="d" * 64)
ELSEWHERE = "ann@{host} process {pid} 0123456789ab 9f3c"
DYING = """
import os, signal, sys
from pathlib import Path
from infra.kubectl import Kubectl
from infra.release.marker import held

with held(Kubectl(Path(sys.argv[1]), sys.argv[2]), print):
    print("held", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def _forgotten(kubectl: Kubectl) -> Iterator[None]:
    """Leave the cluster as it was."""
    yield
    kubectl.run("delete", f"configmaps,{LEASE}", marker.NAME, *IN, "--ignore-not-found")


def holder(kubectl: Kubectl) -> str | None:
    """Return who holds the Lease."""
    (found,) = kubectl.get(LEASE, marker.NAME, namespace=marker.NAMESPACE)
    name: str | None = found["spec"].get("holderIdentity")
    return name


def taken_by(kubectl: Kubectl, name: str) -> None:
    """Have somebody hold the Lease, or give a sign of life."""
    now = dt.datetime.now(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    metadata = {"name": marker.NAME, "namespace": marker.NAMESPACE}
    lease: Object = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
    kubectl.apply([lease | {"spec": {"holderIdentity": name, "renewTime": now}}], field_manager="tests")


@contextlib.contextmanager
def renewing(kubectl: Kubectl, name: str) -> Iterator[None]:
    """Have somebody hold the Lease and renew it each second."""
    done = threading.Event()
    taken_by(kubectl, name)

    def renew() -> None:
        while not done.wait(1):
            taken_by(kubectl, name)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def dead() -> int:
    """Return the number of a process that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_the_cluster_remembers_a_marker(kubectl: Kubectl) -> None:
    """The last one, with or without labels, and says so where somebody has edited it."""
    assert marker.read(kubectl) is None
    marker.write(kubectl, FOUND)
    assert marker.read(kubectl) == FOUND
    later = Marker(release=TWO.id, applied=HASH, number=3, head=HASH)
    marker.write(kubectl, later)
    kubectl.run("label", "configmap", marker.NAME, *IN, "app.kubernetes.io/name-", "a=b")
    assert marker.read(kubectl) == later
    kubectl.run("patch", "configmap", marker.NAME, *IN, "--patch", json.dumps({"data": {"number": "many"}}))
    with pytest.raises(RunFailed, match="ConfigMap kiban-promotion of kube-system is not as a promotion wrote it"):
        marker.read(kubectl)
    marker.write(kubectl, later)
    assert marker.read(kubectl) == later


def test_one_holds_it_and_gives_it_back(kubectl: Kubectl) -> None:
    """And knows how its clock differs from the API server's; the next one waits for nothing."""
    for _ in range(2):
        said: list[str] = []
        with held(kubectl, said.append) as found:
            found.still()
            assert abs(found.ahead) < dt.timedelta(seconds=5)
            assert str(holder(kubectl)).partition(" process ")[0].count("@") == 1
        assert holder(kubectl) is None
        assert said == []


def test_a_clock_that_is_ahead_is_seen(kubectl: Kubectl) -> None:
    """By when the API server wrote what this machine has dated."""
    with held(kubectl, print):
        words = (LEASE, marker.NAME, *IN, "--show-managed-fields", "--output=json")
        lease = json.loads(kubectl.run("get", *words))
    own = dt.datetime.fromisoformat(lease["spec"]["renewTime"]) + dt.timedelta(seconds=90)
    lease["spec"]["renewTime"] = own.isoformat()
    assert abs(marker._ahead(lease) - dt.timedelta(seconds=90)) < dt.timedelta(seconds=5)  # noqa: SLF001


def test_who_lives_is_not_disturbed(kubectl: Kubectl) -> None:
    """A second one of this machine sees the first renew it, and is refused with its name."""
    said: list[str] = []
    with held(kubectl, print) as first:
        name = str(holder(kubectl))
        with pytest.raises(CouldNotRun) as raised, held(kubectl, said.append):
            pytest.fail("two hold it")
        assert str(raised.value) == f"{name} promotes to this environment now; wait for it to end"
        first.still()
        assert holder(kubectl) == name
    assert said == [f"{name} holds the lease of promotions; waiting 30 s for a sign of life"]


@pytest.mark.parametrize("promoted", [False, True])
def test_of_those_that_begin_at_once_one_has_it(kubectl: Kubectl, promoted: bool) -> None:  # noqa: FBT001
    """The others are told; the first time, and when somebody has given it back before."""
    with held(kubectl, print) if promoted else contextlib.nullcontext():
        pass
    refused: list[str] = []
    holding: list[str] = []
    begin, ended = threading.Barrier(4), threading.Event()

    def promote() -> None:
        begin.wait()
        try:
            with held(kubectl, print):
                holding.append("one")
                ended.wait(60)
        except CouldNotRun as error:
            refused.append(str(error))

    threads = [threading.Thread(target=promote) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(holding) + len(refused) == 4, seconds=60, what="all four")
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert len(holding) == 1
    assert all("another process was first" in each or "promotes to this environment now" in each for each in refused)


def test_what_a_killed_process_held_is_had_at_once(shared_cluster: Cluster, kubectl: Kubectl) -> None:
    """Nobody else can have its number in this machine's processes."""
    words = [sys.executable, "-c", DYING, str(shared_cluster.kubeconfig), shared_cluster.context]
    assert subprocess.run(words, capture_output=True, text=True, check=False).stdout == "held\n"
    assert holder(kubectl)
    said: list[str] = []
    with held(kubectl, said.append):
        assert said == []


@pytest.mark.parametrize("host", ["elsewhere", "this"])
def test_another_machines_is_waited_for(kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Also of one with this machine's name, as containers have it; then it is had, whatever the other's clock said."""
    monkeypatch.setattr(marker, "_SECONDS", 4)
    name = ELSEWHERE.format(host=socket.gethostname() if host == "this" else host, pid=dead())
    refused = pytest.raises(CouldNotRun, match="promotes to this environment now")
    with renewing(kubectl, name), refused, held(kubectl, print):
        pytest.fail("it was taken from one that lives")
    said: list[str] = []
    began = time.monotonic()
    with held(kubectl, said.append):
        assert time.monotonic() - began >= 4
        assert holder(kubectl) != name
    assert said == [f"{name} holds the lease of promotions; waiting 4 s for a sign of life"]


def test_one_that_ends_meanwhile_is_not_waited_for(kubectl: Kubectl) -> None:
    """What it gave back is free."""
    taken_by(kubectl, ELSEWHERE.format(host="elsewhere", pid=1))
    freed = threading.Timer(2, lambda: kubectl.run("delete", LEASE, marker.NAME, *IN))
    freed.start()
    began = time.monotonic()
    with held(kubectl, print) as found:
        found.still()
    freed.join()
    assert time.monotonic() - began < 20


def test_a_lease_that_was_lost_is_noticed_and_left(kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a machine that slept: it is not renewed for the other, nor given back for it."""
    monkeypatch.setattr(marker, "_RENEWED_EVERY", 0.2)
    with held(kubectl, print) as found:
        found.still()
        kubectl.run("delete", LEASE, marker.NAME, *IN)
        name = ELSEWHERE.format(host="elsewhere", pid=1)
        taken_by(kubectl, name)
        before = kubectl.get(LEASE, marker.NAME, namespace=marker.NAMESPACE)
        with pytest.raises(CouldNotRun, match="another process has taken over the lease"):
            found.still()
        threading.Event().wait(1)  # five times the interval in which it would be renewed
    assert kubectl.get(LEASE, marker.NAME, namespace=marker.NAMESPACE) == before
