"""A cache, a PATH and a Go of the test's own; the network is off unless a test turns it on."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.toolchain import catalogue
from tests.infra.toolchain.tiny import GO, SMALL, TINY, write_family, write_program


class Bench:
    """Where a test's files are: `bin` is first on PATH, `cache` is KIBAN_CACHE, `modules` holds the tiny family."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bin = root / "bin"
        self.cache = root / "cache"
        self.modules = root / "modules"
        self.gate = root / "gate"
        self._calls = root / "calls"

    def calls(self, verb: str) -> list[int]:
        """Process ids of the fake Go's runs with this verb, in order."""
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        return [int(line.split()[0]) for line in lines if line.split()[1] == verb]

    def scratch(self) -> list[Path]:
        """Scratch folders in the cache: there are none while nothing is being made."""
        return list(self.cache.rglob("*.partial"))

    def binaries(self) -> list[Path]:
        """Binaries in the cache."""
        return [path for path in self.cache.glob("tools/*/*/*") if path.is_file() and ".partial" not in str(path)]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Give the test a cache and a PATH of its own, with two tools of one family and a fake Go that ends with it."""
    made = Bench(tmp_path)
    write_family(made.modules / "tiny")
    write_program(made.bin / "go", GO)
    monkeypatch.setattr(catalogue, "MODULES", made.modules)
    monkeypatch.setattr(catalogue, "TOOLS", {"tiny": TINY, "small": SMALL})
    for name, value in {
        "KIBAN_CACHE": str(made.cache),
        "KIBAN_OFFLINE": "1",
        "PATH": f"{made.bin}:/usr/bin:/bin",
        "FAKE": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    late = threading.Timer(60, made.gate.touch)  # a build that nobody ends fails its test instead of hanging it
    late.start()
    yield made
    late.cancel()
    made.gate.touch()
