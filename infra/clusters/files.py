"""Files of Kiban's own state: written so that a reader sees the old or the new one, for their owner's eyes only."""

import os
import shutil
from pathlib import Path


def replace(path: Path, content: bytes | str) -> None:
    """Write `content` to `path`, mode 0600, in one step."""
    data = content.encode() if isinstance(content, str) else content
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    part.replace(path)


def empty(folder: Path) -> None:
    """Remove all that is in the folder."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
