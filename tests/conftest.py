"""What all tests share: the size of the run, and a record of each acceptance line with its evidence."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Record = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--full` (every number and scale) and `--report FILE` (one JSON object an acceptance line)."""
    parser.addoption("--full", action="store_true", help="every number and scale, not the smallest form of each line")
    parser.addoption("--report", metavar="FILE", help="append {line, evidence, figure, goal, command} a line to FILE")


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether to run every number and scale."""
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="session")
def record(request: pytest.FixtureRequest) -> Record:
    """Return a function that writes one acceptance line's outcome to the report, and prints it."""
    target = request.config.getoption("--report")

    def write(*, line: str, evidence: str, figure: object, goal: str, command: str) -> None:
        assert evidence in {"executed", "simulated", "not-tested"}
        row = {"line": line, "evidence": evidence, "figure": figure, "goal": goal, "command": command}
        terminal = request.config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(f"  {line}: {figure} (goal: {goal}; {evidence})")
        if target:
            with Path(target).open("a") as report:
                report.write(json.dumps(row) + "\n")

    return write
