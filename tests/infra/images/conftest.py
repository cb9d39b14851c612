"""An empty cache, the real tools on PATH, no network unless a test turns it on; an archive read back."""

import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from infra import toolchain

BUSYBOX = "docker.io/library/busybox:1.35.0"
PAUSE = "registry.k8s.io/pause:3.10"


def quiet(line: str) -> None:
    """Take a line of progress and do nothing with it."""


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test an empty cache, and on PATH the real umoci, crane and the static program of the pause image."""
    programs = toolchain.resolve("umoci", "crane", "pause", say=quiet).values()
    monkeypatch.setenv("PATH", os.pathsep.join([*(str(one.parent) for one in programs), os.environ["PATH"]]))
    monkeypatch.setenv("KIBAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KIBAN_OFFLINE", "1")
    return tmp_path / "cache"


class Archive:
    """An OCI archive with one image, read back. `layer` is the topmost; `digests` are all layers', the lowest first."""

    def __init__(self, path: Path) -> None:
        self._files = _files(path.read_bytes())
        self.index = json.loads(self._files["index.json"])
        manifest = self._blob(self.index["manifests"][0])
        self.config = self._blob(manifest["config"])["config"]
        self.digests = [layer["digest"] for layer in manifest["layers"]]
        with tarfile.open(fileobj=io.BytesIO(self._content(manifest["layers"][-1]))) as entries:
            self.layer = {entry.name: entry for entry in entries}

    def _content(self, descriptor: Mapping[str, Any]) -> bytes:
        return self._files["blobs/" + descriptor["digest"].replace(":", "/")]

    def _blob(self, descriptor: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._content(descriptor))
        return found


def _files(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as whole:
        return {entry.name: whole.extractfile(entry).read() for entry in whole}  # type: ignore[union-attr]
