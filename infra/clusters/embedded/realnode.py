"""Bringing the real node of an embedded cluster up and ending it: its processes, its images, what runs from the start.

The caller holds the cluster's lock.
"""

import http.client
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from infra import images, system, toolchain
from infra.clusters import files
from infra.clusters.embedded import addons, enclosure, imagestore, node, placement, processes
from infra.clusters.embedded.api import Api, Object, Refused
from infra.clusters.embedded.layout import Layout
from infra.clusters.embedded.processes import Handle
from infra.errors import RunFailed

BASE = (node.PAUSE, addons.COREDNS, "docker.io/library/busybox:1.35.0")
"""Images that every real node has."""
_SHIM = "containerd-shim-runc-v2"
_NODE = f"/api/v1/nodes/{node.NAME}"


class RealNode:
    """The real node of one cluster."""

    def __init__(self, at: Layout, tools: Mapping[str, Path]) -> None:
        self._at = at
        self._tools = tools

    def prepare(self, plugins: Path) -> None:
        """Write what its processes read, and make its cgroup. plugins: the folder of the CNI plugins."""
        for path, content in node.files(self._at, plugins, measured=system.measured(self._at.folder)).items():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.replace(path, content)
        node.programs(self._at).mkdir(exist_ok=True)
        link = node.programs(self._at) / _SHIM
        link.unlink(missing_ok=True)
        link.symlink_to(self._tools[_SHIM])
        if not members(self._at.folder):
            enclosure.kill(node.cgroup(self._at.folder))  # pods of an enclosure that is gone
        enclosure.make_cgroup(node.cgroup(self._at.folder))

    def furnish(self, references: Sequence[str], say: Callable[[str], None]) -> None:
        """Give a node that has never run its images at once, where that can be; else they are imported one by one."""
        root = node.folder(self._at) / "lib" / "containerd"
        if not root.exists():
            imagestore.furnish(root, self._marks, (*BASE, *references), self._tools, say)

    def serves(self) -> bool:
        """Whether containerd answers the kubelet, which ends where it does not: it first reads what images it has."""
        return any(_answers(member) for member in members(self._at.folder))

    def command(self) -> tuple[str, ...]:
        """What to put before a command so that it runs on the node."""
        return enclosure.command(node.folder(self._at), members(self._at.folder))

    def load(self, reference: str, say: Callable[[str], None]) -> bool:
        """Import an image unless it is there, pulling or building it first; whether anything was done."""
        for tool in images.tools(reference):
            if tool in self._tools:
                self._tools[tool]  # waits for it, where it is being built
        archive = images.archive(reference, say=say)
        if (self._marks / archive.stem).exists():
            return False
        imagestore.import_image(self._ctr(), self._marks, reference, archive)
        return True

    @property
    def _marks(self) -> Path:
        return node.folder(self._at) / "images"

    def images(self) -> tuple[str, ...]:
        """The references of the images that it has."""
        done = imagestore.run(self._ctr(), "images", "list", "--quiet")
        if done.returncode != 0:
            raise RunFailed(f"containerd does not answer: {done.stderr.strip()}")
        return tuple(sorted(name for name in done.stdout.split() if not name.startswith("sha256:")))

    def _ctr(self) -> list[str]:
        return [*self.command(), str(self._tools["ctr"]), f"--address={node.SOCKET}", "--namespace=k8s.io"]


def _answers(member: Handle) -> bool:
    """Whether a containerd, seen from its mount namespace, tells its version to what asks as a kubelet does."""
    import grpc  # noqa: PLC0415 - a fifth of a second, which only a start is worth

    with grpc.insecure_channel(f"unix:///proc/{member.pid}/root{node.SOCKET}") as channel:
        try:
            channel.unary_unary("/runtime.v1.RuntimeService/Version")(b"", timeout=2)
        except grpc.RpcError:
            return False
        return True


def tools(references: Iterable[str]) -> tuple[str, ...]:
    """The tools that a real node with these images needs, in the order in which it asks for them."""
    of_images = (tool for reference in (*BASE, *references) for tool in images.tools(reference))
    return tuple(dict.fromkeys((*node.TOOLS, *of_images)))


def found_images(at: Layout, api: Api) -> dict[str, str]:
    """Reference to how the node came to have the image, or `absent` for one that a pod names and it has not."""
    here = RealNode(at, toolchain.resolve("ctr")).images()
    marks = sorted((node.folder(at) / "images").glob("*"), key=lambda mark: mark.stat().st_mtime)
    imported = dict(mark.read_text().split() for mark in marks)
    found = {one: imported.get(one, "pulled") for one in here}
    pods = api.get("/api/v1/pods")["items"]
    specs = [pod["spec"] for pod in pods]
    named = {one["image"] for spec in specs for one in (*spec["containers"], *spec.get("initContainers", ()))}
    known = {spelling for one in here for spelling in placement.spellings(one)}
    return dict(sorted((found | dict.fromkeys(named - known, "absent")).items()))


def members(folder: Path) -> tuple[Handle, ...]:
    """The living processes of the cluster's node, and those that they started and that outlived them."""
    return tuple(process for process, name in processes.everything(folder).items() if name in node.NAMES)


def registered(api: Api) -> bool:
    """Whether the node is known."""
    return _conditions(api) is not None


def ready(api: Api) -> bool:
    """Whether the node says that it is."""
    return any(each["type"] == "Ready" and each["status"] == "True" for each in _conditions(api) or ())


def _conditions(api: Api) -> list[Object] | None:
    try:
        found: list[Object] = api.get(_NODE)["status"].get("conditions", [])
    except Refused as refused:
        if refused.status == http.client.NOT_FOUND:
            return None
        raise
    return found


def end(folder: Path) -> None:
    """End the node of the cluster in the folder and every process of its pods, at once; remove their cgroups."""
    processes.kill(members(folder))
    enclosure.kill(node.cgroup(folder))
