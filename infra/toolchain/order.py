"""Resolves tools: on PATH, in the cache, from the official release, built, in this order; in the foreground or not."""

import dataclasses as dc
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from infra import console
from infra.errors import BadInput, RunFailed
from infra.toolchain import builds, cache, catalogue, golang, network, on_path, releases
from infra.toolchain.catalogue import Tool
from infra.toolchain.progress import Progress, Say, shown

Source = Literal["path", "cache", "release", "built"]


@dc.dataclass(frozen=True)
class Resolved:
    """A binary, and how it came: found on PATH or in the cache, or just fetched or built."""

    tool: Tool
    path: Path
    source: Source


def find(name: str) -> Resolved | None:
    """The tool where it is here already; nothing is fetched or built. Raises BadInput for an unknown name."""
    return _found(_tool(name))


def resolve(*names: str, say: Say = console.say) -> dict[str, Path]:
    """The binaries' absolute paths, by name; what is missing is fetched or built, in the order given.

    Raises BadInput (unknown tool, checksum mismatch, full disk, no Go to be had), CouldNotRun (no modules to be
    had) or RunFailed (the build failed). What was finished before stays.
    """
    return {resolved.tool.name: resolved.path for resolved in each(names, say)}


def each(names: Sequence[str], say: Say = console.say, stop: threading.Event | None = None) -> Iterator[Resolved]:
    """The tools one by one, each as soon as it is there: first those that are here, then the missing ones.

    stop: set from another thread, ends what is under way with Interrupted.
    """
    tools = [_tool(name) for name in dict.fromkeys(names)]
    missing = []
    for tool in tools:
        resolved = _found(tool)
        if resolved:
            yield resolved
        else:
            missing.append(tool)
    if not missing:
        return
    hosts = network.reachable({base for tool in missing if (base := releases.base(tool))})
    with cache.shared(golang.compiled()):
        for place, tool in enumerate(missing, start=1):
            with shown(f"{tool.name} ({place} of {len(missing)})", say, stop) as progress:
                resolved = _made(tool, released=releases.base(tool) in hosts, progress=progress)
            yield resolved


class Pending(Mapping[str, Path]):
    """Tools on their way in the background; `pending[name]` waits for that one, and raises what its making raised.

    One worker: two builds at once would only share the cores. Leave it as a context: without an error it waits for
    the rest, with one (Ctrl-C too) it ends what is under way.
    """

    def __init__(self, names: Sequence[str], say: Say) -> None:
        self._futures: dict[str, Future[Path]] = {_tool(name).name: Future() for name in names}
        self._stop = threading.Event()
        self._worker = threading.Thread(target=self._work, args=(say,), name="toolchain", daemon=True)
        self._worker.start()

    def __getitem__(self, name: str) -> Path:
        return self._futures[name].result()

    def __contains__(self, name: object) -> bool:
        return name in self._futures

    def __iter__(self) -> Iterator[str]:
        return iter(self._futures)

    def __len__(self) -> int:
        return len(self._futures)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                for future in self._futures.values():
                    future.result()
        finally:
            self._stop.set()  # no matter to a worker that is done
            self._worker.join()

    def _work(self, say: Say) -> None:
        try:
            for resolved in each(list(self._futures), say, self._stop):
                self._futures[resolved.tool.name].set_result(resolved.path)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asks for the tool
            for future in self._futures.values():
                if not future.done():
                    future.set_exception(error)


def start(*names: str, say: Say = console.say) -> Pending:
    """Begin to resolve in the background, in the order given: put first what is needed first."""
    return Pending(names, say)


def _tool(name: str) -> Tool:
    if name not in catalogue.TOOLS:
        raise BadInput(f"tool {name!r} is not known; accepted: {', '.join(catalogue.TOOLS)}; nothing was changed")
    return catalogue.TOOLS[name]


def _found(tool: Tool) -> Resolved | None:
    program = on_path.find(tool)
    if program:
        return Resolved(tool, program, "path")
    binary = releases.cached(tool) or builds.folder(tool, golang.known()) / tool.name
    return Resolved(tool, binary, "cache") if binary.is_file() else None


def _made(tool: Tool, *, released: bool, progress: Progress) -> Resolved:
    """Fetch or build one tool, unless another process does it first."""
    what = f"{tool.name} {tool.version}"
    go = golang.known()
    target = builds.folder(tool, go)
    with cache.claimed(target, what, progress.say, progress.tick) as scratch:
        resolved = _found(tool)
        if resolved:
            return resolved
        source: Source = "release"
        fetched = releases.fetch(tool, scratch, progress) if released else None
        if fetched is None:
            source = "built"
            fetched = builds.build(tool, go, scratch, progress), target
        made, target = fetched
        _check(tool, made / tool.name)
        cache.place(made, target)
    progress.done("fetched" if source == "release" else "built")
    return Resolved(tool, target / tool.name, source)


def _check(tool: Tool, binary: Path) -> None:
    said = on_path.version(binary, tool.version_args)
    if said != tool.version:
        raise RunFailed(f"{tool.name}: the binary says it is {said}, pinned is {tool.version}; it was not kept")
