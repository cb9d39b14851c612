"""`kiban rehearse` as a user runs it: every environment, side by side, faults, kills, and input that cannot be used."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
from pyroute2 import netns

from infra.rehearsal.faults import FAULTS
from tests.checkout import Checkout, copy_to
from tests.conftest import Record

FIRST = "v0.1.0"
EVERY = ("ci", "dev", "local", "prod", "staging")
GOAL = 120
TESTED = {"admission", "idempotent", "rollback", "destroy", "schedulable", "pools-admit", "ready", "in-flight"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Yield a checkout with git, whose first release is what the sources are now, and whose working tree is one on."""
    clean = copy_to(tmp_path_factory.mktemp("repository"))
    clean.shell(
        "git init --quiet && git add --all && git -c user.name=a -c user.email=a@b commit --quiet -m first "
        f"&& git -c user.name=a -c user.email=a@b tag --annotate {FIRST} -m first"
    )
    for name in EVERY:
        file = clean.root / "stacks" / f"{name}.py"
        file.write_text(file.read_text().replace("expire_days=", "expire_days=1 + "))
    yield clean
    leave_nothing(clean)


def leave_nothing(checkout: Checkout) -> None:
    """Assert that no process, interface or folder of a rehearsal is there."""
    marker = str(checkout.root / ".kiban" / "rehearsals")
    running = [
        p.info["cmdline"] for p in psutil.process_iter(["cmdline"]) if marker in " ".join(p.info["cmdline"] or ())
    ]
    assert not running
    assert not (checkout.root / ".kiban" / "rehearsals").exists()


def rehearse(checkout: Checkout, environment: str, *options: str) -> dict[str, Any]:
    """Rehearse an environment's next version and return the document."""
    done = checkout.run("rehearse", environment, "--from", FIRST, *options, "--json", expect=None)
    assert done.returncode in (0, 1), done.stderr[-4000:]
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def clean(document: dict[str, Any]) -> None:
    """Assert that a rehearsal found nothing, and that it could have."""
    findings = [item for item in document["items"] if "finding" in item]
    assert document["ok"], json.dumps(findings, indent=1)
    assert not findings
    steps = [item["step"] for item in document["items"] if "ok" in item and "seconds" in item]
    assert steps == ["install", "upgrade", "second up", "rollback", "upgrade again", "destroy"]


@pytest.mark.full
@pytest.mark.parametrize("environment", EVERY)
def test_an_environments_upgrade_is_rehearsed(repository: Checkout, environment: str, record: Record) -> None:
    """From its first release to the working tree, with all steps, and without a finding."""
    began = time.monotonic()
    document = rehearse(repository, environment, "--markdown", "report.md", "--junit", "report.xml")
    seconds = time.monotonic() - began
    clean(document)
    checks = {item["check"]: item for item in document["items"] if "check" in item and "evidence" in item}
    untested = sorted(name for name, check in checks.items() if check["outcome"] == "not-tested")
    record(
        line=f"8.1 rehearse {environment}",
        evidence="executed",
        figure=f"{seconds:.0f} s; {len(checks) - len(untested)} checks; not tested: {', '.join(untested) or 'none'}",
        goal=f"≤ {GOAL} s for prod",
        command=f"./kiban rehearse {environment} --from {FIRST}",
    )
    assert checks.keys() - set(untested) >= TESTED
    assert (repository.root / "report.md").read_text().startswith(f"**{environment}: clean")
    assert "<testsuites" in (repository.root / "report.xml").read_text()
    leave_nothing(repository)


@pytest.mark.full
def test_environments_are_rehearsed_side_by_side(repository: Checkout) -> None:
    """Two at once, and neither notices the other."""
    with ThreadPoolExecutor(2) as pool:
        for document in pool.map(lambda name: rehearse(repository, name), ("dev", "local")):
            clean(document)
    leave_nothing(repository)


@pytest.mark.full
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_ends_in_convergence_or_a_finding(repository: Checkout, fault: str, record: Record) -> None:
    """And is said to have been there."""
    document = rehearse(repository, "local", "--fault", fault)
    findings = [item["finding"] for item in document["items"] if "finding" in item]
    told = next(item["faults"] for item in document["items"] if "faults" in item)
    record(
        line=f"8.5 --fault {fault}",
        evidence="executed",
        figure=f"{told[0]}; {', '.join(findings) or 'converged'}",
        goal="convergence or a named finding",
        command=f"./kiban rehearse local --from {FIRST} --fault {fault}",
    )
    assert told[0].startswith(f"{fault}: the upgrade ")
    assert document["ok"] is not bool(findings)
    leave_nothing(repository)


@pytest.mark.parametrize("seconds", [20, *(pytest.param(at, marks=pytest.mark.full) for at in range(2, 160, 17))])
def test_a_killed_rehearsal_leaves_nothing_to_the_next_command(repository: Checkout, seconds: int) -> None:
    """Killed anywhere: the next command of any kind removes its cluster, processes, interfaces and folder."""
    before = set(netns.listnetns())
    command = ["./kiban", "rehearse", "local", "--from", FIRST]
    with subprocess.Popen(
        command,
        cwd=repository.root,
        env=repository.variables(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        os.kill(process.pid, signal.SIGKILL)
    repository.run("environments")
    leave_nothing(repository)
    assert set(netns.listnetns()) <= before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prod"], "nothing says what it runs now; accepted: --from REF"),
        (["prod", "--from", "v9"], "'v9' is no commit of this repository; accepted: a tag (v0.1.0)"),
        (["qa", "--from", FIRST], "environment 'qa'; accepted: ci, dev, local, prod, staging"),
        (["prod", "--from", FIRST, "--to", FIRST], "uncommitted changes that would not be rehearsed"),
        (["prod", "--from", FIRST, "--fault", "flood"], "--fault flood; accepted: webhook-down"),
        (["prod", "--from", FIRST, "--first"], "nothing says what it runs now"),
        (["local", "--from", "broken"], "parallelism_per_team=0"),
    ],
    ids=["no base", "no such ref", "no such environment", "dirty", "no such fault", "two bases", "a base that fails"],
)
def test_bad_input_is_refused(repository: Checkout, words: list[str], said: str) -> None:
    """In one line, with status 2, and nothing is left."""
    if "broken" in words:
        break_a_base(repository)
    done = repository.run("rehearse", *words, expect=2)
    assert said in done.stderr.splitlines()[-1]
    leave_nothing(repository)


def break_a_base(repository: Checkout) -> None:
    """Commit an environment that its own schema refuses, on a branch."""
    other = repository.root.with_name("broken")
    shutil.rmtree(other, ignore_errors=True)
    repository.shell(
        f"git worktree prune; git worktree add --quiet --force -B broken {other} {FIRST}; cd {other}; "
        "sed -i 's/parallelism_per_team=10/parallelism_per_team=0/' stacks/local.py; "
        "git -c user.name=a -c user.email=a@b commit --quiet --all -m broken"
    )
