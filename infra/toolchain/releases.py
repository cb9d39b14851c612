"""Fetches a tool's official release archive, and trusts it only by the checksum that its project publishes.

What is not there (a platform without a release, a host that does not answer) is no error: the tool is built then.
What is there and has another checksum is one.
"""

import hashlib
import io
import re
import shutil
import tarfile
from pathlib import Path
from urllib.parse import urlsplit

from infra.errors import BadInput
from infra.toolchain import cache, golang, network
from infra.toolchain.catalogue import Release, Tool
from infra.toolchain.progress import Progress

PATIENCE = 10.0
"""Seconds without a byte after which a host that accepted the connection is given up."""

_ALGORITHMS = {64: hashlib.sha256, 128: hashlib.sha512}


def base(tool: Tool) -> str | None:
    """The folder of the tool's release, as a URL; None where the project publishes none."""
    return tool.release.base.format(version=tool.version) if tool.release else None


def cached(tool: Tool) -> Path | None:
    """The binary of a release fetched before, if any: it was checked then."""
    found = sorted((cache.tools() / tool.name).glob(f"{_prefix(tool)}*/{tool.name}"))
    return found[0] if found else None


def fetch(tool: Tool, scratch: Path, progress: Progress) -> tuple[Path, Path] | None:
    """Fetch into scratch/release; that folder, and the one in the cache that it belongs in.

    None where there is nothing to fetch, with a line that says why.
    Raises BadInput where the archive's checksum is not the published one.
    """
    release = tool.release
    if release is None:
        return None
    import httpx  # noqa: PLC0415 - 0.2 s that only a missing tool is worth

    progress.doing("fetching the official release")
    try:
        fetched = _fetch(tool, release, scratch, progress)
    except httpx.TransportError as error:
        network.forget(urlsplit(str(base(tool))).netloc)
        fetched = f"{type(error).__name__} {error}".strip()
    if isinstance(fetched, str):
        progress.say(f"tools: {tool.name} {tool.version}: no official release to be had ({fetched})")
        return None
    digest = fetched.hex()
    return scratch / "release", cache.tools() / tool.name / f"{_prefix(tool)}{digest[:12]}"


def _fetch(tool: Tool, release: Release, scratch: Path, progress: Progress) -> bytes | str:
    """The archive's checksum, verified, with the files in scratch/release; or why there is nothing."""
    import httpx  # noqa: PLC0415 - as above

    names = {
        "version": tool.version,
        "os": golang.system(),
        "arch": release.architectures.get(golang.architecture(), golang.architecture()),
    }
    archive = release.archive.format(**names)
    folder = base(tool)
    timeout = httpx.Timeout(PATIENCE, connect=network.PATIENCE)
    with httpx.Client(timeout=timeout, follow_redirects=True) as client:
        sums = client.get(f"{folder}/{release.checksums.format(**names)}")
        if sums.status_code != httpx.codes.OK:
            return f"{sums.url}: HTTP {sums.status_code}"
        expected = published(sums.text, archive.rpartition("/")[2])
        if expected is None:
            return f"{sums.url} has no SHA-256 or SHA-512 of {archive}"
        file = scratch / "archive"
        digest = _ALGORITHMS[len(expected)]()
        with client.stream("GET", f"{folder}/{archive}") as response, file.open("wb") as target:
            if response.status_code != httpx.codes.OK:
                return f"{response.url}: HTTP {response.status_code}"
            for chunk in response.iter_bytes():
                progress.tick()
                digest.update(chunk)
                target.write(chunk)
    if digest.hexdigest() != expected:
        raise BadInput(
            f"{tool.name} {tool.version}: {folder}/{archive} has checksum {digest.hexdigest()}, its project publishes "
            f"{expected}; try again, or build from pinned modules with KIBAN_OFFLINE=1; nothing was kept"
        )
    absent = _unpack(tool, release, file, names, scratch / "release")
    return f"{archive} has no file {absent}" if absent else digest.digest()


def published(text: str, name: str) -> str | None:
    """The checksum of a file in a checksum file, lower case; None where it is not there or of another length."""
    words = text.split()
    if len(words) == 1:
        found = words[0]
    else:
        pattern = re.compile(rf"^([0-9a-fA-F]+) [ *](?:\./)?{re.escape(name)}$", re.MULTILINE)
        match = pattern.search(text)
        found = match[1] if match else ""
    found = found.lower()
    return found if len(found) in _ALGORITHMS and re.fullmatch(r"[0-9a-f]+", found) else None


def _unpack(tool: Tool, release: Release, file: Path, names: dict[str, str], out: Path) -> str | None:
    """Put the binary, and what belongs beside it, into a folder; the name of the binary where it is not there."""
    out.mkdir()
    if not release.member:
        file.rename(out / tool.name)
        (out / tool.name).chmod(0o755)
        return None
    binary = release.member.format(**names)
    with tarfile.open(file, "r:gz") as archive:
        members = {member.name.removeprefix("./"): member for member in archive if member.isfile()}
        if binary not in members:
            return binary
        wanted = {binary: tool.name, **{path: path.rpartition("/")[2] for path in release.beside if path in members}}
        for path, name in wanted.items():
            content = archive.extractfile(members[path])
            with (out / name).open("wb") as target:
                shutil.copyfileobj(content or io.BytesIO(), target)
            (out / name).chmod(0o755)
    return None


def _prefix(tool: Tool) -> str:
    return f"{tool.version}-release-{golang.system()}-{golang.architecture()}-"
