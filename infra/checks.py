"""What `kiban test` runs: the linter, the type checker, and pytest over unit, integration and acceptance tests.

Everything runs on this machine: real tools, a real control plane, the real engine, on loopback or in network
namespaces that the tests make.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from infra import paths, system, toolchain
from infra.console import say
from infra.errors import RunFailed

_BIN = Path(sys.executable).parent
_CLUSTERS = ("tests/integration", "tests/acceptance")
"""What brings clusters up: one test at a time, and after all others, which are done in minutes."""
_FIGURES = "tests/bench"


def run(*, full: bool, report: str | None, arguments: Sequence[str]) -> None:
    """Run every check in order and stop at the first that fails.

    full: every number and scale, and the benchmarks; else each acceptance line in its smallest form.
    report: a file to which each acceptance line's outcome is appended, one JSON object a line.
    arguments: passed to pytest; where any are given, pytest alone is run.
    Raises RunFailed naming the check.
    """
    if not system.no_real_node():
        system.ensure(say=say)
    begun = time.monotonic()
    toolchain.resolve(*toolchain.TOOLS, say=say)
    say(f"test: tools after {time.monotonic() - begun:.0f} s")
    options = [*(["--full"] if full else []), *(["--report", str(Path(report).absolute())] if report else [])]
    if arguments:
        _check("pytest", *options, *arguments)
        return
    _check("ruff", "check", "--quiet")
    _check("ruff", "format", "--check", "--quiet")
    _check("mypy")
    others = (f"--ignore={each}" for each in (*_CLUSTERS, _FIGURES))
    _check("pytest", *options, "--numprocesses=auto", "--dist=loadfile", *others)
    _check("pytest", *options, *_CLUSTERS, *([_FIGURES] if full else []))


def _check(program: str, *words: str) -> None:
    say(f"test: {' '.join((program, *words))}")
    done = subprocess.run([_BIN / program, *words], cwd=paths.ROOT, check=False)
    if done.returncode != 0:
        raise RunFailed(f"`{' '.join((program, *words))}` ended with exit status {done.returncode}; see above")
