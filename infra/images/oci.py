"""The OCI format of an image's archive: the layout in a tar file, with one manifest whose name is the full reference.

containerd takes that name over as it is when it imports the archive.
"""

import json
import tarfile
from pathlib import Path

_NAME = "org.opencontainers.image.ref.name"


def name(layout: Path, reference: str) -> str:
    """Give the layout's one manifest the reference for its name, and return its digest."""
    file = layout / "index.json"
    index = json.loads(file.read_text())
    (manifest,) = index["manifests"]
    manifest["annotations"] = {_NAME: reference}
    file.write_text(json.dumps(index))
    return str(manifest["digest"])


def pack(layout: Path) -> Path:
    """Put the layout into one file beside it, with nothing in it that differs from time to time."""
    packed = layout.with_suffix(".tar")
    with tarfile.open(packed, "w", format=tarfile.PAX_FORMAT) as whole:
        for file in sorted(layout.rglob("*")):
            if file.is_file():
                entry = tarfile.TarInfo(str(file.relative_to(layout)))
                entry.size = file.stat().st_size
                with file.open("rb") as content:
                    whole.addfile(entry, content)
    return packed
