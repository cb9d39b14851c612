"""Builds an image into an OCI archive, cached by its content.

What writes the image format is umoci, offline. The archive is the OCI layout in a tar file; the name of its one
manifest is the full reference, which containerd takes over as it is when it imports it.
"""

import dataclasses as dc
import hashlib
import json
import os
import shutil
import struct
import tarfile
import time
from pathlib import Path

from infra import console, paths, toolchain
from infra.errors import BadInput, CouldNotRun, KibanError, RunFailed
from infra.images.layer import Layer
from infra.images.recipes import RECIPES, USER, Busybox, GoTool, Recipe
from infra.toolchain import TOOLS, cache, on_path, running
from infra.toolchain.progress import Say

_LAYOUT = "layout"
_PT_INTERP = 3


def tools(reference: str) -> tuple[str, ...]:
    """The tools that the image's build runs or puts in. Raises BadInput for a reference without a recipe."""
    content = _recipe(reference).content
    return (content.name, "umoci") if isinstance(content, GoTool) else ("umoci",)


def archive(reference: str, *, say: Say = console.say) -> Path:
    """The image's OCI archive, built where it is missing, with the tools that it is made of.

    The file's name is a digest of all that determines the image. Raises BadInput for a reference without a recipe, a
    pin that does not exist and a full disk, CouldNotRun where a program that goes in is not to be had, RunFailed where
    umoci fails, and what building a tool raises.
    """
    recipe = _recipe(reference)
    layer = _layer(recipe, say)
    target = paths.cache() / "images" / f"{_key(recipe, layer)}.tar"
    if target.exists():
        return target
    umoci = toolchain.resolve("umoci", say=say)["umoci"]
    what = f"image {reference}"
    needed = 3 * layer.program.stat().st_size  # in the layer, in the layout, in the archive
    if cache.free() < needed:
        raise cache.full(what, needed)
    with cache.claimed(target, what, say) as scratch:
        if not target.exists():
            began = time.monotonic()
            _assemble(recipe, layer, umoci, scratch)
            cache.place(_packed(scratch), target)
            say(f"images: {reference} built in {time.monotonic() - began:.0f} s")
    return target


def _recipe(reference: str) -> Recipe:
    if reference not in RECIPES:
        raise BadInput(f"image {reference!r} has no recipe; accepted: {', '.join(RECIPES)}; nothing was changed")
    return RECIPES[reference]


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


def _key(recipe: Recipe, layer: Layer) -> str:
    """Twelve hex digits of all that determines the image, the code that builds it among it."""
    files = {path: _digest(content) for path, content in layer.files().items()}
    code = [_digest(Path(__file__).with_name(name)) for name in ("oci.py", "layer.py")]
    what = [dc.asdict(recipe), files, list(layer.links), TOOLS["umoci"].version, code]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def _digest(content: Path | bytes) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def _packed(scratch: Path) -> Path:
    """The layout as one file, with nothing in it that differs from build to build."""
    packed = scratch / "archive.tar"
    with tarfile.open(packed, "w", format=tarfile.PAX_FORMAT) as whole:
        for file in sorted((scratch / _LAYOUT).rglob("*")):
            if file.is_file():
                entry = tarfile.TarInfo(str(file.relative_to(scratch / _LAYOUT)))
                entry.size = file.stat().st_size
                with file.open("rb") as content:
                    whole.addfile(entry, content)
    return packed
