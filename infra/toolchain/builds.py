"""Builds a tool from its family's pinned modules, finds files in them, and says in one line why where that fails.

Reads go.mod and go.sum, never writes them: what is not pinned there is not built.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from infra import console, paths
from infra.errors import BadInput, CouldNotRun, KibanError, RunFailed
from infra.toolchain import cache, catalogue, golang, running
from infra.toolchain.catalogue import Tool
from infra.toolchain.golang import Go
from infra.toolchain.progress import Progress, Say, shown

_NO_NETWORK = re.compile(
    r"dial tcp|no such host|connection re(?:fused|set)|i/o timeout|TLS handshake|server misbehaving|"
    r"network is unreachable|proxyconnect|unexpected EOF",
)


def key(tool: Tool, go: Go) -> str:
    """Twelve hex digits of all that determines the binary: pins, own source, package, flags, Go, platform."""
    added = {name for names in tool.additions.values() for name in names.values()}
    files = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(tool.folder.iterdir())
        if file.name in {"go.mod", "go.sum", *added} or file.suffix == ".go"
    }
    own = [tool.package, tool.ldflags, sorted(tool.additions.items()), files, *tool.tags]
    what = [go.version, golang.determinants(), *own]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def folder(tool: Tool, go: Go) -> Path:
    """Where the binary that this Go builds is, or will be."""
    return cache.tools() / tool.name / f"{tool.version}-{key(tool, go)}"


def build(tool: Tool, go: Go, scratch: Path, progress: Progress) -> Path:
    """Build into scratch/out and return that folder.

    Raises BadInput for a module whose checksum is not the pinned one, for a full disk and for a Go that cannot be
    had; CouldNotRun where modules cannot be downloaded; RunFailed, with the end of the log, for all else.
    """
    check_space(tool)
    out = scratch / "out"
    out.mkdir()
    family = _Family(f"{tool.name} {tool.version}", tool.folder, go, scratch, progress)
    progress.doing("building from pinned modules")
    for module, files in tool.additions.items():
        family.add(module, files)
    family.run("build", f"-tags={','.join(tool.tags)}", "-ldflags", tool.ldflags, "-o", out / tool.name, tool.package)
    return out


def module_folder(family: str, module: str, say: Say = console.say) -> Path:
    """The files of a module that a family pins, charts and manifests among them; downloaded where they are missing.

    Raises as `build` does.
    """
    with tempfile.TemporaryDirectory(prefix="kiban-") as scratch, shown(module, say) as progress:
        pins = catalogue.MODULES / family
        return _Family(module, pins, golang.known(), Path(scratch), progress).module(module)


class _Family:
    """Go, run in a copy of the folder of a family's go.mod. what: what it is run for, as messages name it."""

    def __init__(self, what: str, pins: Path, go: Go, scratch: Path, progress: Progress) -> None:
        self._what = what
        self._pins = pins
        self._folder = scratch / "family"
        _copy(pins, self._folder)
        self._progress = progress
        self._program = golang.installed(go, progress.say, progress.tick)
        temporary = scratch / "tmp"
        temporary.mkdir()
        self._environment = golang.environment(go, temporary)

    def run(self, *arguments: str | Path) -> str:
        """What Go prints."""
        ended = running.run(
            [self._program, *arguments], environment=self._environment, folder=self._folder, tick=self._progress.tick
        )
        if ended.status != 0:
            raise _failure(self._what, self._pins / "go.sum", ended.output, self._progress)
        return ended.output

    def module(self, path: str) -> Path:
        """The folder of a module in the module cache, checked against go.sum when it is downloaded."""
        self.run("mod", "download", path)
        return Path(self.run("list", "-m", "-f", "{{.Dir}}", path).strip())

    def add(self, module: str, files: Mapping[str, str]) -> None:
        """Put files of the family into a copy of a module, and build that copy instead; see `Tool.additions`."""
        original, copy = self.module(module), self._folder / module
        _copy(original, copy)
        for path, name in files.items():
            _copy(self._folder / name, copy / path)
        self.run("mod", "edit", f"-replace={module}=./{module}")


def _copy(source: Path, target: Path) -> None:
    """Copy a file, or a folder's files, without modes: a checkout and a module cache may be read-only."""
    for file in (source, *source.rglob("*")):
        if file.is_file():
            place = target / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)


def check_space(tool: Tool) -> None:
    """Raise BadInput where the disk has less free than the build will take."""
    family = [other.name for other in catalogue.TOOLS.values() if other.family == tool.family]
    built = any(binary for name in family for binary in (cache.tools() / name).glob(f"*/{name}"))
    compiled = built and any(golang.compiled().glob("*"))  # emptied when the last that builds ends
    needed = catalogue.SPARE if compiled else catalogue.SPACE.get(tool.family, catalogue.SPARE)
    if cache.free() < needed:
        raise cache.full(f"{tool.name} {tool.version}", needed)


def _failure(what: str, pins: Path, output: str, progress: Progress) -> KibanError:
    """Why Go failed, from what it printed."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["(no output)"]
    if "no space left on device" in output or "disk quota exceeded" in output:
        return cache.full(what)
    if "checksum mismatch" in output:
        module = _first(r"verifying (\S+): checksum mismatch", output, "a module")
        given = _first(r"downloaded:\s*(\S+)", output, "another checksum")
        accepted = _first(r"go\.sum:\s*(\S+)", output, "what it pins")
        return BadInput(
            f"{what}: module {module} has checksum {given}, {pins} accepts {accepted}; restore that file, or find out "
            "who changed the module; nothing was built"
        )
    if "missing go.sum entry" in output:
        module = _first(
            r"missing go\.sum entry.*? (?:module|package) ?(?:providing package )?(\S+)", output, "a module"
        )
        return BadInput(f"{what}: {pins} has no checksum of {module}, and nothing unpinned is built; restore that file")
    if "disabled by GOPROXY=off" in output:
        return CouldNotRun(
            f"{what}: its modules are not all in the module cache and KIBAN_OFFLINE=1 forbids downloads; run once "
            f"without it ({lines[-1]})"
        )
    if _NO_NETWORK.search(output):
        return CouldNotRun(f"{what}: its modules cannot be downloaded; make a Go module proxy reachable ({lines[-1]})")
    log = paths.cache() / "logs" / f"{re.sub(r'[ /]', '-', what)}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(output)
    for line in lines[-12:]:
        progress.say(f"  {line}")
    return RunFailed(f"{what}: go build failed: {lines[-1]}; all it printed is in {log}")


def _first(pattern: str, text: str, otherwise: str) -> str:
    match = re.search(pattern, text)
    return match[1].rstrip(":;,") if match else otherwise
