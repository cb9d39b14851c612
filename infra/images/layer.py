"""The one layer of an image: a program, and the few files that programs expect around them.

The same input gives the same bytes: fixed order, owner and time.
"""

import dataclasses as dc
import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from infra.images.recipes import USER

_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_ACCOUNTS = {
    "/etc/passwd": f"root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:{USER}:{USER}:nonroot:/tmp:/sbin/nologin\n",
    "/etc/group": f"root:x:0:\nnonroot:x:{USER}:\n",
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

    def write(self, target: Path) -> None:
        """Write it as an uncompressed archive."""
        files = self.files()
        folders = {str(folder) for path in files for folder in PurePosixPath(path).parents} - {"/"}
        with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as layer:
            for folder in sorted(folders):
                layer.addfile(_entry(folder, 0o755, tarfile.DIRTYPE))
            layer.addfile(_entry("/tmp", 0o1777, tarfile.DIRTYPE))  # noqa: S108 - in the image
            for path, content in files.items():
                mode = 0o755 if path == self.path else 0o644
                with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as stream:
                    entry = _entry(path, mode, tarfile.REGTYPE)
                    entry.size = stream.seek(0, io.SEEK_END)
                    stream.seek(0)
                    layer.addfile(entry, stream)
            for name in sorted(self.links):
                link = _entry(str(PurePosixPath(self.path).with_name(name)), 0o777, tarfile.SYMTYPE)
                link.linkname = PurePosixPath(self.path).name
                layer.addfile(link)


def _entry(path: str, mode: int, kind: bytes) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path.lstrip("/"))
    entry.mode, entry.type = mode, kind
    return entry
