"""Where a real node's processes and pods are shut in: one mount namespace, and one cgroup in every hierarchy.

The mount namespace lives as long as a process in it does and takes every mount with it; only the cgroups stay behind
and are removed here. Both need root on Linux.
"""

import contextlib
import os
import shutil
import signal
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from infra import paths, system
from infra.clusters.embedded.processes import Handle
from infra.clusters.waiting import until
from infra.errors import CouldNotRun

_HIERARCHIES = Path("/sys/fs/cgroup")
_SCRIPT = Path(__file__).with_name("enclosure.sh")


def command(node: Path, members: Iterable[Handle]) -> tuple[str, ...]:
    """What to put before a command so that it runs in the mount namespace of the members, or in a new one.

    node: the folder that keeps the node's data. members: the node's processes that live.
    """
    entered = namespace(members)
    if entered:
        return (program("nsenter"), f"--mount={entered}", "--")
    made = (program("unshare"), "--mount", "--propagation=private", "--", "/bin/sh", str(_SCRIPT))
    return (*made, str(node), str(paths.cache().resolve()))


def namespace(members: Iterable[Handle]) -> Path | None:
    """The mount namespace of the first of the members that has one of its own."""
    own = Path("/proc/self/ns/mnt").readlink()
    for member in members:
        path = Path(f"/proc/{member.pid}/ns/mnt")
        with contextlib.suppress(OSError):  # ended meanwhile
            if path.readlink() != own:
                return path
    return None


def make_cgroup(name: str) -> None:
    """Make the cgroup in every hierarchy that there is."""
    for root in _roots():
        made = root / name
        made.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):  # of version 1: empty in a new cgroup, and then it takes no process
            if (made / file).exists() and not (made / file).read_text().strip():
                (made / file).write_text((root / file).read_text())
        if (made / "cgroup.subtree_control").exists():
            controllers = (root / "cgroup.controllers").read_text().split()
            for at in (root, made) if controllers else ():
                (at / "cgroup.subtree_control").write_text(" ".join(f"+{one}" for one in controllers))


def kill(name: str) -> None:
    """End every process in the cgroup, and remove it."""
    until(lambda: not _killed(name), seconds=30, what=f"processes of cgroup {name}")
    for folder in _folders(name):
        with contextlib.suppress(FileNotFoundError):
            folder.rmdir()


def _killed(name: str) -> bool:
    """Kill what is in the cgroup; whether there was anything."""
    found = False
    for folder in _folders(name):
        for pid in (folder / "cgroup.procs").read_text().split():
            found = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    return found


def _folders(name: str) -> Iterator[Path]:
    """The cgroup and those in it, in every hierarchy, the innermost first."""
    for root in _roots():
        for folder, _, _ in os.walk(root / name, topdown=False):
            yield Path(folder)


def _roots() -> Sequence[Path]:
    """The hierarchies: one of version 2, or one a controller, of version 1."""
    if not _HIERARCHIES.exists():
        return ()
    if (_HIERARCHIES / "cgroup.controllers").exists():
        return (_HIERARCHIES,)
    return tuple(path for path in _HIERARCHIES.iterdir() if not path.is_symlink() and (path / "cgroup.procs").exists())


def program(name: str) -> str:
    """Where a program of the system is. Raises CouldNotRun where it is not."""
    found = shutil.which(name, path=system.PATH)
    if found is None:
        raise CouldNotRun(f"{name} is not there; install util-linux, or set KIBAN_REAL_NODE=0 for simulated nodes only")
    return found
