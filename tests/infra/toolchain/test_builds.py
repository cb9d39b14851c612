"""What is missing is built once, whole or not at all, whoever asks and whatever happens meanwhile."""

import dataclasses as dc
import os
import signal
import sys
from pathlib import Path

import pytest

from infra import toolchain
from infra.errors import BadInput, CouldNotRun, Interrupted, KibanError, RunFailed
from infra.toolchain import builds, cache, catalogue
from infra.toolchain.golang import Go
from tests.infra.toolchain.conftest import Bench
from tests.infra.toolchain.tiny import TINY, alive, resolver, until

GO = Go("1.26.9", None)
GO_LIST = """#!/bin/sh
echo "$$ $*" >> "$FAKE/calls"
case $1 in
env) echo go1.26.9 ;;
mod) [ -z "$FAKE_MISSING" ] || { echo "$FAKE_MISSING"; exit 1; } ;;
list) [ -e go.mod ] && echo /modules/example.com/m@v1.0.0 ;;
esac
"""
"""A Go that knows of one module."""
GO_REPLACE = """#!/bin/sh
echo "$$ $*" >> "$FAKE/calls"
case $1 in
env) echo go1.26.9; exit ;;
list) echo "$FAKE/original"; exit ;;
mod) [ "$2" = download ] || echo "$3" >> go.mod; exit ;;
esac
while [ "$1" != -o ]; do shift; done
cd "$(sed -n 's/-replace=.*=//p' go.mod)"
printf '#!/bin/sh\\necho %s %s\\n' "$(cat name)" "$(cat deep/version)" > "$2" && chmod +x "$2"
"""
"""A Go that builds what a replaced module says."""


def quiet(line: str) -> None:
    """Take a line of progress and do nothing with it."""


def test_a_missing_tool_is_built_and_then_found(bench: Bench) -> None:
    """The first resolve builds into a folder named by version and key; the next finds it there."""
    path = toolchain.resolve("tiny", say=quiet)["tiny"]
    assert path == bench.cache / "tools" / "tiny" / f"1.2.3-{builds.key(TINY, GO)}" / "tiny"
    assert toolchain.resolve("tiny", say=quiet) == {"tiny": path}
    assert len(bench.calls("build")) == 1
    found = toolchain.find("tiny")
    assert found
    assert found.source == "cache"
    assert not bench.scratch()


def test_progress_names_tool_place_and_seconds(bench: Bench) -> None:
    """Each build says which tool of how many it is, and how long it took; what is here already is not counted."""
    assert toolchain.resolve("small", say=quiet)
    lines: list[str] = []
    toolchain.resolve("small", "tiny", say=lines.append)
    first, last = lines
    assert first == "tools: tiny (1 of 1) building from pinned modules"
    assert last.startswith("tools: tiny (1 of 1) built in ")
    assert len(bench.binaries()) == 2


def test_two_processes_build_once(bench: Bench) -> None:
    """A second process that wants the same tool says that it waits, and gets what the first built."""
    environ = {**os.environ, "FAKE_GATE": str(bench.gate)}
    first = resolver(bench.modules, "tiny", environ=environ)
    until(lambda: bench.calls("build"), "the first process builds")
    second = resolver(bench.modules, "tiny", environ=environ)
    assert second.stderr
    assert "another process is making tiny 1.2.3; waiting" in second.stderr.readline()
    assert not bench.binaries()
    bench.gate.touch()
    (path, _), (same, _) = first.communicate(timeout=20), second.communicate(timeout=20)
    assert (first.returncode, second.returncode) == (0, 0)
    assert path == same == f"{bench.binaries()[0]}\n"
    assert len(bench.calls("build")) == 1
    assert not bench.scratch()


def test_what_a_killed_build_left_is_removed_by_the_next(bench: Bench) -> None:
    """After kill -9 in the middle of a build, nothing half done is used, and the next resolve clears it away."""
    killed = resolver(bench.modules, "tiny", environ={**os.environ, "FAKE_GATE": str(bench.gate)})
    until(lambda: bench.calls("build"), "the process builds")
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=20)
    assert len(bench.scratch()) == 1
    assert toolchain.find("tiny") is None
    path = toolchain.resolve("tiny", say=quiet)["tiny"]
    assert not bench.scratch()
    bench.gate.touch()
    orphan = bench.calls("build")[0]
    until(lambda: not alive(orphan), "the orphaned Go ends, since its folder is gone")
    assert bench.binaries() == [path]


