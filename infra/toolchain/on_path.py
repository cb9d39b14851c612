"""Finds a tool on PATH at exactly the pinned version, by running it. Not for the cache: what lies there is skipped."""

import functools
import os
import re
import select
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from infra import paths
from infra.toolchain import running
from infra.toolchain.catalogue import Tool

PATIENCE = 5.0
"""Seconds that a program has to say its version; one that takes longer is not the tool."""

_VERSION = re.compile(r"(?<![\w./])v?(\d+\.\d+\.\d+(?:[-+.]\w+|\w)*)")
_BUILD_INFO = re.compile(rb"path\t([!-~]+)\n((?:(?:mod|dep|=>)\t[^\n]*\n)+)")
_MODULE = re.compile(rb"^(?:mod|dep)\t(\S+)\t(\S+)", re.MULTILINE)


def find(tool: Tool) -> Path | None:
    """The first program of the tool's name on PATH that is the pinned version, or None."""
    for program in programs(tool.name):
        if version(program, tool.version_args) == tool.version:
            return program
    return None


def programs(name: str) -> Iterator[Path]:
    """Executables of this name on PATH, in its order, each file once; none that lies in Kiban's cache."""
    seen = set()
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        program = Path(folder or ".").absolute() / name
        file = program.resolve()
        if file in seen or not os.access(file, os.X_OK) or not file.is_file():
            continue
        seen.add(file)
        if not file.is_relative_to(paths.cache().resolve()):
            yield program


def version(program: Path, version_args: tuple[str, ...] | None) -> str | None:
    """The version that a program says it is, without a leading v; None where it fails, hangs or says none.

    version_args: see `Tool`.
    """
    state = program.stat()
    return _said(program, version_args, state.st_mtime_ns, state.st_size)


def parse(text: str) -> str | None:
    """The first version in a text, with its suffix: `v1.32.4-dispatcher` is not 1.32.4. Folders are not looked at."""
    match = _VERSION.search(text)
    return match[1] if match else None


@functools.cache
def _said(program: Path, version_args: tuple[str, ...] | None, _mtime: int, _size: int) -> str | None:
    if version_args is None:
        return parse(_built_from(program))
    # Pulumi makes log folders and asks for updates when it says its version: neither belongs to a look at PATH.
    with tempfile.TemporaryDirectory(prefix="kiban-") as scratch:
        environment = {**os.environ, "PULUMI_HOME": scratch, "PULUMI_SKIP_UPDATE_CHECK": "true"}
        try:
            if not version_args:
                return parse(_plugin_info(program, environment))
            run = functools.partial(running.run, [program, *version_args], environment=environment, limit=PATIENCE)
            ended = run(stderr=False)  # errors may name other versions
            if ended.status == 0 and parse(ended.output) is None:
                ended = run(stderr=True)  # kube-router says its own there
        except OSError:
            return None
        return parse(ended.output) if ended.status == 0 else None


def _built_from(program: Path) -> str:
    """The version of the module that a Go program's main package is in; empty where Go has not built it.

    Build information is text in the program (Go's package debug/buildinfo): its package, then its modules.
    """
    info = _BUILD_INFO.search(program.read_bytes())
    package, modules = info.groups() if info else (b"", b"")
    holding = [version for module, version in _MODULE.findall(modules) if (package + b"/").startswith(module + b"/")]
    return holding[0].decode() if holding else ""


def _plugin_info(program: Path, environment: dict[str, str]) -> str:
    """What a Pulumi plugin answers to GetPluginInfo; empty where it does not answer.

    A plugin prints its port and serves; it wants the engine's address, but does not call it for this. The answer is
    left undecoded: it is one string, the version.
    """
    import grpc  # noqa: PLC0415 - 0.1 s that only a plugin on PATH, or one just made, is worth

    with subprocess.Popen(
        [program, "127.0.0.1:1"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as plugin:
        try:
            if plugin.stdout is None or not select.select([plugin.stdout], [], [], PATIENCE)[0]:
                return ""
            port = plugin.stdout.readline().decode(errors="replace").strip()
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                info = channel.unary_unary("/pulumirpc.ResourceProvider/GetPluginInfo")
                return str(info(b"", timeout=PATIENCE).decode(errors="replace"))
        except grpc.RpcError:
            return ""
        finally:
            running.kill(plugin)
