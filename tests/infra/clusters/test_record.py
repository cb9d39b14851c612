"""What is written down of an embedded cluster, and what may be a name."""

import threading
from pathlib import Path

import pytest

from infra.clusters import embedded
from infra.clusters.embedded import record
from infra.clusters.embedded.network import Loopback, Namespace
from infra.clusters.embedded.record import Record, Started
from infra.errors import BadInput, CouldNotRun

BOTH = (
    Loopback(ports={"kube-apiserver": 20001, "etcd": 20002, "etcd-peer": 20003}),
    Namespace(path=Path("/run/kiban/one-0a"), link="kiban0a", host="198.19.0.1", address="198.19.0.2"),
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test a KIBAN_HOME of its own."""
    monkeypatch.setenv("KIBAN_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", ["", "Local", "-a", "a-", "a_b", "../x", "a/b", "x" * 31, "1a"])
def test_a_name_that_cannot_be_one_is_refused(name: str, home: Path) -> None:
    """A bad name is bad input that says what was given and what is accepted, and nothing is made."""
    with pytest.raises(BadInput, match="accepted: at most 30"):
        embedded.up(name, say=print)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("network", BOTH, ids=["loopback", "namespace"])
def test_what_is_written_is_read_back(home: Path, network: Loopback | Namespace) -> None:
    """A record comes back as it was saved, whichever network it has."""
    started = {"etcd": Started(pid=7, since=1.5, executable="/bin/etcd")}
    known = Record(id="x", network=network, services="10.64.0.0/17", pods="10.64.128.0/17", started=started, uid="u")
    record.save(home, known)
    assert record.load(home) == known
    assert oct((home / "cluster.json").stat().st_mode & 0o777) == "0o600"


def test_a_cluster_that_is_not_there_is_said_to_be_not_there(home: Path) -> None:
    """Without a cluster: get could not run, status and logs are bad input, down removes nothing; none makes a file."""
    with pytest.raises(CouldNotRun, match="kiban cluster up nowhere"):
        embedded.get("nowhere")
    with pytest.raises(BadInput, match="none exists yet"):
        embedded.status("nowhere")
    with pytest.raises(BadInput, match="none exists yet"):
        embedded.logs("nowhere", "etcd")
    said: list[str] = []
    embedded.down("nowhere", say=said.append)
    assert said == ["cluster nowhere: there is none; nothing to remove"]
    assert list(home.iterdir()) == []


def test_one_at_a_time_works_on_a_cluster(home: Path) -> None:
    """A second holder of the lock waits for the first and says so; a folder removed meanwhile is made again."""
    where = home / "clusters" / "one"
    said: list[str] = []
    waiting = threading.Event()
    order: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        waiting.set()

    def second() -> None:
        with record.locked(where, say):
            order.append("second")
            assert where.is_dir()

    with record.locked(where, print):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        order.append("first")
        where.rmdir()
    thread.join(10)
    assert order == ["first", "second"]
    assert "another kiban works on it" in said[0]
