"""Where built and released binaries are kept: a folder a key, put in place whole or not at all.

Safe for several processes at once. Knows nothing of how a binary is made.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from infra import paths
from infra.errors import BadInput, CouldNotRun, KibanError

_PARTIAL = ".partial"


def tools() -> Path:
    """Where all tools are; NAME/VERSION-KEY/NAME in it is a binary."""
    return paths.cache() / "tools"


@contextlib.contextmanager
def claimed(
    target: Path, what: str, say: Callable[[str], None], tick: Callable[[], None] = lambda: None
) -> Iterator[Path]:
    """Be the only one who makes this target, with a scratch folder beside it that is gone afterwards.

    A second process waits here, says so, and must look for the target again once it is let in; `tick` is called
    while it waits and may raise. What killed processes left beside the target is removed first.
    Raises BadInput where the disk is full and CouldNotRun where the cache cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target, what, say, tick):
            _sweep(target)
            scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_PARTIAL, dir=target.parent))
            try:
                yield scratch
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise refused(error, what) from error


def place(made: Path, target: Path) -> None:
    """Move a finished folder to its place; it is on the disk before it can be seen there.

    Call it inside `claimed`: nobody else makes the target then.
    """
    for file in made.rglob("*"):
        if file.is_file() and not file.is_symlink():
            _sync(file)
    _sync(made)
    shutil.rmtree(target, ignore_errors=True)  # what somebody has deleted the binary from
    made.rename(target)
    _sync(target.parent)


@contextlib.contextmanager
def shared(folder: Path) -> Iterator[None]:
    """Have a folder that is there as long as somebody is in here: the last one to leave without an error removes it.

    Raises CouldNotRun where the cache cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder.with_name(f".{folder.name}.lock").open("w")
    except OSError as error:
        raise refused(error, str(folder)) from error
    with file as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


def keep(folder: Path, most: int) -> None:
    """Remove all targets in a folder but so many, those that were touched last."""
    targets = (each for each in folder.iterdir() if not each.name.startswith("."))  # not locks, nor scratch folders
    for unused in sorted(targets, key=lambda each: each.stat().st_mtime)[:-most]:
        shutil.rmtree(unused, ignore_errors=True)


def refused(error: OSError, what: str) -> KibanError:
    """What the user is told where the cache cannot be written."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return full(what)
    if str(error.filename).startswith(str(paths.cache())):
        return CouldNotRun(f"{what}: {error}; name a folder that can be written in KIBAN_CACHE; nothing was changed")
    return CouldNotRun(f"{what}: {error}; nothing was changed")


def full(what: str, needed: int = 0) -> BadInput:
    """What the user is told where the disk is full. needed: bytes; 0 where that is not known."""
    about = f", about {needed / 1e9:.1f} GB needed" if needed else ""
    return BadInput(
        f"{what}: the disk of {paths.cache()} is full ({free() / 1e9:.1f} GB free{about}); free some space or name a "
        "folder on another disk in KIBAN_CACHE; nothing was changed"
    )


def free() -> int:
    """Bytes that can be written where the cache is, or will be."""
    place = paths.cache()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _lock(target: Path) -> filelock.FileLock:
    return filelock.FileLock(target.parent / f".{target.name}.lock")


@contextlib.contextmanager
def _locked(target: Path, what: str, say: Callable[[str], None], tick: Callable[[], None]) -> Iterator[None]:
    lock = _lock(target)

    def cancelled() -> bool:
        tick()
        return False

    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        say(f"tools: another process is making {what}; waiting for it")
        lock.acquire(cancel_check=cancelled)
    try:
        yield
    finally:
        lock.release()


def _sweep(target: Path) -> None:
    """Remove the scratch folders beside a target whose makers are gone. The target's own lock is held."""
    for partial in target.parent.glob(f".*{_PARTIAL}"):
        owner = partial.name[1:].rsplit(".", 2)[0]
        with contextlib.suppress(filelock.Timeout):
            held = (
                contextlib.nullcontext() if owner == target.name else _lock(target.with_name(owner)).acquire(timeout=0)
            )
            with held:
                shutil.rmtree(partial, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
