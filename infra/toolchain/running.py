"""Runs a program with its whole process group in hand: what is given up or interrupted leaves no child behind."""

import contextlib
import dataclasses as dc
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_TICK = 0.25


@dc.dataclass(frozen=True)
class Ended:
    """How a program ended. status: None where it was given up after the limit."""

    status: int | None
    output: str


def run(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    folder: Path | None = None,
    stderr: bool = True,
    limit: float | None = None,
    tick: Callable[[], None] = lambda: None,
) -> Ended:
    """Run a program to its end, or for `limit` seconds, and return what it printed.

    tick: called four times a second; what it raises, like a Ctrl-C, kills the program's group and goes on up.
    stderr: whether its errors are part of the output; else they are dropped.
    Raises OSError where it cannot be started.
    """
    began = time.monotonic()
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if stderr else subprocess.DEVNULL,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            while True:
                try:
                    output, _ = process.communicate(timeout=_TICK)
                except subprocess.TimeoutExpired:
                    tick()
                    if limit is not None and time.monotonic() - began > limit:
                        kill(process)
                        return Ended(None, "")
                else:
                    return Ended(process.returncode, output)
        except BaseException:
            kill(process)
            raise


def kill(process: subprocess.Popen[Any]) -> None:
    """Kill a program that leads its own group, and all of the group, and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
