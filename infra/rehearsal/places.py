"""Where a rehearsal happens: a ref's sources, unpacked once in the cache, and a home of its own for the cluster."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from infra import git, paths, versions
from infra.errors import BadInput, CouldNotRun
from infra.versions import Say, Version

CLUSTER = "rehearsal"
WORKTREE = "worktree"
_LOCK = "lock"


def version(ref: str, environment: str, say: Say) -> Version:
    """The version at a git ref that has the environment. Raises BadInput for another ref."""
    commit = versions.commit(paths.ROOT, ref)
    if not versions.has(paths.ROOT, commit, f"stacks/{environment}.py"):
        there = (git.answer(paths.ROOT, "ls-tree", "--name-only", commit, "stacks/") or "").split()
        names = [Path(each).stem for each in there if each.endswith(".py") and not Path(each).name.startswith("_")]
        raise BadInput(
            f"{environment}: {ref!r} ({commit[:12]}) has no such environment; accepted: {', '.join(names)}, or --first "
            "for an environment that runs nothing yet"
        )
    return versions.at(paths.ROOT, ref, say)


def working_tree() -> Version:
    """The checkout as it is, with what is not committed."""
    return Version(root=paths.ROOT, title=WORKTREE)


def refuse_changes(ref: str) -> None:
    """Raise BadInput where the working tree has changes that the ref has not: who made them expects them rehearsed."""
    if changed := versions.changes(paths.ROOT):
        raise BadInput(
            f"--to {ref}: the working tree has {len(changed)} uncommitted changes that would not be rehearsed "
            f"({versions.few(changed)}); accepted: commit or stash them, or --to {WORKTREE}"
        )


@contextlib.contextmanager
def home(environment: str, say: Say) -> Iterator[Path]:
    """A KIBAN_HOME for the environment's rehearsal; it and its cluster are gone afterwards.

    Raises CouldNotRun while another process rehearses the environment.
    """
    where = paths.home() / "rehearsals" / environment
    where.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        if not _held(where, stack):
            raise CouldNotRun(f"{environment} is being rehearsed by another process; wait for it to end")
        clear(where, say)
        try:
            yield where
        finally:
            clear(where, say)
            _remove(where)


def sweep(say: Say) -> None:
    """Remove what rehearsals left that were killed."""
    for where in sorted((paths.home() / "rehearsals").glob("*")):
        with contextlib.ExitStack() as stack:
            if _held(where, stack):
                say(f"rehearsal of {where.name}: removing what a killed run has left")
                clear(where, say)
                _remove(where)


def _held(where: Path, stack: contextlib.ExitStack) -> bool:
    """Take the folder for this process until the stack is closed; False where another one has it."""
    try:
        descriptor = os.open(where / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return False
    stack.callback(os.close, descriptor)
    with contextlib.suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), (where / _LOCK).stat())  # else another one has just removed it
    return False


def clear(where: Path, say: Say) -> None:
    """Take down what a home has, and leave it empty."""
    from infra.clusters import embedded  # noqa: PLC0415 - every verb sweeps, and hardly ever finds anything

    with within(where):
        if embedded.names() or embedded.folder(CLUSTER).exists():
            embedded.down(CLUSTER, say=say)
    for each in where.iterdir():
        if each.is_dir():
            shutil.rmtree(each)
        elif each.name != _LOCK:
            each.unlink()


def _remove(where: Path) -> None:
    shutil.rmtree(where, ignore_errors=True)
    with contextlib.suppress(OSError):  # others are rehearsed, or other state is there
        where.parent.rmdir()
        where.parent.parent.rmdir()


@contextlib.contextmanager
def within(where: Path) -> Iterator[None]:
    """Make a folder this process' KIBAN_HOME."""
    before = os.environ.get("KIBAN_HOME")
    os.environ["KIBAN_HOME"] = str(where)
    try:
        yield
    finally:
        os.environ.pop("KIBAN_HOME")
        if before is not None:
            os.environ["KIBAN_HOME"] = before
