"""The host processes of one embedded cluster: started to outlive the command, found again, ended.

A process is known by two variables in its environment, the cluster's folder and the cluster's identity, so no other
program can be taken for one of ours, whatever became of process ids, and none is lost when a run is killed between
starting a process and writing that down. What the processes are for is controlplane.py's matter.
"""

import contextlib
import dataclasses as dc
import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from infra.clusters.waiting import until
from infra.errors import RunFailed

Handle = psutil.Process
_FOLDER = "KIBAN_PROCESS_FOLDER"
_ID = "KIBAN_PROCESS_CLUSTER"
_NAME = "KIBAN_PROCESS"
_LOG_BYTES = 16 << 20
_GRACE = 5.0  # seconds; the API server takes 1 to 3 after SIGTERM, and for ever where etcd is gone
_children: list[subprocess.Popen[bytes]] = []  # polled, so that one that ends while we live is no zombie


@dc.dataclass(frozen=True, kw_only=True)
class Owner:
    """The cluster that a process belongs to."""

    folder: Path
    id: str


@dc.dataclass(frozen=True, kw_only=True)
class Process:
    """What to run: also the name of its log, and of its tool where it has no program of its own.

    environment: all that it sees besides PATH.
    """

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = dc.field(default_factory=dict)
    program: Path | None = None


def log(folder: Path, name: str) -> Path:
    """Where a process writes; what it wrote before its last start is beside it, in NAME.log.1."""
    return folder / "log" / f"{name}.log"


def running(owner: Owner) -> dict[str, Handle]:
    """Name to process of the cluster's own processes that live; of what they started in turn, nothing."""
    found: dict[str, Handle] = {}
    for process, marks in _marked(owner.folder):
        with contextlib.suppress(ProcessLookupError):
            # what a process starts inherits its marks, but not that it leads a session
            if marks.get(_ID) == owner.id and os.getsid(process.pid) == process.pid:
                found[marks.get(_NAME, "")] = process
    return found


def everything(folder: Path) -> dict[Handle, str]:
    """Every process that a cluster in this folder ever started, directly or not, with the name it was started under."""
    return {process: marks.get(_NAME, "") for process, marks in _marked(folder)}


def start(owner: Owner, process: Process, tool: Path, *, within: Sequence[str] = ()) -> Handle:
    """Start a process in a session of its own, its output in its log."""
    path = log(owner.folder, process.name)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if path.exists():
        path.replace(path.with_suffix(".log.1"))
    marks = {_FOLDER: str(owner.folder), _ID: owner.id, _NAME: process.name}
    # nothing else of the caller's environment: a proxy or ETCD_* setting there would change what runs
    environment = {"PATH": os.defpath, "HOME": str(owner.folder), **process.environment, **marks}
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
        child = subprocess.Popen(
            [*within, str(tool), *process.arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=owner.folder,
            env=environment,
            start_new_session=True,
        )
    _children.append(child)
    return Handle(child.pid)


def cap_logs(folder: Path) -> None:
    """Empty every log that has grown beyond bounds; its process goes on writing from the start."""
    for path in (folder / "log").glob("*.log"):
        if path.stat().st_size > _LOG_BYTES:
            os.truncate(path, 0)


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log; none where there is no log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - lines * 1024))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []


def alive(process: Handle) -> bool:
    """Whether it runs; one that ended and was not waited for does not, once its last thread has let its files go."""
    for child in _children:
        child.poll()
    try:
        return process.is_running() and (process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1)
    except psutil.NoSuchProcess:
        return False


def arguments(process: Handle) -> tuple[str, ...]:
    """What it was started with; nothing where it ended meanwhile."""
    try:
        return tuple(process.cmdline()[1:])
    except psutil.Error:
        return ()


def ended(pid: int, since: float) -> bool:
    """Whether the process of that id and creation is gone, and its ports and files with it."""
    try:
        process = Handle(pid)
        return process.create_time() != since or not alive(process)
    except psutil.NoSuchProcess:
        return True


def stop(processes: Iterable[Handle]) -> None:
    """End all of them: ask first, then after a bound force; raise RunFailed naming what is left even so."""
    left = [process for process in processes if alive(process)]
    for signal in (Handle.terminate, Handle.kill):
        for process in left:
            try:
                signal(process)
            except psutil.NoSuchProcess:
                continue
        deadline = time.monotonic() + _GRACE
        while (left := [process for process in left if alive(process)]) and time.monotonic() < deadline:
            time.sleep(0.02)
    if left:
        raise RunFailed(f"processes {', '.join(str(p.pid) for p in left)} do not end; end them by hand and run again")


def kill(processes: Iterable[Handle]) -> None:
    """End all of them at once, for those that have nothing to save."""
    left = list(processes)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    until(lambda: not any(map(alive, left)), seconds=_GRACE, what="killed processes")


def _marked(folder: Path) -> Iterator[tuple[Handle, Mapping[str, str]]]:
    """The living processes that carry the folder's mark, with their environment."""
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except (psutil.Error, OSError):  # ended meanwhile, or another user's: then it is not ours
            continue
        if environment.get(_FOLDER) == str(folder) and alive(process):
            yield process, environment
