"""The lock that a killed run leaves: read, judged, explained."""

import datetime as dt
import json
import os
import socket
import subprocess
from pathlib import Path

import psutil
import pytest

from infra.clusters.waiting import until
from infra.engine.locks import Lock, held_in, parse

# What pulumi 3.259 prints.
SAID = """error: the stack is currently locked by 2 lock(s). Either wait for the other process(es) to end or \
delete the lock file with `pulumi cancel`.
  file:///a%20b/.pulumi/locks/organization/kiban/local/1f8a.json?no_tmp_dir=true: created by root@vm (pid 4711) at \
2026-11-24T06:18:58Z
  s3://states/.pulumi/locks/organization/kiban/local/7b23.json: created by Ann Doe@build.example.com (pid 12) at \
2026-11-24T07:18:58+01:00
"""
NOW = dt.datetime.now(dt.UTC)


def lock(*, pid: int, host: str = socket.gethostname(), since: dt.datetime = NOW) -> Lock:
    """Return a lock held by that process."""
    return Lock(url="file:///x", user="root", host=host, pid=pid, since=since)


def test_locks_are_read_out_of_the_message() -> None:
    """Every lock is found, with its file where it is one, and time zones are understood."""
    first, second = parse(SAID)
    assert (first.user, first.host, first.pid) == ("root", "vm", 4711)
    assert first.file == Path("/a b/.pulumi/locks/organization/kiban/local/1f8a.json")
    assert (second.user, second.host, second.file) == ("Ann Doe", "build.example.com", None)
    assert first.since == second.since
    assert str(first) == "root@vm (process 4711, since 2026-11-24 06:18:58 UTC)"


def test_other_messages_name_no_lock() -> None:
    """What is not a lock is not taken for one."""
    assert parse("error: no stack named 'x' found") == ()


def test_a_living_process_holds_its_lock() -> None:
    """A lock of a process that runs is nobody's to clear."""
    assert not lock(pid=os.getpid()).stale


def test_a_dead_process_does_not() -> None:
    """A lock whose process is gone is stale."""
    gone = next(pid for pid in range(4_000_000, 1, -1) if not psutil.pid_exists(pid))
    assert lock(pid=gone).stale


def test_a_process_that_nobody_has_buried_does_not() -> None:
    """A killed process stays in the table until its parent asks for it, which a container's first process may never."""
    process = subprocess.Popen(["true"])
    until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE, seconds=10, what="the end")
    assert lock(pid=process.pid).stale
    process.wait()


def test_a_number_that_was_given_to_another_process_does_not() -> None:
    """A process that is younger than the lock is not the one that took it."""
    assert lock(pid=os.getpid(), since=NOW - dt.timedelta(days=30)).stale


@pytest.mark.parametrize("pid", [os.getpid(), 4_000_001], ids=["of a living process here", "of none"])
def test_of_other_hosts_nothing_is_known(pid: int) -> None:
    """A lock of another host is never cleared without being asked."""
    assert not lock(pid=pid, host="elsewhere").stale


def test_a_folders_locks_are_read_as_they_are_written(tmp_path: Path) -> None:
    """A file backend's locks are read as Pulumi writes them, and other backends are left to Pulumi."""
    folder = tmp_path / ".pulumi" / "locks" / "organization" / "kiban" / "local"
    folder.mkdir(parents=True)
    held = {"pid": 7, "username": "root", "hostname": "vm", "timestamp": "2026-11-24T06:18:58.123456789Z"}
    (folder / "1.json").write_text(json.dumps(held))
    (found,) = held_in(f"file://{tmp_path}", "kiban", "local")
    assert (found.pid, found.host, found.file) == (7, "vm", folder / "1.json")
    assert held_in("s3://states", "kiban", "local") == held_in(None, "kiban", "local") == ()
