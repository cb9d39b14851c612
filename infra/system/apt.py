"""Runs apt-get so that it asks nothing, restarts nothing, waits for others of its kind, and is never cut off.

Not for what is to be installed: that is packages.py's matter.
"""

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import IO

Say = Callable[[str], None]

_INTERVAL = 15.0  # seconds between two lines of progress
_PATIENCE = 600.0  # seconds for another apt to end
_LOCKED = re.compile(r"Could not get lock (.+)")
_STALE = re.compile(r"Unable to locate package|has no installation candidate|Unable to fetch some archives")
_ERRORS = ("E: ", "dpkg: error")
_UPDATE = ("apt-get", "update", "--option=APT::Update::Error-Mode=any")
_QUIET = {
    "LC_ALL": "C",
    "DEBIAN_FRONTEND": "noninteractive",
    "NEEDRESTART_SUSPEND": "1",  # Ubuntu 24.04 restarts every service that uses an upgraded library
}
_KEEP = "--option=Dpkg::Options::=--force-confold"  # dpkg asks about a settings file, whatever the frontend


def install(command: Sequence[str], *, path: str, say: Say) -> str | None:
    """Run the command, with new package lists where those that are here do not do. Why it failed, in apt's words.

    path: where apt and dpkg find their programs.
    No policy-rc.d is made against services: of a real node's packages, nftables and containernetworking-plugins bring
    some, which Debian leaves disabled.
    """
    status, output = _run_unlocked(command, path=path, say=say)
    if status != 0 and _STALE.search(output):
        updated, news = _run_unlocked(_UPDATE, path=path, say=say)
        status, output = _run_unlocked(command, path=path, say=say)
        if updated != 0:
            output = news  # the cause, where the installation fails again
    if status == 0:
        return None
    errors = [line.removeprefix("E: ").strip() for line in output.splitlines() if line.startswith(_ERRORS)]
    return (errors or [f"it ended with status {status}"])[0]


def _run_unlocked(command: Sequence[str], *, path: str, say: Say) -> tuple[int, str]:
    """Run apt once no other one does; its status and output.

    DPkg::Lock::Timeout is no help: apt 2.6 does not heed it for the lock of the package lists.
    """
    began = time.monotonic()
    spoke = float("-inf")
    while True:
        status, output = _run(command, path=path, say=say)
        locked = _LOCKED.search(output)
        now = time.monotonic()
        if status == 0 or not locked or now - began > _PATIENCE:
            return status, output
        if now - spoke > _INTERVAL:
            spoke = now
            say(f"waiting for another apt, {now - began:.0f} s: {locked[1]}")
        time.sleep(1)


def _run(command: Sequence[str], *, path: str, say: Say) -> tuple[int, str]:
    """Run apt to its end; its status and output.

    In a session of its own and writing into a file, not a pipe: it finishes even where Kiban is killed.
    """
    began = time.monotonic()
    with tempfile.TemporaryFile("a+", errors="replace") as output:
        process = subprocess.Popen(
            [*command, _KEEP],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_QUIET, "PATH": path},
            start_new_session=True,
        )
        try:
            while not _ended(process):
                say(f"{command[0]} {command[1]}, {time.monotonic() - began:.0f} s: {_last_line(output)}")
        except KeyboardInterrupt:
            say("letting apt leave its packages in order")
            process.send_signal(signal.SIGINT)  # heeded between two packages
            process.wait()
            raise
        return process.returncode, _read(output)


def _ended(process: "subprocess.Popen[bytes]") -> bool:
    try:
        process.wait(_INTERVAL)
    except subprocess.TimeoutExpired:
        return False
    return True


def _last_line(output: IO[str]) -> str:
    return (_read(output).strip().splitlines() or ["starting"])[-1].strip()


def _read(output: IO[str]) -> str:
    """All of a file that another process appends to."""
    output.seek(0)
    return output.read()
