"""Image stores in the cache that real nodes begin with: what containerd keeps of a set of images, unpacked once.

A node gets all files by hard links, and copies of the databases. Nothing writes to what is linked: blobs are never
changed, and a container has what it changes in a layer of its own. A store begins with the one that is most like it.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from infra import images, paths, tied
from infra.clusters.embedded import enclosure
from infra.clusters.waiting import until
from infra.errors import RunFailed
from infra.toolchain import TOOLS, cache

Say = Callable[[str], None]
CONTAINERD, MARKS = "containerd", "images"
"""Folders of a store: containerd's root, and a file for each image: its archive's name, its reference and source."""
_STORES = 6
"""How many the cache keeps, the last used ones."""
_CONFIGURATION = """
version = 3
root = "{root}"
state = "{state}"
imports = []
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"]
[grpc]
  address = "{socket}"
"""


def furnish(root: Path, marks: Path, references: Sequence[str], tools: Mapping[str, Path], say: Say) -> bool:
    """Give a node that has no images yet these; False where that cannot be, and they have to be imported.

    root: of the node's containerd, which does not run. marks: where the node notes its images.
    It cannot be where an image is yet to be pulled or built: then each is imported as it comes, while others are made.
    Neither where the cache is on another file system.
    """
    archives = {reference: images.cached(reference) for reference in references}
    had = {reference: archive for reference, archive in archives.items() if archive}
    if len(had) < len(archives) or not _same_device(root, paths.cache()):
        return False
    store = _store(had, tools, say)
    shutil.rmtree(root, ignore_errors=True)
    _link(store / CONTAINERD, root)
    shutil.copytree(store / MARKS, marks, dirs_exist_ok=True)
    return True


def _store(archives: Mapping[str, Path], tools: Mapping[str, Path], say: Say) -> Path:
    """The store of exactly these images, made where it is missing."""
    stems = sorted(archive.stem for archive in archives.values())
    key = hashlib.sha256("\n".join([TOOLS["containerd"].version, *stems]).encode()).hexdigest()[:16]
    target = paths.cache() / "stores" / key
    if not target.exists():
        with cache.claimed(target, f"stores/{key}", say) as scratch:
            if not target.exists():
                _make(scratch, archives, tools, say)
                os.sync()  # once, not for each of some hundred thousand files
                (scratch / "store").rename(target)
    target.touch()
    cache.keep(target.parent, _STORES)
    return target


def _make(scratch: Path, archives: Mapping[str, Path], tools: Mapping[str, Path], say: Say) -> None:
    made = scratch / "store"
    made.mkdir()
    wanted = {archive.stem for archive in archives.values()}
    nearest = _nearest(wanted)
    if nearest:
        _link(nearest / CONTAINERD, made / CONTAINERD)
        shutil.copytree(nearest / MARKS, made / MARKS)
    missing = {reference: each for reference, each in archives.items() if not (made / MARKS / each.stem).exists()}
    say(f"images: unpacking {len(missing)} of {len(archives)}, once for all clusters that have the same")
    with _containerd(scratch, made / CONTAINERD, tools) as ctr:
        for mark in (made / MARKS).glob("*"):
            if mark.name not in wanted:
                _remove_image(ctr, mark)
        for reference, archive in missing.items():
            import_image(ctr, made / MARKS, reference, archive)


def _remove_image(ctr: Sequence[str], mark: Path) -> None:
    """Have a containerd forget an image, and what no other one has of it."""
    reference = mark.read_text().split()[0]
    done = run(ctr, "images", "remove", "--sync", reference)
    if done.returncode != 0:
        raise RunFailed(f"image {reference}: containerd keeps it: {done.stderr.strip().splitlines()[-1]}")
    mark.unlink()


def import_image(ctr: Sequence[str], marks: Path, reference: str, archive: Path) -> None:
    """Have a containerd unpack an image, and note that it has it. ctr: the command line that reaches it."""
    done = run(ctr, "images", "import", str(archive))
    if done.returncode != 0:
        raise RunFailed(f"image {reference}: containerd refuses it: {done.stderr.strip().splitlines()[-1]}")
    marks.mkdir(exist_ok=True)
    (marks / archive.stem).write_text(f"{reference} {images.how(reference)}")


def _nearest(stems: set[str]) -> Path | None:
    """The store that lacks the fewest of these, and of those the one that has the fewest others."""
    stores = {store: {mark.name for mark in (store / MARKS).iterdir()} for store in _stores()}
    usable = [store for store, had in stores.items() if had & stems]
    return min(usable, key=lambda store: (len(stems - stores[store]), len(stores[store] - stems)), default=None)


def _stores() -> Iterator[Path]:
    yield from (each for each in (paths.cache() / "stores").glob("*") if (each / MARKS).is_dir())


@contextlib.contextmanager
def _containerd(scratch: Path, root: Path, tools: Mapping[str, Path]) -> Iterator[list[str]]:
    """The command line of `ctr` for a containerd that unpacks into a root, while it lasts."""
    file, log = scratch / "containerd.toml", scratch / "containerd.log"
    with tempfile.TemporaryDirectory(prefix="kiban-") as state:  # the path of a socket has to be short
        socket = Path(state, "containerd.sock")
        file.write_text(_CONFIGURATION.format(root=root, state=state, socket=socket))
        command = [enclosure.program("unshare"), "--mount", "--propagation=private", "--"]
        with log.open("w") as output:
            daemon = subprocess.Popen(
                tied.command([*command, str(tools["containerd"]), f"--config={file}"], dies_by=signal.SIGKILL),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        ctr = [str(tools["ctr"]), f"--address={socket}", "--namespace=k8s.io"]
        try:
            until(lambda: run(ctr, "version").returncode == 0, seconds=30, what="containerd to answer")
            yield ctr
        finally:
            daemon.terminate()
            daemon.wait()


def run(ctr: Sequence[str], *words: str) -> "subprocess.CompletedProcess[str]":
    """Run `ctr`, which may fail."""
    return subprocess.run([*ctr, *words], capture_output=True, text=True, check=False)


def _link(source: Path, target: Path) -> None:
    """Copy a containerd root: by links, but for its databases."""
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "--archive", "--link", str(source), str(target)], check=True, capture_output=True)  # noqa: S607
    for database in target.glob("*/*.db"):
        own = database.with_suffix(".own")
        shutil.copy2(database, own)
        own.replace(database)


def _same_device(root: Path, other: Path) -> bool:
    there = next(each for each in (root, *root.parents) if each.exists())
    return there.stat().st_dev == other.stat().st_dev
