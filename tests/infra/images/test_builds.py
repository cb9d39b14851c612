"""A built image's archive is what containerd imports, the same from the same input, and made whole or not at all."""

import dataclasses as dc
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from infra import images, paths
from infra.errors import BadInput, CouldNotRun, KibanError, RunFailed
from infra.images import archives, builds
from infra.images.layer import Layer
from infra.images.recipes import USER, Recipe, Upon
from infra.toolchain import cache
from tests.infra.images.conftest import BUSYBOX, PAUSE, Archive, quiet
from tests.infra.toolchain.tiny import write_program

STEPS = "example.com/steps:0.1.0"


def left(folder: Path) -> list[Path]:
    """What a failed build left in the cache, besides locks."""
    return [file for file in folder.rglob("*") if file.is_file() and file.suffix != ".lock"]


def changed(monkeypatch: pytest.MonkeyPatch, reference: str, **values: Any) -> Recipe:  # noqa: ANN401 - as dc.replace
    """Put another recipe in the place of one."""
    recipe = dc.replace(images.RECIPES[reference], **values)
    monkeypatch.setattr(archives, "RECIPES", {reference: recipe})
    return recipe


def test_busybox_is_an_image_for_containerd() -> None:
    """The manifest has the full reference for its name; user, command and labels are as the recipe says."""
    image = Archive(images.archive(BUSYBOX, say=quiet))
    (manifest,) = image.index["manifests"]
    assert manifest["annotations"] == {"org.opencontainers.image.ref.name": BUSYBOX}
    assert image.config["User"] == str(USER)
    assert image.config["Cmd"] == ["sh"]
    assert image.config["Labels"] == {
        "org.opencontainers.image.source": "https://tracker.debian.org/pkg/busybox",
        "org.opencontainers.image.version": "1.35.0",
        "org.opencontainers.image.title": BUSYBOX,
    }


def test_busybox_has_its_applets_and_a_place_to_write() -> None:
    """Its applets are commands, anybody can write to /tmp, and the user has a name."""
    layer = Archive(images.archive(BUSYBOX, say=quiet)).layer
    for applet in ("sh", "echo", "sleep", "wget", "nslookup", "httpd", "nc"):
        assert layer[f"bin/{applet}"].linkname == "busybox"
    assert layer["bin/busybox"].mode == 0o755
    assert layer["tmp"].mode == 0o1777
    assert layer["etc/passwd"].isfile()
    assert {(entry.uid, entry.gid, entry.mtime) for entry in layer.values()} == {(0, 0, 0)}


def test_a_tool_lies_where_upstream_has_it() -> None:
    """A Go tool's image runs it from upstream's path."""
    image = Archive(images.archive(PAUSE, say=quiet))
    assert image.config["Entrypoint"] == ["/pause"]
    assert image.layer["pause"].mode == 0o755


def test_the_same_input_gives_the_same_archive(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two builds, of copies of one program at other times and places, are the same file byte for byte."""
    first = images.archive(BUSYBOX, say=quiet)
    content = first.read_bytes()
    shutil.rmtree(empty)
    copy = tmp_path / "bin" / "busybox"
    copy.parent.mkdir()
    shutil.copyfile(str(shutil.which("busybox")), copy)
    copy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{copy.parent}:{os.environ['PATH']}")
    second = images.archive(BUSYBOX, say=quiet)
    assert (second.name, second.read_bytes()) == (first.name, content)


def test_an_image_is_built_once(empty: Path) -> None:
    """A second call finds the archive, and says nothing."""
    said: list[str] = []
    assert images.archive(PAUSE, say=said.append) == images.archive(PAUSE, say=said.append)
    (done,) = (line for line in said if line.startswith("images:"))
    assert done.startswith(f"images: {PAUSE} built in ")
    assert [file.parent for file in left(empty)] == [empty / "images"]


def test_another_recipe_is_another_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    """What changes in a recipe changes the archive's name, so that an old one is never taken for it."""
    first = images.archive(PAUSE, say=quiet)
    changed(monkeypatch, PAUSE, path="/other", entrypoint=("/other",))
    assert images.archive(PAUSE, say=quiet) != first


@pytest.mark.parametrize(("reference", "here"), [(BUSYBOX, "1.35.0"), (PAUSE, "3.10.0")])
def test_a_pin_that_does_not_exist_is_refused(
    empty: Path, monkeypatch: pytest.MonkeyPatch, reference: str, here: str
) -> None:
    """A recipe made for another version than the program's is refused in one line, and nothing is built."""
    changed(monkeypatch, reference, version="9.9.9")
    with pytest.raises(BadInput) as caught:
        images.archive(reference, say=quiet)
    line = str(caught.value)
    for words in (reference, "9.9.9", f"here is {here}", "recipes.py", "nothing was changed"):
        assert words in line
    assert "\n" not in line
    assert not left(empty)


def test_without_busybox_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no BusyBox is installed, the line says which package has it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CouldNotRun, match="install the package busybox-static"):
        images.archive(BUSYBOX, say=quiet)


