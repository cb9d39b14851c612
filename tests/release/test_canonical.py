"""The same document has the same bytes, other bytes are no document, and a file is written whole or not at all."""

import os
from pathlib import Path
from typing import Any

import pytest

from infra.release import canonical

DOCUMENT = {"b": [1, None, True, "ü"], "a": {"y": 0.5, "x": "line\nline"}}
BYTES = '{\n "a": {\n  "x": "line\\nline",\n  "y": 0.5\n },\n "b": [\n  1,\n  null,\n  true,\n  "ü"\n ]\n}\n'.encode()


def test_a_documents_bytes_are_pinned() -> None:
    """Digests of documents that were written before depend on each of them."""
    assert canonical.encode(DOCUMENT) == BYTES
    assert canonical.encode(dict(reversed(DOCUMENT.items()))) == BYTES
    assert canonical.decode(BYTES) == DOCUMENT
    assert canonical.digest(DOCUMENT) == "f834e34e4a51cef5912d1f94c07b1d08b236a7a6957f5e3ea716ee66bcae7323"


@pytest.mark.parametrize(
    "data",
    [
        BYTES[:-1],
        BYTES + b"\n",
        b" " + BYTES,
        BYTES.replace(b" ", b"  "),
        BYTES.replace(b"true", b"True"),
        BYTES.replace("ü".encode(), b"\\u00fc"),
        BYTES.replace("ü".encode(), b"\xff"),
        BYTES.replace(b"0.5", b"0.50"),
        b'{\n "a": 1,\n "a": 2\n}\n',
        b'{\n "b": 1,\n "a": 2\n}\n',
        b'{\n "a": NaN\n}\n',
        b"[]\n",
        b"null\n",
        b"",
        b"[" * 100_000,
    ],
)
def test_other_bytes_are_no_document(data: bytes) -> None:
    """Also where JSON means the same by them: what is signed or hashed is the bytes."""
    with pytest.raises(ValueError, match=r"no document|not as it was written"):
        canonical.decode(data)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"])
def test_what_json_has_not_is_refused(value: Any) -> None:  # noqa: ANN401
    """It could not be read again."""
    with pytest.raises(ValueError, match=r"JSON|surrogates"):
        canonical.encode({"a": value})


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """One that is there stays as it is where the new one fails, and nothing else is left."""
    file = tmp_path / "new" / "a.json"
    canonical.write(file, DOCUMENT)
    assert file.read_bytes() == BYTES
    assert canonical.file_digest(file) == canonical.digest(DOCUMENT)
    with pytest.raises(ValueError, match="JSON"):
        canonical.write(file, {"a": float("nan")})
    blocked = tmp_path / "blocked"
    (blocked / "a.json" / "full").mkdir(parents=True)
    with pytest.raises(OSError, match=r"a\.json"):
        canonical.write(blocked / "a.json", DOCUMENT)
    assert file.read_bytes() == BYTES
    assert os.listdir(file.parent) + os.listdir(blocked) == ["a.json", "a.json"]  # noqa: PTH208 - hidden ones too
