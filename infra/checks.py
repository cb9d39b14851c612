"""What `kiban test` runs: the linter, the type checker, and pytest over unit, integration and acceptance tests.

Everything runs on this machine: real tools, a real control plane, the real engine, on loopback or in network
namespaces that the tests make.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from infra import paths, system, toolchain
from infra.console import say
from infra.errors import RunFailed

_BIN = Path(sys.executable).parent


def run(*, full: bool, report: str | None, arguments: Sequence[str]) -> None:
    """Run every check in order and stop at the first that fails.

    full: every number and scale; else each acceptance line in its smallest form.
    report: a file to which each acceptance line's outcome is appended, one JSON object a line.
    arguments: passed to pytest; where any are given, pytest alone is run.
    Raises RunFailed naming the check.
    """
    if not system.no_real_node():
        system.ensure(say=say)
    toolchain.resolve(*toolchain.TOOLS, say=say)
    if not arguments:
        _check("ruff", "check", "--quiet")
        _check("ruff", "format", "--check", "--quiet")
        _check("mypy")
    options = [*(["--full"] if full else []), *(["--report", str(Path(report).absolute())] if report else [])]
    _check("pytest", *options, *arguments)


def _check(program: str, *words: str) -> None:
    say(f"test: {' '.join((program, *words))}")
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([_BIN / program, *words], cwd=paths.ROOT, env=environ, check=False)
    if done.returncode != 0:
        raise RunFailed(f"`{' '.join((program, *words))}` ended with exit status {done.returncode}; see above")
