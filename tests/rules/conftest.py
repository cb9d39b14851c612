"""The tools that judge rules, made where they are missing."""

from pathlib import Path

import pytest

from infra import toolchain


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Return promtool's path."""
    return toolchain.resolve("promtool")["promtool"]
