"""Processes of a cluster: known by their marks alone, started to outlive, and ended for certain."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.clusters.embedded import processes
from infra.clusters.embedded.processes import Owner, Process
from infra.clusters.waiting import until
from infra.errors import RunFailed

PYTHON = Path(sys.executable)
SLEEP = "import time; print('awake', flush=True); time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
)


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    """Return a cluster in a folder of its own, whose processes are ended afterwards."""
    yield Owner(folder=tmp_path, id="one")
    processes.stop(processes.everything(tmp_path))


def begin(owner: Owner, name: str, program: str = SLEEP) -> processes.Handle:
    """Start a Python program under a name, and wait until it has said its first word."""
    process = processes.start(owner, Process(name=name, arguments=("-c", program)), PYTHON)
    until(lambda: bool(processes.tail(processes.log(owner.folder, name), 1)), seconds=10, what=name)
    return process


def test_a_process_is_known_by_its_marks(owner: Owner) -> None:
    """Its cluster finds it by name; a cluster of another identity in the same folder does not, but can end it."""
    process = begin(owner, "etcd")
    assert processes.running(owner) == {"etcd": process}
    assert processes.running(Owner(folder=owner.folder, id="two")) == {}
    assert processes.everything(owner.folder) == {process: "etcd"}


def test_a_foreign_process_is_nobodys(owner: Owner) -> None:
    """A process without the marks is never found, even where its program and arguments are the same."""
    foreign = subprocess.Popen([PYTHON, "-c", SLEEP], stdout=subprocess.DEVNULL)
    try:
        assert processes.running(owner) == {}
        assert processes.everything(owner.folder) == {}
    finally:
        foreign.kill()
        foreign.wait()


def test_a_process_has_a_session_and_an_environment_of_its_own(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """It outlives its starter's terminal, and sees no proxy or other setting of its starter."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test")
    process = begin(owner, "kwok")
    assert os.getsid(process.pid) == process.pid
    assert set(process.environ()) - {"LC_CTYPE"} == {
        "PATH",
        "HOME",
        "KIBAN_PROCESS",
        "KIBAN_PROCESS_CLUSTER",
        "KIBAN_PROCESS_FOLDER",
    }


def test_what_does_not_listen_is_forced(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ignores the request to end is killed after a bound."""
    monkeypatch.setattr(processes, "_GRACE", 0.2)
    process = begin(owner, "deaf", STUBBORN)
    processes.stop([process])
    assert not processes.alive(process)
    assert processes.running(owner) == {}


def test_one_that_ended_is_not_alive_and_its_words_are_kept(owner: Owner) -> None:
    """A killed process is dead at once, though nobody waited for it; its log is there, and kept at the next start."""
    process = begin(owner, "etcd")
    since = process.create_time()
    assert not processes.ended(process.pid, since)
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: processes.ended(process.pid, since), seconds=10, what="the killed process")
    assert processes.running(owner) == {}
    assert processes.tail(processes.log(owner.folder, "etcd"), 5) == ["awake"]
    begin(owner, "etcd")
    assert (owner.folder / "log" / "etcd.log.1").read_text() == "awake\n"
    assert processes.ended(psutil.Process().pid, since)


def test_a_log_is_capped(owner: Owner) -> None:
    """A log that has grown beyond 16 MiB is emptied; a smaller one is left alone."""
    folder = owner.folder / "log"
    folder.mkdir()
    (folder / "kwok.log").write_bytes(b"x")
    with (folder / "etcd.log").open("wb") as log:
        log.truncate((16 << 20) + 1)
    processes.cap_logs(owner.folder)
    assert (folder / "etcd.log").stat().st_size == 0
    assert (folder / "kwok.log").stat().st_size == 1


def test_waiting_is_bounded() -> None:
    """A condition that never holds is a failed run that says what was waited for."""
    with pytest.raises(RunFailed, match="the moon: not within"):
        until(lambda: False, seconds=0.05, what="the moon")
