"""Asking git: what it prints, or why it does not."""

import os
import subprocess
from pathlib import Path

from infra.errors import CouldNotRun


class Failed(CouldNotRun):
    """Git ran, and said no."""


def output(root: Path, *words: str, stdin: str | None = None, **environ: str) -> str:
    """What `git WORDS` prints, run at the root, with these variables besides.

    Raises, in one line, Failed where git fails, and CouldNotRun where there is no git, or no repository.
    """
    try:
        done = subprocess.run(
            ["git", *words],  # noqa: S607 - whichever git there is
            cwd=root,
            env={**os.environ, **environ},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise CouldNotRun("git is not installed; versions, releases and records are read by it") from None
    if "not a git repository" in done.stderr:
        raise CouldNotRun(f"{root} is no git repository; accepted: a clone")
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise Failed(f"`git {' '.join(words)}`: {said}")
    return done.stdout


def answer(root: Path, *words: str, **environ: str) -> str | None:
    """As `output`; None where git fails."""
    try:
        return output(root, *words, **environ)
    except Failed:
        return None