def test_leftovers_of_other_keys_are_removed_too(bench: Bench) -> None:
    """A build that was killed and whose pins have changed since leaves nothing for ever."""
    old = bench.cache / "tools" / "tiny" / ".1.2.2-0123456789ab.xyz.partial" / "out"
    old.mkdir(parents=True)
    toolchain.resolve("tiny", say=quiet)
    assert not bench.scratch()


def test_a_leftover_that_is_in_use_stays(bench: Bench) -> None:
    """The scratch folder of a live build of another version is left alone."""
    other = bench.cache / "tools" / "tiny" / "1.2.2-0123456789ab"
    with cache.claimed(other, "tiny 1.2.2", quiet) as scratch:
        toolchain.resolve("tiny", say=quiet)
        assert scratch.exists()
    assert not bench.scratch()


def test_ctrl_c_ends_go_and_leaves_nothing(bench: Bench) -> None:
    """Interrupted in the middle of a build, the process takes Go with it and removes its scratch folder."""
    process = resolver(bench.modules, "tiny", environ={**os.environ, "FAKE_GATE": str(bench.gate)})
    until(lambda: bench.calls("build"), "the process builds")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in errors
    until(lambda: not alive(bench.calls("build")[0]), "Go ends, too")
    assert not bench.scratch()
    assert not bench.binaries()


