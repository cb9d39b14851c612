"""Where a rehearsal happens: a ref's sources, unpacked once in the cache, and a home of its own for the cluster."""

import contextlib
import dataclasses as dc
import fcntl
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from infra import paths
from infra.errors import BadInput, CouldNotRun
from infra.toolchain import cache

Say = Callable[[str], None]
CLUSTER = "rehearsal"
WORKTREE = "worktree"
_LOCK = "lock"
_VERSIONS = 6
"""How many versions the cache keeps, the last used ones: each has a virtual environment, some 200 MB."""


@dc.dataclass(frozen=True, kw_only=True)
class Version:
    """A version of the bundle.

    root: its sources. title: as the user named it, with its commit: `v1.2 (3f2a9c1e04b7)`, `worktree`.
    commit: None for the working tree as it is.
    """

    root: Path
    title: str
    commit: str | None = None


def version(ref: str, environment: str, say: Say) -> Version:
    """The version at a git ref that has the environment. Raises BadInput for another ref."""
    found = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if found is None:
        tags = (_git("tag", "--list") or "").split()
        raise BadInput(f"{ref!r} is no commit of this repository; accepted: a tag ({_few(tags)}), branch or commit")
    commit = found.strip()
    there = (_git("ls-tree", "--name-only", commit, "kiban", "stacks/") or "").split()
    if "kiban" not in there:
        raise BadInput(f"{ref!r} ({commit[:12]}) has no Kiban in it; accepted: a commit of this bundle")
    if f"stacks/{environment}.py" not in there:
        names = [Path(each).stem for each in there if each.endswith(".py") and not Path(each).name.startswith("_")]
        raise BadInput(
            f"{environment}: {ref!r} ({commit[:12]}) has no such environment; accepted: {', '.join(names)}, or --first "
            "for an environment that runs nothing yet"
        )
    return Version(root=_unpacked(commit, say), title=f"{ref} ({commit[:12]})", commit=commit)


def working_tree() -> Version:
    """The checkout as it is, with what is not committed."""
    return Version(root=paths.ROOT, title=WORKTREE)


def refuse_changes(ref: str) -> None:
    """Raise BadInput where the working tree has changes that the ref has not: who made them expects them rehearsed."""
    changed = (_git("status", "--porcelain") or "").splitlines()
    if changed:
        raise BadInput(
            f"--to {ref}: the working tree has {len(changed)} uncommitted changes that would not be rehearsed "
            f"({_few([line[3:] for line in changed])}); accepted: commit or stash them, or --to {WORKTREE}"
        )


def _unpacked(commit: str, say: Say) -> Path:
    """The commit's files, in the cache: `./kiban` makes its virtual environment there, for every later rehearsal."""
    target = paths.cache() / "versions" / commit
    if not target.exists():
        with cache.claimed(target, f"versions/{commit[:12]}", say) as scratch:
            if not target.exists():
                made = scratch / "sources"
                words = ["git", "archive", commit]
                archive = subprocess.Popen(words, cwd=paths.ROOT, stdout=subprocess.PIPE)
                with archive, tarfile.open(fileobj=archive.stdout, mode="r|") as files:
                    files.extractall(made, filter="data")
                if archive.returncode:
                    raise CouldNotRun(f"git archive {commit}: exit status {archive.returncode}")
                cache.place(made, target)
    target.touch()
    cache.keep(target.parent, _VERSIONS)
    return target


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


def _git(*words: str) -> str | None:
    """What git prints; None where it fails. Raises CouldNotRun where there is no git, or no repository."""
    try:
        done = subprocess.run(
            ["git", *words],  # noqa: S607 - whichever git there is
            cwd=paths.ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise CouldNotRun("git is not installed; a rehearsal takes the base's sources from it") from None
    if "not a git repository" in done.stderr:
        raise CouldNotRun(f"{paths.ROOT} is no git repository; a rehearsal takes the base's sources from one")
    return done.stdout if done.returncode == 0 else None


def _few(names: list[str]) -> str:
    shown = ", ".join(names[-3:]) or "there is none"
    return f"{shown}, …" if len(names) > 3 else shown
