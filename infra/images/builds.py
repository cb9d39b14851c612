"""Builds an image from its recipe into an OCI archive, cached by its content.

What writes the image format is umoci, offline. What its layers are made of is layer.py's and debian.py's matter.
"""

import dataclasses as dc
import hashlib
import json
import os
import shutil
import struct
import tarfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from infra import console, paths, toolchain
from infra.errors import BadInput, CouldNotRun, KibanError, RunFailed
from infra.images import oci, pypi
from infra.images.debian import DebianLayers
from infra.images.layer import Files, Layer, digest
from infra.images.recipes import Busybox, Debian, GoTool, Recipe, Upon
from infra.toolchain import TOOLS, cache, on_path, running
from infra.toolchain.progress import Say

_LAYOUT = "layout"
_PT_INTERP = 3


class Layers(Protocol):
    """The layers of an image, before they are made."""

    @property
    def determinants(self) -> list[object]:
        """All that determines them, for JSON."""

    @property
    def space(self) -> int:
        """Bytes of disk that making an image of them takes."""

    def make(self, scratch: Path, say: Say) -> Sequence[Path]:
        """Make them as uncompressed archives, the lowest first; some may lie elsewhere, for other images too."""


def tools(recipe: Recipe) -> tuple[str, ...]:
    """The tools that the build puts in or runs."""
    return (recipe.content.name, "umoci") if isinstance(recipe.content, GoTool) else ("umoci",)


def cached(recipe: Recipe, *, upon: Path | None = None) -> Path | None:
    """The archive that was built before, of what is here; nothing is made. upon: as for `build`."""
    try:
        if isinstance(recipe.content, GoTool) and toolchain.find(recipe.content.name) is None:
            return None
        target = _target(recipe, _layers(recipe, console.say), upon)
    except KibanError:  # what goes in is not to be had, or not as the recipe pins it: `build` says so
        return None
    return target if target.exists() else None


def build(recipe: Recipe, say: Say, *, upon: Path | None = None) -> Path:
    """The image's archive, built where it is missing, with the tools that it is made of.

    upon: the archive of the image below it, where its content is upon one.
    The file's name is a digest of all that determines the image. Raises BadInput for a pin that does not exist and a
    full disk, CouldNotRun where a program that goes in is not to be had, RunFailed where a program that builds it
    fails, and what building a tool raises.
    """
    layers = _layers(recipe, say)
    target = _target(recipe, layers, upon)
    if target.exists():
        return target
    umoci = toolchain.resolve("umoci", say=say)["umoci"]
    what = f"image {recipe.reference}"
    space = layers.space + (2 * upon.stat().st_size if upon else 0)
    if cache.free() < space:
        raise cache.full(what, space)
    with cache.claimed(target, what, say) as scratch:
        if not target.exists():
            began = time.monotonic()
            if upon:
                with tarfile.open(upon) as below:
                    below.extractall(scratch / _LAYOUT, filter="data")
                oci.name(scratch / _LAYOUT, recipe.reference)
            _assemble(recipe, layers.make(scratch, say), umoci, scratch)
            cache.place(oci.pack(scratch / _LAYOUT), target)
            say(f"images: {recipe.reference} built in {time.monotonic() - began:.0f} s")
    return target


