"""A repository of its own with this bundle in it, as its users have one, and keys to sign with."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from infra.cli import main
from tests.checkout import copy_to

WHO = {
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.org",
    "GIT_COMMITTER_NAME": "Ann",
    "GIT_COMMITTER_EMAIL": "ann@example.org",
    "GIT_CONFIG_GLOBAL": os.devnull,
}
# As ./kiban, but with the tests' libraries: a virtual environment a commit would take a quarter of a minute each. The
# path is whole, since Pulumi runs the program in another folder, where this process' own sources would be found.
LAUNCHER = f"""#!/bin/sh
PYTHONPATH=$(cd "$(dirname "$0")" && pwd) exec {sys.executable} -c 'from infra.cli import main; main()' "$@"
"""


def git(root: Path, *words: str, **environ: str) -> str:
    """Run git in a repository and return what it printed."""
    done = subprocess.run(
        ["git", *words], cwd=root, check=True, capture_output=True, text=True, env={**os.environ, **WHO, **environ}
    )
    return done.stdout.strip()


def commit(root: Path, message: str = "a change", **environ: str) -> str:
    """Commit all there is and return the commit's hash."""
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "-m", message, **environ)
    return git(root, "rev-parse", "HEAD")


def bundle(root: Path) -> Path:
    """Make a repository with one commit: this bundle as it is."""
    root.mkdir()
    copy_to(root)
    (root / "kiban").write_text(LAUNCHER)
    git(root, "init", "--quiet")
    commit(root, "the bundle", GIT_COMMITTER_DATE="2026-03-01T23:30:00-02:00")
    return root


def kiban(*words: str) -> tuple[int, dict[str, Any]]:
    """Run a verb of this process' code and return its exit status and document."""
    done = CliRunner().invoke(main, [*words, "--json"])
    return done.exit_code, json.loads(done.stdout)


def replace(file: Path, old: str, new: str) -> None:
    """Change a file's text where it says `old`, which it must."""
    text = file.read_text()
    assert old in text, f"{file} does not say {old!r}"
    file.write_text(text.replace(old, new))


def key(folder: Path, name: str) -> Path:
    """Make a real key that has no passphrase."""
    made = folder / name
    with contextlib.suppress(FileExistsError):
        folder.mkdir(parents=True)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(made)], check=True, capture_output=True
    )
    return made


def allow(signers: Path, principal: str, key: Path, options: str = "") -> None:
    """Add a key to a list of those who may sign."""
    kind, public, _ = key.with_suffix(".pub").read_text().split(" ")
    with signers.open("a") as opened:
        opened.write(f"{principal} {options}{' ' if options else ''}{kind} {public}\n")
