"""The tools that Kiban runs, each at one pinned version: found, fetched or built.

resolve("etcd", "kubectl")            binaries' paths, made where missing
with start("etcd", "pulumi") as on:   the same in the background; on["etcd"] waits for that one
find("pulumi")                        where it is here already, without making it
module_folder("kueue", "sigs.k8s.io/kueue")   the files of a module that a family pins
"""

from collections.abc import Sequence

from infra import console
from infra.toolchain import catalogue, golang
from infra.toolchain.builds import module_folder
from infra.toolchain.catalogue import TOOLS, Release, Tool
from infra.toolchain.order import Pending, Resolved, each, find, resolve, start
from infra.toolchain.progress import Say

__all__ = [
    "TOOLS",
    "Pending",
    "Release",
    "Resolved",
    "Tool",
    "build",
    "find",
    "list_items",
    "module_folder",
    "resolve",
    "start",
]

Item = dict[str, str | None]


def list_items() -> list[Item]:
    """Every tool with its version, family, source (path, cache or missing) and path; nothing is made."""
    return [_item(tool, find(tool.name)) for tool in catalogue.TOOLS.values()]


def build(names: Sequence[str] = (), say: Say = console.say) -> list[Item]:
    """Resolve the named tools, or all that run here, and say of each what came of it.

    source: path, cache, release or built.
    """
    here = [tool.name for tool in catalogue.TOOLS.values() if golang.system() in (tool.systems or (golang.system(),))]
    return [_item(resolved.tool, resolved) for resolved in each(names or here, say)]


def _item(tool: Tool, resolved: Resolved | None) -> Item:
    return {
        "tool": tool.name,
        "version": tool.version,
        "family": tool.family,
        "source": resolved.source if resolved else "missing",
        "path": str(resolved.path) if resolved else None,
    }
