"""Stores of images that real nodes begin with, as containerd itself makes them. Executed."""

from pathlib import Path

import pytest

from infra import images, paths, toolchain
from infra.clusters.embedded import imagestore
from infra.clusters.embedded.realnode import BASE

SNAPSHOTS = "io.containerd.snapshotter.v1.overlayfs/snapshots"


def files(folder: Path) -> set[Path]:
    """Return the files of the layers that containerd has unpacked."""
    return {each.relative_to(folder) for each in (folder / SNAPSHOTS).rglob("*") if each.is_file()}


def test_a_store_begins_with_the_one_that_is_most_like_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of fewer images as of more: nothing is unpacked twice, what is not asked for is gone, and the other is whole."""
    for reference in BASE:
        images.archive(reference, say=print)
    tools = toolchain.resolve("containerd", "ctr")
    (cache := tmp_path / "cache").mkdir()
    for each in paths.cache().iterdir():
        if each.name != "stores":
            (cache / each.name).symlink_to(each)
    monkeypatch.setenv("KIBAN_CACHE", str(cache))
    said: list[str] = []

    def furnish(name: str, *references: str) -> Path:
        assert imagestore.furnish(tmp_path / name, tmp_path / f"marks-{name}", references, tools, said.append)
        marks = [mark.read_text().split()[0] for mark in (tmp_path / f"marks-{name}").iterdir()]
        assert sorted(marks) == sorted(references)
        return tmp_path / name

    first, *others = BASE
    whole = files(furnish("all", *BASE))
    one = files(furnish("one", first))
    assert one < whole
    assert files(furnish("again", *BASE)) == files(tmp_path / "all") == whole
    assert files(furnish("others", *others)) == whole - one
    unpacked = [line.split()[2] for line in said if "unpacking" in line]
    assert unpacked == [str(len(BASE)), "0", "0"]