def _layers(recipe: Recipe, say: Say) -> Layers:
    """What goes in: the program of exactly the recipe's version."""
    match recipe.content:
        case Debian(requirements=requirements):
            if requirements:
                _check(recipe, *pypi.pin(requirements))
            else:
                name, _, version = recipe.content.packages[0].partition("=")
                _check(recipe, name, version.removesuffix("*"))
            return DebianLayers(recipe.content)
        case Upon(files=folder, into=into):
            files = Files(folder=paths.ROOT / folder, into=into)
            if not files.determinants[0]:
                raise BadInput(f"image {recipe.reference}: no file in {folder}; accepted: a folder that has some")
            return files
        case GoTool(name):
            _check(recipe, name, TOOLS[name].version if name in TOOLS else None)
            layer = Layer(program=toolchain.resolve(name, say=say)[name], path=recipe.path)
        case Busybox():
            found = shutil.which("busybox")
            if found is None:
                raise CouldNotRun(
                    f"image {recipe.reference}: no busybox on PATH; install the package busybox-static; nothing was "
                    "changed"
                )
            program = Path(found).resolve()
            _check(recipe, str(program), on_path.version(program, ("--help",)))
            applets = running.run([program, "--list"], environment=os.environ).output.split()
            layer = Layer(program=program, path=recipe.path, links=[name for name in applets if name != "busybox"])
    if _is_linked(layer.program):
        raise CouldNotRun(
            f"image {recipe.reference}: {layer.program} needs shared libraries, which the image has not; install "
            f"a static one{' (busybox-static)' if layer.links else ''}; nothing was changed"
        )
    return layer


def _check(recipe: Recipe, program: str, version: str | None) -> None:
    if version != recipe.version:
        raise BadInput(
            f"image {recipe.reference}: its recipe pins {program} {recipe.version}, here is {version or 'none'}; "
            "install that version, or change the pin in infra/images/recipes.py; nothing was changed"
        )


def _is_linked(program: Path) -> bool:
    """Whether the program names a dynamic linker, in a program header of its (64-bit) ELF file."""
    with program.open("rb") as file:
        head = file.read(64)
        if len(head) < 64 or not head.startswith(b"\x7fELF"):
            return False
        start, size, count = *struct.unpack_from("<Q", head, 32), *struct.unpack_from("<HH", head, 54)
        file.seek(start)
        table = file.read(size * count)
    return any(struct.unpack_from("<I", table, size * each)[0] == _PT_INTERP for each in range(count))


def _target(recipe: Recipe, layers: Layers, upon: Path | None) -> Path:
    """Where the archive is, or will be: twelve hex digits of all that determines it, its own code among that."""
    code = [digest(Path(__file__).with_name(name)) for name in ("builds.py", "layer.py", "oci.py")]
    what = [dc.asdict(recipe), layers.determinants, upon.name if upon else None, TOOLS["umoci"].version, code]
    key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]
    return paths.cache() / "images" / f"built-{key}.tar"


def _assemble(recipe: Recipe, layers: Iterable[Path], umoci: Path, scratch: Path) -> None:
    """Make the OCI layout, in scratch/layout, upon the image that is there already, if one is."""
    image = f"--image={_LAYOUT}:{recipe.reference}"
    new = (("init", f"--layout={_LAYOUT}"), ("new", image))
    labels = {"source": recipe.source, "version": recipe.version, "title": recipe.reference}
    for arguments in (
        *(() if (scratch / _LAYOUT).exists() else new),
        *(("raw", "add-layer", image, "--compress=none", layer) for layer in layers),
        (
            "config",
            image,
            f"--config.user={recipe.user}",
            *("--config.workingdir=/", "--clear=config.entrypoint", "--clear=config.cmd"),
            *(f"--config.entrypoint={word}" for word in recipe.entrypoint),
            *(f"--config.cmd={word}" for word in recipe.command),
            *(f"--config.env={variable}" for variable in recipe.environment),
            *(f"--config.label=org.opencontainers.image.{name}={value}" for name, value in labels.items()),
        ),
        ("gc", f"--layout={_LAYOUT}"),
    ):
        ended = running.run([umoci, *arguments], environment={**os.environ, "SOURCE_DATE_EPOCH": "0"}, folder=scratch)
        if ended.status != 0:
            raise _failure(recipe, ended.output)


def _failure(recipe: Recipe, output: str) -> KibanError:
    what = f"image {recipe.reference}"
    if "no space left on device" in output or "disk quota exceeded" in output:
        return cache.full(what)
    said = [line.strip() for line in output.splitlines() if line.strip()] or ["(no output)"]
    return RunFailed(f"{what}: umoci failed: {said[-1]}; nothing was kept")
