"""How long it takes to see what runs where, and what a promotion would change: nothing here asserts a time.

Executed: git, ssh-keygen, and for a promotion an API server and Pulumi's engine. Simulated: the cluster's nodes.
"""

import datetime as dt
import itertools
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.release.contents import contents
from tests.checkout import ROOT, Checkout, checked_out
from tests.conftest import Record
from tests.release.bundle import LAUNCHER, allow, bundle, commit, git, key
from tests.release.history import promotions, released, write

ENVIRONMENTS = ("local", "ci", "dev", "staging", "prod")
ENTRIES, RELEASES = 200, 50
LOWEST = "rungs:\n  - {environment: local, gates: {}}\n"
RUNG = """
  - environment: {name}
    after: {below}
    gates:
      signed: true
      max_age: 365d
      soak: 1h
      rehearsed: true
      drift: none
      approvals: {{count: 1}}
      freeze:
        - {{days: [sat, sun], from: "00:00", until: "00:00", zone: Europe/Berlin, why: the weekend}}
"""

UNDRIFTED = "rungs:\n  - {environment: dev, gates: {drift: none}}\n"
ON = "dev-stand-in"


@pytest.fixture
def repository(tmp_path: Path) -> Checkout:
    """Return a repository with five environments on a ladder, RELEASES releases and ENTRIES entries a record.

    Each environment runs one release less than the one below it, so that at every rung one could come in.
    """
    root = bundle(tmp_path / "repository")
    checkout = Checkout(root)
    rungs = [RUNG.format(name=name, below=below) for below, name in itertools.pairwise(ENVIRONMENTS)]
    (root / "stacks" / "ladder.yaml").write_text(LOWEST + "".join(rungs))
    ann = key(tmp_path / "keys", "ann")
    allow(root / "stacks" / "signers", "ann@example.org", ann)
    checkout.environ.update(GIT_COMMITTER_NAME="Ann", GIT_COMMITTER_EMAIL="ann@example.org")
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    told = contents(ROOT)
    made = [released(root, now - dt.timedelta(days=100 - number), told) for number in range(RELEASES)]
    for number, name in enumerate(ENVIRONMENTS, 1):
        refs = [each.ref for each in made[:-number]]
        turns = [refs[turn % len(refs)] for turn in range(ENTRIES // 2 - 1)]
        write(root, name, promotions([*turns, refs[-1]]), now - dt.timedelta(days=60), dt.timedelta(hours=6))
    for number, name in enumerate(ENVIRONMENTS[1:], 1):
        checkout.run("approve", made[-number - 1].id, name, "--key", str(ann))
    return checkout


def test_the_status_of_five_environments(repository: Checkout, record: Record) -> None:
    """With long records, many releases, and a release at every rung that could come in."""
    seconds: list[float] = []
    for _ in range(3):
        began = time.monotonic()
        items = repository.json("status")["items"]
        seconds.append(time.monotonic() - began)
    assert [item["environment"] for item in items] == list(ENVIRONMENTS)
    assert all(item["runs"] and item["next"] for item in items)
    record(
        line="9.5 status",
        evidence="executed",
        figure=f"{statistics.median(seconds):.2f} s ({ENTRIES} entries a record, {RELEASES} releases)",
        goal="≤ 2 s for five environments",
        command="./kiban status",
    )


@pytest.fixture
def promoted(tmp_path: Path) -> Iterator[tuple[Checkout, str]]:
    """Yield a repository whose release runs in dev, on a cluster with simulated nodes, and the release."""
    with checked_out(tmp_path / "repository") as checkout:
        checkout.environ["KIBAN_NETNS"] = "0"
        (checkout.root / "kiban").write_text(LAUNCHER)
        (checkout.root / "stacks" / "ladder.yaml").write_text(UNDRIFTED)
        git(checkout.root, "init", "--quiet")
        git(checkout.root, "config", "user.name", "Ann")
        git(checkout.root, "config", "user.email", "ann@example.org")
        commit(checkout.root)
        (item,) = checkout.json("release", "cut")["items"]
        checkout.run("cluster", "up", ON, "--env", "dev")
        checkout.run("promote", item["release"], "dev", "--on", ON, "--yes")
        yield checkout, item["release"]


def test_a_promotion_with_nothing_to_do(promoted: tuple[Checkout, str], record: Record) -> None:
    """Judged, with a look for drift, and planned by the release's own commit."""
    checkout, release = promoted
    seconds: list[float] = []
    for _ in range(3):
        began = time.monotonic()
        items = checkout.json("promote", release, "dev", "--on", ON, "--dry-run")["items"]
        seconds.append(time.monotonic() - began)
    outcomes = {item["gate"]: item["gate_outcome"] for item in items if "gate" in item}
    assert outcomes["drift"] == "passed"
    assert [item for item in items if "change" in item] == []
    (plan,) = (item for item in items if "plan" in item)
    record(
        line="9.5 promote --dry-run, nothing to do",
        evidence="executed",
        figure=f"{statistics.median(seconds):.1f} s ({plan['counts'].get('unchanged')} objects of dev)",
        goal="≤ 15 s",
        command="./kiban promote RELEASE dev --dry-run",
    )