def test_a_busybox_with_shared_libraries_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is linked to libraries could not start in an image that has none."""
    monkeypatch.setattr(builds, "_check", lambda *_: None)
    (tmp_path / "busybox").symlink_to(str(shutil.which("ls")))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(CouldNotRun, match=r"needs shared libraries, .* \(busybox-static\)"):
        images.archive(BUSYBOX, say=quiet)


def test_a_full_disk_is_found_before_anything_is_written(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with less free than the image takes is refused early."""
    monkeypatch.setattr(cache, "free", lambda: 0)
    with pytest.raises(BadInput, match=f"image {PAUSE}: the disk of .* is full"):
        images.archive(PAUSE, say=quiet)
    assert not left(empty)


@pytest.mark.parametrize(
    ("printed", "error", "said"),
    [
        ("write /x: no space left on device", BadInput, "is full"),
        ("flag provided but not defined: -x", RunFailed, "umoci failed: flag provided but not defined: -x"),
    ],
)
def test_where_umoci_fails_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, error: type[KibanError], said: str
) -> None:
    """What umoci says becomes one line, and no part of the image stays."""
    script = f'#!/bin/sh\n[ "$1" = --version ] && echo umoci version 0.6.0 && exit\necho "{printed}"; exit 1\n'
    write_program(tmp_path / "fake" / "umoci", script)
    monkeypatch.setenv("PATH", f"{tmp_path / 'fake'}:{os.environ['PATH']}")
    with pytest.raises(error, match=said):
        images.archive(PAUSE, say=quiet)
    assert not left(tmp_path / "cache")


@pytest.fixture(name="steps")
def _steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a repository, from which an image upon BusyBox's is made."""
    folder = tmp_path / "repository" / "steps"
    (folder / "inner" / "__pycache__").mkdir(parents=True)
    (folder / "train.py").write_text("print('trained')\n")
    (folder / "inner" / "data.csv").write_text("1,2\n")
    (folder / "inner" / "__pycache__" / "train.pyc").write_bytes(b"compiled")
    monkeypatch.setattr(paths, "ROOT", folder.parent)
    recipe = Recipe(
        reference=STEPS,
        content=Upon(base=BUSYBOX, files="steps", into="/opt/steps"),
        version="0.1.0",
        path="/opt/steps",
        source="https://example.com/steps",
        entrypoint=("sh",),
    )
    monkeypatch.setattr(archives, "RECIPES", {STEPS: recipe, BUSYBOX: images.RECIPES[BUSYBOX]})
    return folder


@pytest.mark.usefixtures("steps")
def test_an_image_upon_another_has_its_layers_and_one_of_files() -> None:
    """It is under its own name, runs its own entry point, and shares what is below; compiled Python stays out."""
    image, base = (Archive(images.archive(reference, say=quiet)) for reference in (STEPS, BUSYBOX))
    (manifest,) = image.index["manifests"]
    assert manifest["annotations"] == {"org.opencontainers.image.ref.name": STEPS}
    assert image.digests[:-1] == base.digests
    assert set(image.layer) == {"opt", "opt/steps", "opt/steps/inner", "opt/steps/inner/data.csv", "opt/steps/train.py"}
    assert {(entry.uid, entry.gid, entry.mtime) for entry in image.layer.values()} == {(0, 0, 0)}
    assert (image.config["Entrypoint"], image.config.get("Cmd")) == (["sh"], None)
    assert image.config["Labels"]["org.opencontainers.image.title"] == STEPS


def test_other_files_are_another_image(steps: Path, empty: Path) -> None:
    """The same files give the same archive byte for byte, whenever they were written; changed ones never do."""
    first = images.archive(STEPS, say=quiet)
    content = first.read_bytes()
    shutil.rmtree(empty)
    os.utime(steps / "train.py", (0, 0))
    assert images.archive(STEPS, say=quiet) == first
    assert first.read_bytes() == content
    (steps / "train.py").write_text("print('again')\n")
    assert images.how(STEPS) is None
    assert images.tools(STEPS) == ("umoci",)
    assert images.archive(STEPS, say=quiet) != first


def test_an_image_of_no_files_is_refused(steps: Path) -> None:
    """One line names the folder."""
    shutil.rmtree(steps)
    with pytest.raises(BadInput, match=r"no file in steps; accepted: a folder that has some"):
        images.archive(STEPS, say=quiet)


def test_a_layer_has_the_folders_above_its_files(tmp_path: Path) -> None:
    """Every folder on the way to the program is an entry of its own, before what is in it."""
    program = write_program(tmp_path / "program", "#!/bin/sh\n")
    Layer(program=program, path="/app/cmd/program").write(tmp_path / "layer.tar")
    with tarfile.open(tmp_path / "layer.tar") as entries:
        names = entries.getnames()
    assert names.index("app") < names.index("app/cmd") < names.index("app/cmd/program")
