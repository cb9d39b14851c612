"""A tool on PATH is used at exactly the pinned version, and whatever else is called like it is passed over."""

import time
from pathlib import Path

import pytest

from infra import toolchain
from infra.toolchain import on_path
from tests.infra.toolchain.conftest import Bench
from tests.infra.toolchain.tiny import alive, until, write_program


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("etcd Version: 3.6.8\nGit SHA: abc\nGo Version: go1.26.8\n", "3.6.8"),
        ("Kubernetes v1.36.3\n", "1.36.3"),
        ("Client Version: v1.36.3\nKustomize Version: v5.8.1\n", "1.36.3"),
        ("Client Version: v1.32.4-dispatcher\n", "1.32.4-dispatcher"),
        ("v1.36.3+k3s1", "1.36.3+k3s1"),
        ("kwok version v0.8.0 go1.26.8 (linux/amd64)\n", "0.8.0"),
        ("kind v0.33.0-alpha.2 go1.26.8", "0.33.0-alpha.2"),
        ("v3.259.0\n", "3.259.0"),
        ("tiny 1.2.3.", "1.2.3"),
        ("containerd github.com/containerd/containerd/v2 v2.1.4 \n", "2.1.4"),
        ("Running /cache/kube-router/2.2.1-abc/kube-router version v2.2.0, built on , go1.26.8\n", "2.2.0"),
        ("built with go1.26.8, of 2026", None),
        ("", None),
    ],
)
def test_versions_are_read_with_their_suffix(said: str, version: str | None) -> None:
    """The first version of a text is read whole, so that a vendor's variant is not taken for upstream's."""
    assert on_path.parse(said) == version


def test_the_pinned_version_on_path_is_used(bench: Bench) -> None:
    """A program on PATH that says the pinned version is the tool, and is reported as such."""
    program = write_program(bench.bin / "tiny", "#!/bin/sh\necho tiny v1.2.3\n")
    found = toolchain.find("tiny")
    assert found
    assert (found.path, found.source) == (program, "path")


@pytest.mark.parametrize(
    "script",
    ["echo tiny v1.2.4", "echo tiny v1.2.3-vendor", "echo tiny v1.2.3; exit 1", "echo hello", "exec /no/such/program"],
)
def test_another_version_or_a_failure_is_not_the_tool(bench: Bench, script: str) -> None:
    """A program that says anything else, or fails, is passed over."""
    write_program(bench.bin / "tiny", f"#!/bin/sh\n{script}\n")
    assert toolchain.find("tiny") is None


def test_a_version_among_the_errors_counts_where_there_is_no_other(bench: Bench) -> None:
    """kube-router says its version on stderr; another tool's warning there is not taken for its version."""
    write_program(bench.bin / "tiny", "#!/bin/sh\necho tiny v1.2.3 >&2\n")
    write_program(bench.bin / "small", "#!/bin/sh\necho library v1.0.0 >&2; echo small v1.2.3\n")
    assert toolchain.find("tiny")
    assert toolchain.find("small")


@pytest.mark.parametrize(
    ("modules", "version"),
    [
        (
            "mod\texample.com/mine\t(devel)\t\ndep\texample.com/lib\tv9.9.9\th1:a=\ndep\texample.com/kueue\tv0.19.2\th1:b=\n",
            "0.19.2",
        ),
        ("mod\texample.com/kueue\tv0.19.1\th1:b=\ndep\texample.com/lib\tv9.9.9\th1:a=\n", "0.19.1"),
        ("mod\texample.com/kueue\t(devel)\t\n", None),
    ],
    ids=["from a module of its own", "as upstream builds it", "from a checkout"],
)
def test_what_go_wrote_into_a_program_is_its_version(tmp_path: Path, modules: str, version: str | None) -> None:
    """A program without a version flag is of the version of the module that its main package is in."""
    program = tmp_path / "kueue"
    program.write_bytes(b"\x7fELF\0path\t\0" + f"path\texample.com/kueue/cmd/kueue\n{modules}\xf9".encode())
    assert on_path.version(program, None) == version


def test_a_program_may_be_the_whole_of_its_module(tmp_path: Path) -> None:
    """Its main package is then the module's own folder; one whose name only begins like it is another's."""
    program = tmp_path / "jobset"
    modules = "dep\texample.com/job\tv9.9.9\th1:a=\ndep\texample.com/jobset\tv0.12.0\th1:b=\n"
    program.write_bytes(f"\x7fELF\0path\t\0path\texample.com/jobset\n{modules}".encode() + "\xf9".encode())
    assert on_path.version(program, None) == "0.12.0"


def test_a_program_of_another_kind_has_no_version(tmp_path: Path) -> None:
    """What Go has not built says nothing, whatever it is."""
    assert on_path.version(write_program(tmp_path / "kueue", "#!/bin/sh\necho kueue v0.19.2\n"), None) is None


def test_a_later_folder_of_path_may_have_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older tool in front does not hide the pinned one further back."""
    write_program(bench.bin / "tiny", "#!/bin/sh\necho tiny v1.0.0\n")
    program = write_program(bench.root / "later" / "tiny", "#!/bin/sh\necho tiny v1.2.3\n")
    monkeypatch.setenv("PATH", f"{bench.bin}:{program.parent}:/usr/bin:/bin")
    found = toolchain.find("tiny")
    assert found
    assert found.path == program


def test_a_program_that_hangs_is_given_up_with_its_children(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that does not say its version in time is passed over, and nothing of it stays."""
    monkeypatch.setattr(on_path, "PATIENCE", 0.3)
    child = bench.root / "child"
    write_program(bench.bin / "tiny", f"#!/bin/sh\nsleep 600 & echo $! > {child}; wait\n")
    began = time.monotonic()
    assert toolchain.find("tiny") is None
    assert time.monotonic() - began < 5
    until(lambda: not alive(int(child.read_text())), "the child of the hanging program is gone")


def test_what_lies_in_the_cache_is_not_found_on_path(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of links into the cache on PATH, as `kiban env` makes one, is not reported as the user's own tool."""
    program = write_program(bench.cache / "tools" / "tiny" / "1.2.3-old" / "tiny", "#!/bin/sh\necho tiny v1.2.3\n")
    (bench.root / "links").mkdir()
    (bench.root / "links" / "tiny").symlink_to(program)
    monkeypatch.setenv("PATH", f"{bench.root / 'links'}:{bench.bin}:/usr/bin:/bin")
    assert toolchain.find("tiny") is None


def test_asking_writes_nothing_at_home(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool that makes its own folders when asked, as pulumi does, makes them where they are thrown away."""
    monkeypatch.delenv("PULUMI_HOME", raising=False)
    seen = bench.root / "seen"
    write_program(
        bench.bin / "tiny", f'#!/bin/sh\nmkdir "$PULUMI_HOME/logs"; echo "$PULUMI_HOME" > {seen}; echo 1.2.3\n'
    )
    assert toolchain.find("tiny")
    assert not Path(seen.read_text().strip()).exists()
