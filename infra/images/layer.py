"""Layers of one static program, with the few files that programs expect around them, and of a folder of files.

The same input gives the same bytes: fixed order, owner and time.
"""

import dataclasses as dc
import functools
import hashlib
import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from infra.images.recipes import USER
from infra.toolchain.progress import Say

_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
ACCOUNT = f"nonroot:x:{USER}:{USER}:nonroot:/tmp:/sbin/nologin"
"""Of an image's user, in /etc/passwd."""
GROUP = f"nonroot:x:{USER}:"
"""Of an image's user, in /etc/group."""

_ACCOUNTS = {
    "/etc/passwd": f"root:x:0:0:root:/root:/sbin/nologin\n{ACCOUNT}\n",
    "/etc/group": f"root:x:0:\n{GROUP}\n",
}


@dc.dataclass(frozen=True, kw_only=True)
class Layer:
    """A program at a path in the image, and names of links beside it that lead to it."""

    program: Path
    path: str
    links: Sequence[str] = ()

    def files(self) -> Mapping[str, Path | bytes]:
        """Path in the image to the file on this machine, or to its content."""
        found: dict[str, Path | bytes] = {path: text.encode() for path, text in _ACCOUNTS.items()}
        found[self.path] = self.program
        if _CERTIFICATES.is_file():
            found[str(_CERTIFICATES)] = _CERTIFICATES
        return {path: found[path] for path in sorted(found)}

    @property
    def determinants(self) -> list[object]:
        """All that determines it, for JSON."""
        return [{path: digest(content) for path, content in self.files().items()}, list(self.links)]

    @property
    def space(self) -> int:
        """Bytes that making an image of it takes: in the layer, in the layout, in the archive."""
        return 3 * self.program.stat().st_size

    def make(self, scratch: Path, _say: Say) -> tuple[Path]:
        """Make it, in the scratch folder."""
        layer = scratch / "layer.tar"
        self.write(layer)
        return (layer,)

    def write(self, target: Path) -> None:
        """Write it as an uncompressed archive."""
        files = self.files()
        with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as layer:
            for folder in folders(files):
                layer.addfile(folder)
            layer.addfile(entry("/tmp", 0o1777, tarfile.DIRTYPE))  # noqa: S108 - in the image
            for path, content in files.items():
                mode = 0o755 if path == self.path else 0o644
                with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as stream:
                    file = entry(path, mode, tarfile.REGTYPE)
                    file.size = stream.seek(0, io.SEEK_END)
                    stream.seek(0)
                    layer.addfile(file, stream)
            for name in sorted(self.links):
                link = entry(str(PurePosixPath(self.path).with_name(name)), 0o777, tarfile.SYMTYPE)
                link.linkname = PurePosixPath(self.path).name
                layer.addfile(link)


@dc.dataclass(frozen=True, kw_only=True)
class Files:
    """What is in a folder, at a path in the image: regular files, readable by all; no compiled Python."""

    folder: Path
    into: str

    @property
    def determinants(self) -> list[object]:
        """All that determines it, for JSON."""
        return [{path: digest(file) for path, file in self._found().items()}, self.into]

    @property
    def space(self) -> int:
        """Bytes that making an image of it takes: in the layer, in the layout, in the archive."""
        return 3 * sum(file.stat().st_size for file in self._found().values())

    def make(self, scratch: Path, _say: Say) -> tuple[Path]:
        """Make it, in the scratch folder."""
        found, made = self._found(), scratch / "layer.tar"
        with tarfile.open(made, "w", format=tarfile.PAX_FORMAT) as layer:
            for folder in folders(found):
                layer.addfile(folder)
            for path, file in found.items():
                added = entry(path, 0o644, tarfile.REGTYPE)
                added.size = file.stat().st_size
                with file.open("rb") as content:
                    layer.addfile(added, content)
        return (made,)

    def _found(self) -> dict[str, Path]:
        files = (file for file in self.folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
        return {str(PurePosixPath(self.into, *file.relative_to(self.folder).parts)): file for file in sorted(files)}


def entry(path: str, mode: int, kind: bytes) -> tarfile.TarInfo:
    """An entry of a layer, of root and of the first of January 1970."""
    made = tarfile.TarInfo(path.lstrip("/"))
    made.mode, made.type = mode, kind
    return made


def folders(files: Iterable[str]) -> list[tarfile.TarInfo]:
    """Entries of the folders above files, in an order in which they can be made."""
    above = {str(folder) for file in files for folder in PurePosixPath(file).parents} - {"/"}
    return [entry(folder, 0o755, tarfile.DIRTYPE) for folder in sorted(above)]


def digest(content: Path | bytes) -> str:
    """The SHA-256 of a file or of bytes."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    state = content.stat()
    return _file_digest(content, state.st_mtime_ns, state.st_size)


@functools.cache  # 0.2 s for a large program, asked several times
def _file_digest(file: Path, _mtime: int, _size: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