def test_earlier_tools_are_there_while_later_are_built(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the background, each tool can be used as soon as it is there."""
    assert toolchain.resolve("small", say=quiet)
    monkeypatch.setenv("FAKE_GATE", str(bench.gate))
    with toolchain.start("small", "tiny", say=quiet) as tools:
        assert tools["small"].is_file()
        assert list(tools) == ["small", "tiny"]
        assert "tiny" in tools
        assert len(bench.binaries()) == 1
        bench.gate.touch()
        assert tools["tiny"].is_file()


def test_leaving_by_an_error_ends_the_background_build(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C while tools are built in the background ends the build, and whoever waits for it is told."""
    monkeypatch.setenv("FAKE_GATE", str(bench.gate))
    tools = toolchain.start("tiny", say=quiet)
    until(lambda: bench.calls("build"), "the build runs")
    with pytest.raises(KeyboardInterrupt), tools:
        raise KeyboardInterrupt
    assert not alive(bench.calls("build")[0])
    assert not bench.scratch()
    with pytest.raises(Interrupted, match=r"tiny \(1 of 1\) stopped"):
        _ = tools["tiny"]


@pytest.mark.parametrize(
    ("printed", "error", "said"),
    [
        (
            "verifying example.com/m@v1.0.0: checksum mismatch\\n\\tdownloaded: h1:given=\\n\\tgo.sum:     h1:pin=\\n",
            BadInput,
            ("example.com/m@v1.0.0", "h1:given=", "accepts h1:pin=", "tiny/go.sum", "restore", "nothing was built"),
        ),
        (
            "m.go:3:2: missing go.sum entry for module providing package example.com/m/p; to add:",
            BadInput,
            ("go.sum has no checksum of example.com/m/p",),
        ),
        (
            "compile: writing output: write /x/_pkg_.a: no space left on device",
            BadInput,
            ("disk of", "is full", "free some space", "KIBAN_CACHE", "nothing was changed"),
        ),
        (
            "go: example.com/m@v1.0.0: module lookup disabled by GOPROXY=off",
            CouldNotRun,
            ("not all in the module cache", "KIBAN_OFFLINE=1", "run once without it"),
        ),
        (
            "m.go:3:2: example.com/m@v1.0.0: Get https://p.example: dial tcp: lookup p.example: no such host",
            CouldNotRun,
            ("cannot be downloaded", "make a Go module proxy reachable"),
        ),
        ("./main.go:3:1: syntax error: unexpected name", RunFailed, ("go build failed", "syntax error", "logs/tiny")),
    ],
    ids=["checksum", "unpinned", "full disk", "offline", "no proxy", "compiler"],
)
def test_a_failing_build_says_why_in_one_line(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, printed: str, error: type[KibanError], said: tuple[str, ...]
) -> None:
    """What Go prints becomes one line with what was given, what is accepted and what to do; nothing half done stays."""
    monkeypatch.setenv("FAKE_FAILURE", printed)
    with pytest.raises(error) as caught:
        toolchain.resolve("tiny", say=quiet)
    line = str(caught.value)
    assert "\n" not in line
    for words in said:
        assert words in line
    assert not bench.scratch()
    assert not bench.binaries()


def test_a_failing_build_shows_its_last_lines_and_keeps_all(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the output is shown, and the message names the file that has all of it."""
    monkeypatch.setenv("FAKE_FAILURE", "\\n".join(f"error {number}" for number in range(40)))
    lines: list[str] = []
    with pytest.raises(RunFailed) as caught:
        toolchain.resolve("tiny", say=lines.append)
    assert lines[1:] == [f"  error {number}" for number in range(28, 40)]
    log = Path(str(caught.value).rpartition(" ")[2])
    assert log.is_relative_to(bench.cache)
    assert len(log.read_text().splitlines()) == 40


def test_too_little_space_is_refused_before_go_runs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with less free than the build takes is refused early, with the figures."""
    monkeypatch.setattr(catalogue, "SPARE", sys.maxsize)
    with pytest.raises(BadInput, match=r"GB free, about .* GB needed"):
        toolchain.resolve("tiny", say=quiet)
    assert not bench.calls("build")
    assert not bench.scratch()


def test_a_first_build_needs_the_space_of_its_family(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figure for a whole family holds while its packages are not compiled: at first, and once those are removed."""
    compiled = bench.cache / "go" / "build"
    with cache.shared(compiled):
        toolchain.resolve("small", say=quiet)
        (compiled / "package").touch()
        monkeypatch.setattr(catalogue, "SPACE", {"tiny": sys.maxsize})
        assert toolchain.resolve("tiny", say=quiet)
    (tiny,) = (path for path in bench.binaries() if path.name == "tiny")
    tiny.unlink()
    with pytest.raises(BadInput, match="is full"):
        toolchain.resolve("tiny", say=quiet)


def test_a_binary_of_another_version_is_not_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build whose linker flags do not set the pinned version is found out before anybody uses it."""
    monkeypatch.setenv("FAKE_BUILDS", "0.0.0-dev")
    with pytest.raises(RunFailed, match=r"says it is 0\.0\.0-dev, pinned is 1\.2\.3"):
        toolchain.resolve("tiny", say=quiet)
    assert not bench.binaries()


def test_a_disk_that_fills_up_outside_of_go_is_named(bench: Bench) -> None:
    """Kiban's own writing may meet the full disk first, as a download does: it is the same line."""

    def download() -> None:
        with cache.claimed(bench.cache / "tools" / "tiny" / "1.2.3-key", "tiny 1.2.3", quiet) as scratch:
            (scratch / "archive").symlink_to("/dev/full")
            (scratch / "archive").write_bytes(b"content")

    with pytest.raises(BadInput, match=r"tiny 1\.2\.3: the disk of .* is full"):
        download()
    assert not bench.scratch()


def test_a_cache_that_cannot_be_written_is_named(bench: Bench) -> None:
    """A cache folder that is a file is a one-line error that says which setting to change."""
    bench.cache.write_text("")
    with pytest.raises(CouldNotRun, match="KIBAN_CACHE"):
        toolchain.resolve("tiny", say=quiet)


def test_an_unknown_tool_is_named_beside_those_that_exist(bench: Bench) -> None:
    """A name that is no tool is refused before anything is built."""
    with pytest.raises(BadInput, match="'tinny' is not known; accepted: tiny, small"):
        toolchain.resolve("tiny", "tinny", say=quiet)
    assert not bench.calls("build")


def test_a_pinned_module_is_downloaded_and_found(bench: Bench) -> None:
    """The folder of a module is what Go says, asked where the family's pins are, after a download that checks them."""
    (bench.bin / "go").write_text(GO_LIST)
    assert toolchain.module_folder("tiny", "example.com/m", say=quiet) == Path("/modules/example.com/m@v1.0.0")
    assert len(bench.calls("mod")) == 1
    assert not bench.scratch()


def test_a_module_that_cannot_be_had_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why a module cannot be downloaded is one line, as for a build."""
    (bench.bin / "go").write_text(GO_LIST)
    monkeypatch.setenv("FAKE_MISSING", "module lookup disabled by GOPROXY=off")
    with pytest.raises(CouldNotRun, match=r"example\.com/m: its modules are not all in the module cache"):
        toolchain.module_folder("tiny", "example.com/m", say=quiet)


def test_files_are_added_to_a_copy_of_a_module(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool is built from a module with added files; the module in the cache and the pins stay as they are."""
    (bench.bin / "go").write_text(GO_REPLACE)
    original, pins = bench.root / "original", bench.modules / "tiny"
    (original / "deep").mkdir(parents=True)
    (original / "name").write_text("tiny")
    (original / "deep" / "version").write_text("0.0.0")
    (original / "deep").chmod(0o555)
    (pins / "own").write_text("1.2.3")
    before = (pins / "go.mod").read_text()
    added = dc.replace(TINY, additions={"example.com/m": {"deep/version": "own"}})
    monkeypatch.setattr(catalogue, "TOOLS", {"tiny": added})
    assert "echo tiny 1.2.3" in toolchain.resolve("tiny", say=quiet)["tiny"].read_text()
    assert (original / "deep" / "version").read_text() == "0.0.0"
    assert (pins / "go.mod").read_text() == before
    assert not bench.scratch()


def test_a_module_of_another_checksum_is_not_copied(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go does not check a copy, so the module is checked before it is copied, and nothing is built where that fails."""
    (bench.bin / "go").write_text(GO_LIST)
    monkeypatch.setenv("FAKE_MISSING", "verifying example.com/m@v1.0.0: checksum mismatch")
    added = dc.replace(TINY, additions={"example.com/m": {"main.go": "main.go"}})
    monkeypatch.setattr(catalogue, "TOOLS", {"tiny": added})
    with pytest.raises(BadInput, match=r"module example\.com/m@v1\.0\.0 has"):
        toolchain.resolve("tiny", say=quiet)
    assert not bench.calls("build")
    assert not bench.scratch()


def test_a_tool_is_built_with_its_tags(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What upstream lets a build leave out is left out."""
    monkeypatch.setattr(catalogue, "TOOLS", {"tiny": dc.replace(TINY, tags=("small", "quick"))})
    toolchain.resolve("tiny", say=quiet)
    assert " build -tags=small,quick " in (bench.root / "calls").read_text()


def test_listing_builds_nothing(bench: Bench) -> None:
    """The list says what is here and what is missing, and makes nothing."""
    assert toolchain.build(["small"], say=quiet)[0]["source"] == "built"
    rows = {row["tool"]: row for row in toolchain.list_items()}
    assert rows["tiny"] == {"tool": "tiny", "version": "1.2.3", "family": "tiny", "source": "missing", "path": None}
    assert rows["small"]["source"] == "cache"
    assert len(bench.calls("build")) == 1


def test_what_was_compiled_on_the_way_is_removed_by_the_last_who_builds(bench: Bench) -> None:
    """Tens of GB that no tool needs; a build that goes on in another process keeps them."""
    compiled = bench.cache / "go" / "build"
    with cache.shared(compiled):
        (compiled / "package").touch()
        toolchain.resolve("tiny", say=quiet)
        assert (compiled / "package").exists()
        toolchain.resolve("small", say=quiet)
    assert not compiled.exists()


def test_what_a_failed_build_has_compiled_is_there_for_the_next(bench: Bench) -> None:
    """To go on costs what is left, not all of it again."""
    compiled = bench.cache / "go" / "build"
    compiled.mkdir(parents=True)
    (compiled / "package").touch()
    with pytest.raises(RuntimeError), cache.shared(compiled):
        raise RuntimeError
    assert (compiled / "package").exists()
