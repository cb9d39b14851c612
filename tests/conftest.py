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


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker of tests that belong to the full run alone."""
    config.addinivalue_line("markers", "full: takes many minutes; part of `./kiban test --full` only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests of the full run out of the small one."""
    if not config.getoption("--full"):
        left_out = [item for item in items if item.get_closest_marker("full")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


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
