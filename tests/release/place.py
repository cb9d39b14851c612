"""What the tests of the record, the ladder and the approvals share: a repository, people with keys, entries."""

import dataclasses as dc
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from infra.release import record
from infra.release.entry import Begun, By, Ended, Entry, Hold, Lift, Outcome, Ref, Verb, Verdict, What

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)  # a Monday
ME = By(name="Ada", email="ada@example.org", host="desk")
HASH = "c" * 64


def ref(letter: str) -> Ref:
    """A release whose digest is of one letter."""
    return Ref(id=f"r20260302-{letter * 12}", digest=letter * 64)


ONE, TWO, THREE = ref("1"), ref("2"), ref("3")


def git(root: Path, *words: str, **environ: str) -> str:
    """Run git as Ada, whatever the machine's configuration."""
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in _ADA.items()}
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", *words],
        cwd=root,
        env={**os.environ, **who, **alone, **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


_ADA = {"NAME": "Ada", "EMAIL": "ada@example.org"}


def repository(root: Path) -> Path:
    """Make a folder a repository with one commit of Ada's."""
    root.mkdir(parents=True, exist_ok=True)
    git(root, "init", "-q", "-b", "main")
    git(root, "config", "user.name", "Ada")
    git(root, "config", "user.email", "ada@example.org")
    (root / "stacks").mkdir()
    (root / "stacks" / "signers").touch()
    commit(root, "first")
    return root


def commit(root: Path, message: str) -> str:
    """Commit all there is, and return the commit."""
    git(root, "add", "-A")
    git(root, "commit", "-q", "--allow-empty", "-m", message)
    return git(root, "rev-parse", "HEAD").strip()


def key(folder: Path, name: str) -> Path:
    """Make an SSH key without a passphrase."""
    file = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(file)], check=True)
    return file


def line(principal: str, private: Path, options: str = "") -> str:
    """A line of stacks/signers."""
    kind, public, *_ = private.with_name(f"{private.name}.pub").read_text().split()
    return " ".join(filter(None, (principal, options, kind, public))) + "\n"


def begun(
    release: Ref,
    base: Ref | None = None,
    *,
    verb: Verb = "promote",
    because: int | None = None,
    gates: tuple[Verdict, ...] = (),
) -> Begun:
    """A promotion or rollback that begins."""
    return Begun(verb=verb, release=release, base=base, gates=gates, plan=HASH, ladder=HASH, because=because)


def ended(number: int, runs: Ref | None, outcome: Outcome = "verified") -> Ended:
    """Its end."""
    return Ended(begun=number, outcome=outcome, checks=(), runs=runs)


def entry(what: What, after: timedelta = timedelta(), environment: str = "dev") -> Entry:
    """An entry by Ada, so long after START."""
    return Entry(environment=environment, at=START + after, by=ME, what=what)


def add(root: Path, *whats: What, environment: str = "dev", hours: int = 1) -> tuple[Entry, ...]:
    """Append entries, so many hours after one another, to what is there."""
    for what in whats:
        there = record.read(root, environment)
        at = there[-1].at + timedelta(hours=hours) if there else START
        record.append(root, Entry(environment=environment, at=at, by=ME, what=what))
    return record.read(root, environment)


def placed(*whats: What, environment: str = "dev", hours: int = 1) -> tuple[Entry, ...]:
    """Entries as a record would have them, so many hours after one another, without a file."""
    found: list[Entry] = []
    for number, what in enumerate(whats, 1):
        previous = found[-1].hash if found else record.origin(environment)
        one = entry(what, timedelta(hours=hours * (number - 1)), environment)
        found.append(dc.replace(one, number=number, previous=previous))
    return tuple(found)


STORY: tuple[What, ...] = (
    begun(ONE),
    ended(1, ONE),
    Hold(reason="exhibition"),
    Lift(reason="over"),
    begun(TWO, ONE),
    ended(5, None, "failed"),
    begun(ONE, None, verb="rollback", because=5),
    ended(7, ONE),
)
"""A release comes in, a hold comes and goes, a second release fails and is taken back."""
