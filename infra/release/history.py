"""What git's history knows of the files of a record."""

from pathlib import Path

from infra.errors import CouldNotRun
from infra.git import output


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
