"""The first command on a machine that has built nothing yet: every tool from source, in an empty cache."""

import shutil
import time
from pathlib import Path

import pytest

from tests.checkout import copy_to
from tests.conftest import Record


@pytest.mark.full
def test_up_local_from_an_empty_cache(tmp_path: Path, record: Record) -> None:
    """`./kiban up local` builds what it needs and ends with the platform up; earlier parts start while others build."""
    checkout = copy_to(tmp_path / "checkout")
    cache = str(tmp_path / "cache")
    start = time.monotonic()
    try:
        done = checkout.run("up", "local", KIBAN_CACHE=cache)
        seconds = time.monotonic() - start
        assert "l4-shared" in done.stdout
        said = done.stderr.splitlines()
        ready = next(i for i, line in enumerate(said) if line.startswith("cluster local: ready"))
        provider = next(i for i, line in enumerate(said) if "pulumi-resource-kubernetes" in line and "built" in line)
        assert ready < provider
    finally:
        checkout.run("cluster", "down", "local", expect=None, KIBAN_CACHE=cache)
        shutil.rmtree(tmp_path / "cache")
    record(
        line="2 cold up local from source",
        evidence="executed",
        figure=f"{seconds / 60:.1f} min",
        goal="≤ 25 min",
        command="KIBAN_CACHE=empty ./kiban up local",
    )
