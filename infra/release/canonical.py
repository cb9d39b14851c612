"""The one way in which a release's documents are written, so that the same document has the same bytes and digest."""

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SHA256 = re.compile(r"[0-9a-f]{64}")
"""A digest as all documents have it."""


def encode(document: Mapping[str, Any]) -> bytes:
    """A document's bytes: JSON, keys sorted, one space a level, UTF-8, one newline at the end.

    Raises ValueError for what JSON has not: NaN, an infinity, a lone surrogate.
    """
    text = json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def decode(data: bytes) -> dict[str, Any]:
    """The document of which these are the bytes. Raises ValueError where `encode` would write others."""
    try:
        document = json.loads(data)
        if isinstance(document, dict) and encode(document) == data:
            return document
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no document: {error}") from None
    raise ValueError("not as it was written: other spaces, another order, a key twice, or no mapping")


def digest(document: Mapping[str, Any]) -> str:
    """The SHA-256, in hex, of a document's bytes."""
    return hashlib.sha256(encode(document)).hexdigest()


def file_digest(file: Path) -> str:
    """The SHA-256, in hex, of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def write(file: Path, document: Mapping[str, Any]) -> None:
    """Write a document whole or not at all; it is on the disk when this returns."""
    put(file, encode(document))


def put(file: Path, data: bytes) -> None:
    """Write a file whole or not at all; it is on the disk when this returns. Missing folders are made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as opened:
            os.fchmod(handle, 0o644)
            opened.write(data)
            opened.flush()
            os.fsync(handle)
        Path(scratch).replace(file)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(scratch).unlink()
        raise
    synced(file.parent)


def synced(folder: Path) -> None:
    """Have a folder's names on the disk: of files that were made in it, or renamed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
