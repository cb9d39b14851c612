"""Builds an image from its recipe into an OCI archive, cached by its content.

What writes the image format is umoci, offline.
"""

import dataclasses as dc
import functools
import hashlib
import json
import os
import shutil
import struct
import time
from pathlib import Path

from infra import console, paths, toolchain
from infra.errors import BadInput, CouldNotRun, KibanError, RunFailed
from infra.images import oci
from infra.images.layer import Layer
from infra.images.recipes import USER, Busybox, GoTool, Recipe
from infra.toolchain import TOOLS, cache, on_path, running
from infra.toolchain.progress import Say

_LAYOUT = "layout"
_PT_INTERP = 3


def tools(recipe: Recipe) -> tuple[str, ...]:
    """The tools that the build puts in or runs."""
    return (recipe.content.name, "umoci") if isinstance(recipe.content, GoTool) else ("umoci",)


def cached(recipe: Recipe) -> Path | None:
    """The archive that was built before, of the program that is here; nothing is made."""
    try:
        if isinstance(recipe.content, GoTool) and toolchain.find(recipe.content.name) is None:
            return None
        target = _target(recipe, _layer(recipe, console.say))
    except KibanError:  # what goes in is not to be had, or not as the recipe pins it: `build` says so
        return None
    return target if target.exists() else None


def build(recipe: Recipe, say: Say) -> Path:
    """The image's archive, built where it is missing, with the tools that it is made of.

    The file's name is a digest of all that determines the image. Raises BadInput for a pin that does not exist and a
    full disk, CouldNotRun where a program that goes in is not to be had, RunFailed where umoci fails, and what
    building a tool raises.
    """
    layer = _layer(recipe, say)
    target = _target(recipe, layer)
    if target.exists():
        return target
    umoci = toolchain.resolve("umoci", say=say)["umoci"]
    what = f"image {recipe.reference}"
    needed = 3 * layer.program.stat().st_size  # in the layer, in the layout, in the archive
    if cache.free() < needed:
        raise cache.full(what, needed)
    with cache.claimed(target, what, say) as scratch:
        if not target.exists():
            began = time.monotonic()
            _assemble(recipe, layer, umoci, scratch)
            cache.place(oci.pack(scratch / _LAYOUT), target)
            say(f"images: {recipe.reference} built in {time.monotonic() - began:.0f} s")
    return target


def _layer(recipe: Recipe, say: Say) -> Layer:
    """What goes in: the program of exactly the recipe's version."""
    match recipe.content:
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


def _target(recipe: Recipe, layer: Layer) -> Path:
    """Where the archive is, or will be: twelve hex digits of all that determines it, its own code among that."""
    files = {path: _digest(content) for path, content in layer.files().items()}
    code = [_digest(Path(__file__).with_name(name)) for name in ("builds.py", "layer.py", "oci.py")]
    what = [dc.asdict(recipe), files, list(layer.links), TOOLS["umoci"].version, code]
    key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]
    return paths.cache() / "images" / f"built-{key}.tar"


def _digest(content: Path | bytes) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    state = content.stat()
    return _file_digest(content, state.st_mtime_ns, state.st_size)


@functools.cache  # 0.2 s for a large program, asked several times
def _file_digest(file: Path, _mtime: int, _size: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _assemble(recipe: Recipe, layer: Layer, umoci: Path, scratch: Path) -> None:
    """Make the OCI layout, in scratch/layout."""
    layer.write(scratch / "layer.tar")
    image = f"--image={_LAYOUT}:{recipe.reference}"
    labels = {"source": recipe.source, "version": recipe.version, "title": recipe.reference}
    for arguments in (
        ("init", f"--layout={_LAYOUT}"),
        ("new", image),
        ("raw", "add-layer", image, "--compress=none", "layer.tar"),
        (
            "config",
            image,
            f"--config.user={USER}",
            "--config.workingdir=/",
            *(f"--config.entrypoint={word}" for word in recipe.entrypoint),
            *(f"--config.cmd={word}" for word in recipe.command),
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
