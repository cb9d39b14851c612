"""Versions of the bundle: a commit's sources, unpacked once in the cache, whose own verbs run as processes.

What a version is run for is not said here: a rehearsal (infra/rehearsal) and a release (infra/release) do that.
"""

import dataclasses as dc
import json
import os
import signal
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from infra import git, paths, tied
from infra.errors import BadInput, CouldNotRun, Interrupted
from infra.toolchain import cache

Say = Callable[[str], None]
_FOREIGN = ("KIBAN_CLUSTER", "KIBAN_SHELL", "PULUMI_", "KUBECONFIG", "KUBECACHEDIR", "VIRTUAL_ENV")
"""What leads a verb to another cluster or backend than the version's caller means."""
_PROGRAM = ("charts", "components", "infra", "pipelines", "stacks")
"""Where a file that the commit has not would be part of the program."""
_TAIL = 5
RELEASES, LADDER, SIGNERS = "releases", "stacks/ladder.yaml", "stacks/signers"
AGREED = (RELEASES, LADDER, SIGNERS)
"""No part of a version: what was released and recorded, how it climbs, and who has a say."""
_KEPT = 6
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


def commit(root: Path, ref: str) -> str:
    """The hash of the commit that a git ref names. Raises BadInput for a ref that names none, or one without Kiban."""
    found = git.answer(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if found is None:
        tags = (git.answer(root, "tag", "--list") or "").split()
        raise BadInput(f"{ref!r} is no commit of this repository; accepted: a tag ({few(tags)}), branch or commit")
    named = found.strip()
    if not has(root, named, "kiban"):
        raise BadInput(f"{ref!r} ({named[:12]}) has no Kiban in it; accepted: a commit of this bundle")
    return named


def has(root: Path, commit: str, path: str) -> bool:
    """Whether a commit has a file or folder."""
    return bool(git.answer(root, "ls-tree", "--name-only", commit, path))


def at(root: Path, ref: str, say: Say) -> Version:
    """The version at a git ref: its files are in the cache, where `./kiban` makes its virtual environment once.

    Raises BadInput as `commit` does, CouldNotRun where somebody has changed the files in the cache.
    """
    named = commit(root, ref)
    target = paths.cache() / "versions" / named
    if not target.exists():
        with cache.claimed(target, f"versions/{named[:12]}", say) as scratch:
            if not target.exists():
                made = scratch / "sources"
                words = ["git", "archive", named]
                with subprocess.Popen(words, cwd=root, stdout=subprocess.PIPE) as archive:
                    with tarfile.open(fileobj=archive.stdout, mode="r|") as files:
                        files.extractall(made, filter="data")
                    if archive.stdout:
                        archive.stdout.read()  # what pads the end: git would die of nobody reading it
                if archive.returncode:
                    raise CouldNotRun(f"git archive {named}: exit status {archive.returncode}")
                cache.place(made, target)
    target.touch()
    cache.keep(target.parent, _KEPT)
    _refuse_changed(root, target, named)
    return Version(root=target, title=f"{ref} ({named[:12]})", commit=named)


def _refuse_changed(root: Path, unpacked: Path, commit: str) -> None:
    """Raise CouldNotRun where the unpacked program is not the commit's: it would be run in the commit's name."""
    repository = (git.answer(root, "rev-parse", "--absolute-git-dir") or "").strip()
    with tempfile.TemporaryDirectory() as scratch:
        index = {"GIT_INDEX_FILE": f"{scratch}/index"}
        words = (f"--git-dir={repository}", "--work-tree=.")
        git.answer(unpacked, *words, "read-tree", commit, **index)
        tracked = git.answer(unpacked, *words, "ls-files", "--modified", **index)
        others = git.answer(unpacked, *words, "ls-files", "--others", "--exclude-standard", "--", *_PROGRAM, **index)
    if tracked is None or others is None:
        raise CouldNotRun(f"{unpacked}: git cannot compare it with {commit[:12]}; remove the folder and run again")
    if changed := [*tracked.splitlines(), *others.splitlines()]:
        raise CouldNotRun(
            f"{unpacked} is no longer what {commit[:12]} has ({few(changed)}); remove the folder and run again"
        )


def changes(root: Path) -> list[str]:
    """The files of the working tree that are not as in HEAD, but for those of AGREED."""
    said = git.answer(root, "status", "--porcelain", "--", *(f":(exclude){each}" for each in AGREED))
    if said is None:
        raise CouldNotRun(f"{root}: git cannot say what is not committed; accepted: a clone with a working tree")
    return [line[3:] for line in said.splitlines()]


def few(names: Sequence[str]) -> str:
    """The last three names, for a message of one line."""
    shown = ", ".join(names[-3:]) or "there is none"
    return f"{shown}, …" if len(names) > 3 else shown


def environ() -> dict[str, str]:
    """The environment variables of this process, without those that lead a verb elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}


def run(version: Version, *words: str, environ: Mapping[str, str], say: Say) -> tuple[int, dict[str, Any]]:
    """Run a verb of a version and return its exit status and document. It ends where this process does."""
    command = tied.command([str(version.root / "kiban"), *words, "--json"], dies_by=signal.SIGTERM)
    with subprocess.Popen(
        command,
        cwd=version.root,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a Ctrl-C in the terminal is for this process, which ends that one
    ) as process:
        last: list[str] = []
        reader = threading.Thread(target=_pass_on, args=(process, last, say), daemon=True)
        reader.start()
        try:
            printed = process.stdout.read() if process.stdout else ""
            process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise
        reader.join()
    if process.returncode == Interrupted.exit_status:
        raise Interrupted(f"`kiban {' '.join(words)}` was interrupted")
    try:
        return process.returncode, json.loads(printed)
    except ValueError:
        said = " | ".join(last) or "nothing"
        status = process.returncode or CouldNotRun.exit_status
        return status, {"items": [], "error": f"`kiban {words[0]}` of {version.title}: {said}"}


def _pass_on(process: subprocess.Popen[str], last: list[str], say: Say) -> None:
    for line in process.stderr or ():
        last[:] = [*last, line.rstrip()][-_TAIL:]
        say(f"  {line.rstrip()}")
