"""What `kiban doctor` tells, and when its status is 1."""

import dataclasses as dc
from pathlib import Path

import pytest

from infra import doctor, paths, system
from infra.system import Condition, packages
from infra.toolchain import cache, catalogue, golang

GOOD = Condition(name="kernel", ok=True, found="6.1.0", remedy="start a newer one")


@pytest.fixture(name="folder", autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which the machine's programs are; it has all that is needed but a docker."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("KIBAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KIBAN_OFFLINE", raising=False)
    monkeypatch.setattr(cache, "free", lambda: 100 * catalogue.GB)
    monkeypatch.setattr(system, "conditions", lambda: iter([GOOD]))
    monkeypatch.setattr(system, "PACKAGES", [dc.replace(p, places=(str(tmp_path),)) for p in system.PACKAGES])
    of_images = [dc.replace(p, places=(str(tmp_path),)) for p in packages.DEBIAN_IMAGES]
    monkeypatch.setattr(packages, "DEBIAN_IMAGES", of_images)
    for program in (program for package in (*system.PACKAGES, *of_images) for program in package.programs):
        (tmp_path / program).touch(0o755)
    return tmp_path


def item(name: str) -> doctor.Item:
    """What doctor says of one check."""
    return next(item for item in doctor.items() if item["check"] == name)


def test_a_machine_that_has_all_is_healthy_without_docker() -> None:
    """Docker is for kind alone; each check says what was found, and none what to do."""
    items = doctor.items()
    assert doctor.healthy(items)
    assert [one["check"] for one in items if one["remedy"]] == ["Docker"]
    assert all(one["found"] for one in items)
    assert item("Docker")["found"] == "no docker on PATH"


def test_every_package_is_a_check_of_its_own(folder: Path) -> None:
    """A program that is missing makes the status 1 and comes with the command that brings it."""
    (folder / "ipset").unlink()
    assert {package.name for package in system.PACKAGES} <= {one["check"] for one in doctor.items()}
    assert not doctor.healthy(doctor.items())
    found = item("ipset")
    assert (found["ok"], found["found"]) == (False, "no ipset")
    assert found["remedy"] == system.remedy([one for one in system.PACKAGES if one.name == "ipset"])
    assert item("runc")["found"] == str(folder / "runc")


def test_what_only_images_of_debian_need_does_not_make_the_status_1(folder: Path) -> None:
    """It is told what they need and what to do: an environment without such an image can do without."""
    (folder / "mmdebstrap").unlink()
    assert not item("mmdebstrap")["ok"]
    assert item("mmdebstrap")["needed_for"].startswith("images of Debian")
    assert "mmdebstrap" in item("mmdebstrap")["remedy"]
    assert doctor.healthy(doctor.items())


def test_a_condition_that_is_not_met_makes_the_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its remedy is told."""
    monkeypatch.setattr(system, "conditions", lambda: iter([dc.replace(GOOD, ok=False)]))
    assert not doctor.healthy(doctor.items())
    assert item("kernel")["remedy"] == GOOD.remedy


def test_a_disk_without_room_for_the_tools_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tool is there yet, so all of their builds must fit; where all are, nothing more is needed."""
    monkeypatch.setattr(cache, "free", lambda: catalogue.GB)
    assert not item("disk")["ok"]
    assert "KIBAN_CACHE" in item("disk")["remedy"]
    assert str(paths.cache()) in item("disk")["found"]
    monkeypatch.setattr(catalogue, "TOOLS", {})
    assert item("disk")["ok"]


def test_go_is_named_whether_it_is_there_or_fetched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Go fetches the locked one, but for KIBAN_OFFLINE=1; then a full cache will do as well."""
    assert item("Go")["ok"]
    assert golang.locked() in item("Go")["found"]
    monkeypatch.setenv("KIBAN_OFFLINE", "1")
    assert not doctor.healthy(doctor.items())
    (folder / "go").write_text("#!/bin/sh\necho go1.99.0\n")
    (folder / "go").chmod(0o755)
    assert item("Go")["found"] == f"1.99.0 {folder}/go"
    (folder / "go").unlink()
    monkeypatch.setattr(catalogue, "TOOLS", {})
    assert doctor.healthy(doctor.items())


@pytest.mark.parametrize(
    ("script", "ok", "found"),
    [
        ("echo 28.0.1", True, "28.0.1"),
        ("echo 'Cannot connect to the Docker daemon' >&2; exit 1", False, "Cannot connect to the Docker daemon"),
    ],
)
def test_a_docker_daemon_is_asked(folder: Path, script: str, ok: bool, found: str) -> None:  # noqa: FBT001
    """The daemon's version, or why it does not answer."""
    (folder / "docker").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "docker").chmod(0o755)
    assert (item("Docker")["ok"], item("Docker")["found"]) == (ok, found)
    assert doctor.healthy(doctor.items())
