"""The cache's key is all that determines a binary, and nothing else."""

import dataclasses as dc
import os
from pathlib import Path

import pytest

from infra.toolchain import builds, catalogue, golang
from infra.toolchain.golang import Go
from tests.infra.toolchain.conftest import Bench
from tests.infra.toolchain.tiny import TINY

GO = Go("1.26.9", None)


@pytest.mark.parametrize("file", ["go.mod", "go.sum", "main.go"])
def test_the_key_changes_with_each_pinned_file(bench: Bench, file: str) -> None:
    """Pins and own source determine the binary."""
    before = builds.key(TINY, GO)
    path = bench.modules / "tiny" / file
    path.write_text(path.read_text() + "\n// changed\n")
    assert builds.key(TINY, GO) != before


def test_the_key_changes_with_what_is_added_to_a_module(bench: Bench) -> None:
    """An added file determines the binary, whatever its name ends in; another file of the folder does not."""
    page, other = (bench.modules / "tiny" / name for name in ("page.html", "other.html"))
    page.write_text("before")
    tool = dc.replace(TINY, additions={"example.com/m": {"ui/page.html": "page.html"}})
    before = builds.key(tool, GO)
    other.write_text("new")
    assert builds.key(tool, GO) == before
    page.write_text("after")
    assert builds.key(tool, GO) != before


@pytest.mark.parametrize(
    ("tool", "go"),
    [
        (dc.replace(TINY, package="./cmd"), GO),
        (dc.replace(TINY, ldflags="-s"), GO),
        (dc.replace(TINY, tags=("small",)), GO),
        (dc.replace(TINY, additions={"example.com/m": {"page.html": "go.mod"}}), GO),
        (TINY, Go("1.26.10", None)),
    ],
    ids=["package", "flags", "tags", "added file", "Go version"],
)
@pytest.mark.usefixtures("bench")
def test_the_key_changes_with_each_choice(tool: catalogue.Tool, go: Go) -> None:
    """Package, flags, tags, files added to modules and Go's version determine the binary."""
    assert builds.key(tool, go) != builds.key(TINY, GO)


@pytest.mark.usefixtures("bench")
def test_the_key_changes_with_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that two kinds of machine share keeps their binaries apart."""
    here = builds.key(TINY, GO)
    monkeypatch.setattr(golang, "architecture", lambda: "riscv64")
    there = builds.key(TINY, GO)
    monkeypatch.setattr(golang, "system", lambda: "plan9")
    assert len({here, there, builds.key(TINY, GO)}) == 3


@pytest.mark.usefixtures("bench")
def test_the_users_go_settings_do_not_reach_the_binary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What determines the binary is fixed, while the user's caches and proxies are kept."""
    for name, value in {
        "GOFLAGS": "-tags=other",
        "GOARCH": "mips",
        "CGO_ENABLED": "1",
        "GOWORK": "/elsewhere",
        "GOMODCACHE": "/own/mod",
        "HTTPS_PROXY": "http://proxy.example:3128",
    }.items():
        monkeypatch.setenv(name, value)
    environment = golang.environment(GO, tmp_path)
    assert {**environment, **golang.determinants()} == environment
    assert environment["GOMODCACHE"] == "/own/mod"
    assert environment["GOCACHE"] == os.environ["KIBAN_CACHE"] + "/go/build"
    assert environment["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert environment["GOPROXY"] == "off"
    assert "-modcacherw" in environment["GOFLAGS"]
