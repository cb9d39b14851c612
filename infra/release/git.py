"""What git knows of the repository at a root."""

import subprocess
from pathlib import Path

from infra.errors import CouldNotRun


def output(root: Path, *words: str, stdin: str | None = None) -> str:
    """What `git WORDS` prints, run at the root. Raises CouldNotRun, in one line, where it fails."""
    try:
        done = subprocess.run(
            ["git", *words],  # noqa: S607 - whichever git there is
            cwd=root,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise CouldNotRun("git is not installed; what happened to a record is asked of it") from None
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise CouldNotRun(f"`git {' '.join(words)}`: {said}")
    return done.stdout


def entered(root: Path, folder: str) -> dict[str, dict[str, str]]:
    """Every content that HEAD's history ever gave the files below a folder: path to blob to the commit that brought it.

    Merges are looked at from each parent: else git leaves out what a merge threw away, and what it alone had.
    Raises CouldNotRun for a shallow clone, whose history says nothing of what is gone.
    """
    if output(root, "rev-parse", "--is-shallow-repository").strip() == "true":
        raise CouldNotRun(
            "the clone is shallow, so what was removed cannot be seen; accepted: a whole one (git fetch --unshallow)"
        )
    found: dict[str, dict[str, str]] = {}
    if not output(root, "rev-parse", "--revs-only", "HEAD"):
        return found
    shown = ("--full-history", "-m", "--raw", "--no-renames", "--no-abbrev", "--relative", "--format=%H")
    commit = ""
    for line in output(root, "-c", "log.showRoot=true", "log", *shown, "HEAD", "--", folder).splitlines():
        if not line.startswith(":"):
            commit = line or commit
            continue
        fields, path = line.split("\t", 1)
        blob = fields.split()[3]
        if blob.strip("0"):
            found.setdefault(path, {})[blob] = commit  # newest first: what stays is the oldest
    return found


def blobs(root: Path, paths: list[str]) -> dict[str, str]:
    """What git would call the contents of these files, which are there."""
    absolute = "".join(f"{root.absolute() / path}\n" for path in paths)  # else from the top of the repository
    listed = output(root, "hash-object", "--no-filters", "--stdin-paths", stdin=absolute)
    return dict(zip(paths, listed.split(), strict=True))
