"""What `kiban test` runs: the linter, the type checker, and pytest over unit, integration and acceptance tests.

Everything runs on this machine: real tools, a real control plane, the real engine, on loopback or in network
namespaces that the tests make.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from infra import paths, system, toolchain
from infra.console import say
from infra.errors import RunFailed

_BIN = Path(sys.executable).parent
_ON_CLUSTERS = ("acceptance", "integration", "bench")
"""Folders of tests/ whose tests start clusters, and wait for them most of the time."""


def run(*, full: bool, report: str | None, arguments: Sequence[str]) -> None:
    """Run every check, those that start no cluster beside those that do, and stop at the first that fails.

    full: every number and scale; else each acceptance line in its smallest form.
    report: a file to which each acceptance line's outcome is appended, one JSON object a line.
    arguments: passed to pytest; where any are given, pytest alone is run.
    Raises RunFailed naming the check.
    """
    if not system.no_real_node():
        system.ensure(say=say)
    toolchain.resolve(*toolchain.TOOLS, say=say)
    options = [*(["--full"] if full else []), *(["--report", str(Path(report).absolute())] if report else [])]
    if arguments:
        _check("pytest", *options, *arguments)
        return
    _check("ruff", "check", "--quiet")
    _check("ruff", "format", "--check", "--quiet")
    _check("mypy")
    tests = sorted((paths.ROOT / "tests").glob("[!_]*"))
    with _beside("pytest", *options, *(f"tests/{each.name}" for each in tests if _is_unit(each))):
        _check("pytest", *options, *(f"tests/{name}" for name in _ON_CLUSTERS))


def _is_unit(tests: Path) -> bool:
    """Whether a folder or file has tests that start no cluster."""
    return tests.name not in _ON_CLUSTERS and (tests.is_dir() or tests.name.startswith("test_"))


@contextlib.contextmanager
def _beside(program: str, *words: str) -> Iterator[None]:
    """Run a check while the block runs, which waits more than it computes; what it prints follows the block's."""
    title = " ".join((program, *words))
    say(f"test: beside the next: {title}")
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(
            ["nice", "-n", "10", str(_BIN / program), *words],  # noqa: S607 - POSIX
            cwd=paths.ROOT,
            env=_environ(),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        ) as other:
            try:
                yield
            finally:
                other.wait()
                said.seek(0)
                say(said.read().decode(errors="replace"))
        if other.returncode != 0:
            raise RunFailed(f"`{title}` ended with exit status {other.returncode}; see above")


def _check(program: str, *words: str) -> None:
    say(f"test: {' '.join((program, *words))}")
    done = subprocess.run([_BIN / program, *words], cwd=paths.ROOT, env=_environ(), check=False)
    if done.returncode != 0:
        raise RunFailed(f"`{' '.join((program, *words))}` ended with exit status {done.returncode}; see above")


def _environ() -> dict[str, str]:
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
