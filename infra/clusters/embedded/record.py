"""What is written down of an embedded cluster (cluster.json), and the lock under which it changes."""

import contextlib
import dataclasses as dc
import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from infra import paths
from infra.clusters import files
from infra.clusters.embedded import network
from infra.clusters.embedded.network import Loopback, Namespace, Network
from infra.errors import BadInput, CouldNotRun

SCHEMA = 1
# The same in every cluster: nothing outside its network namespace has a route to them.
_SERVICES, _PODS = "10.96.0.0/16", "10.244.0.0/16"
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,28}[a-z0-9])?")


@dc.dataclass(frozen=True, kw_only=True)
class Started:
    """A process as it was last started: `since` is its creation, in seconds of the epoch."""

    pid: int
    since: float
    executable: str

    @classmethod
    def of(cls, process: psutil.Process, executable: Path) -> "Started":
        """What is known of a process that was just started."""
        return cls(pid=process.pid, since=process.create_time(), executable=str(executable))


@dc.dataclass(frozen=True, kw_only=True)
class Record:
    """A cluster: what was chosen once, and what was last seen.

    id: tells its processes from those of an earlier cluster in the same folder.
    services, pods: CIDR. real: whether it has a real node. uid: of kube-system, once it was seen.
    instance_types: the file in its folder of what Karpenter can make, where pools ask for it.
    cluster_api: whether Cluster API's controllers run beside it.
    """

    id: str
    network: Network
    services: str
    pods: str
    real: bool = False
    instance_types: str | None = None
    started: Mapping[str, Started] = dc.field(default_factory=dict)
    uid: str | None = None
    cluster_api: bool = False


def check_name(name: str) -> None:
    """Raise BadInput for what cannot name a cluster."""
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"cluster name {name!r}; accepted: at most 30 lower-case letters, digits and '-', a letter first"
        )


def folder(name: str) -> Path:
    """Where the state of the cluster is, whether it exists or not."""
    check_name(name)
    return (paths.home() / "clusters").resolve() / name


def names() -> tuple[str, ...]:
    """The clusters that exist, running or not."""
    return tuple(sorted(path.parent.name for path in paths.home().glob("clusters/*/cluster.json")))


def load(where: Path) -> Record | None:
    """What is written down; None where there is no cluster."""
    try:
        content = json.loads((where / "cluster.json").read_text())
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise CouldNotRun(f"cluster {where.name!r} belongs to another user; run as the one who made it") from error
    if content.pop("schema") != SCHEMA:
        raise CouldNotRun(f"cluster {where.name!r} was made by another Kiban; take it down with that one")
    made: dict[str, Any] = content.pop("network")
    content["network"] = Namespace(**made | {"path": Path(made["path"])}) if "link" in made else Loopback(**made)
    content["started"] = {name: Started(**started) for name, started in content["started"].items()}
    return Record(**content)


def save(where: Path, record: Record) -> None:
    """Write it down, whole."""
    content = {"schema": SCHEMA, **dc.asdict(record)}
    files.replace(where / "cluster.json", json.dumps(content, indent=2, default=str) + "\n")


def new(where: Path, *, isolated: bool, real: bool = False) -> Record:
    """Choose an identity and addresses for a cluster in the folder; the caller holds `network.choosing()`."""
    return Record(
        id=secrets.token_hex(16),
        network=network.namespace(where) if isolated else network.loopback(),
        services=_SERVICES,
        pods=_PODS,
        real=real,
    )


@contextlib.contextmanager
def locked(where: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the cluster's folder, made if need be; it is let go when this process ends, however it ends.

    The lock is on the folder itself, so that nothing is left of it when the folder is removed.
    """
    while True:
        try:
            where.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # another run took it, or the one above it, away in between
            continue
        except PermissionError as error:
            raise CouldNotRun(f"{where} belongs to another user; run as that one, or set KIBAN_HOME") from error
        try:
            _lock(descriptor, where.name, say)
            if _is_still(where, descriptor):  # else it was removed while we waited: make it again
                yield
                return
        finally:
            os.close(descriptor)


def _lock(descriptor: int, name: str, say: Callable[[str], None]) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        began = time.monotonic()
        say(f"cluster {name}: another kiban works on it; waiting")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        say(f"cluster {name}: going on after {time.monotonic() - began:.0f} s")


def _is_still(where: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(where.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
