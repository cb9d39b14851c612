"""The official release is taken where it can be had and its checksum is the published one, else the tool is built."""

import dataclasses as dc
import hashlib
import http.server
import io
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import toolchain
from infra.errors import BadInput, RunFailed
from infra.toolchain import catalogue, network, releases
from infra.toolchain.catalogue import Release
from tests.infra.toolchain.conftest import Bench
from tests.infra.toolchain.tiny import TINY

PROGRAM = b"#!/bin/sh\necho tiny v1.2.3\n"
ARCHIVE = "tiny-v1.2.3.tar.gz"


class Site:
    """A web site on loopback: files by path, and what was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.moved: dict[str, str] = {}
        self.asked: list[str] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._answer(body=False)

            def do_GET(self) -> None:
                self._answer(body=True)

            def _answer(self, *, body: bool) -> None:
                site.asked.append(f"{self.command} {self.path}")
                if self.path in site.moved:
                    self.send_response(302)
                    self.send_header("Location", site.moved[self.path])
                    self.end_headers()
                    return
                content = site.files.get(self.path)
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                if body:
                    self.wfile.write(content or b"")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def site(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Serve a web site that the tiny tool's release comes from, and turn the network on."""
    made = Site()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.delenv("KIBAN_OFFLINE")
    release_from(monkeypatch, made.url)
    assert bench.cache
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def release_from(monkeypatch: pytest.MonkeyPatch, url: str, **changes: object) -> None:
    """Let the tiny tool have a release at this URL."""
    release = Release(
        base=f"{url}/v{{version}}", archive="tiny-v{version}.tar.gz", checksums="SUMS", member="tiny/tiny"
    )
    tool = dc.replace(TINY, release=dc.replace(release, **changes))  # type: ignore[arg-type]
    monkeypatch.setattr(catalogue, "TOOLS", {"tiny": tool})


def packed(**members: bytes) -> bytes:
    """Return a .tar.gz with these files in a folder tiny/."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(f"tiny/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return target.getvalue()


def published(site: Site, content: bytes) -> None:
    """Put the archive and its checksum, among others', on the site."""
    site.files[f"/v1.2.3/{ARCHIVE}"] = content
    digest = hashlib.sha256(content).hexdigest()
    site.files["/v1.2.3/SUMS"] = f"{'0' * 64}  other.tar.gz\n{digest}  {ARCHIVE}\n{'1' * 64}  {ARCHIVE}.sig\n".encode()


def resolved() -> tuple[str, Path, list[str]]:
    """Resolve the tiny tool and return how it came, its path, and what was said."""
    lines: list[str] = []
    (row,) = toolchain.build(["tiny"], say=lines.append)
    return str(row["source"]), Path(str(row["path"])), lines


def test_a_release_with_the_published_checksum_is_used(bench: Bench, site: Site) -> None:
    """The archive is fetched, checked and kept under a key of its own; the next time nothing is asked for."""
    published(site, packed(tiny=PROGRAM, README=b"read me"))
    source, path, _ = resolved()
    assert source == "release"
    assert path.read_bytes() == PROGRAM
    assert [file.name for file in path.parent.iterdir()] == ["tiny"]
    digest = hashlib.sha256(site.files[f"/v1.2.3/{ARCHIVE}"]).hexdigest()
    assert path.parent.name.startswith("1.2.3-release-")
    assert path.parent.name.endswith(f"-{digest[:12]}")
    site.asked.clear()
    assert resolved()[:2] == ("cache", path)
    assert not site.asked
    assert not bench.calls("build")
    assert not bench.scratch()


def test_what_belongs_beside_the_binary_is_kept_there(
    bench: Bench, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs that the tool looks for in its own folder come along, as far as the archive has them."""
    release_from(monkeypatch, site.url, beside=("tiny/companion", "tiny/gone"))
    published(site, packed(tiny=PROGRAM, companion=b"#!/bin/sh\n", other=b""))
    _, path, _ = resolved()
    assert sorted(file.name for file in path.parent.iterdir()) == ["companion", "tiny"]
    assert all(file.stat().st_mode & 0o111 for file in path.parent.iterdir())
    assert not bench.calls("build")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_bare_binary_with_a_bare_checksum_is_used(
    bench: Bench, site: Site, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    """A project may publish the binary itself, with a file that is nothing but its checksum, of either length."""
    release_from(monkeypatch, site.url, archive="bin/tiny", checksums=f"bin/tiny.{algorithm}", member="")
    site.files["/v1.2.3/bin/tiny"] = PROGRAM
    site.files[f"/v1.2.3/bin/tiny.{algorithm}"] = hashlib.new(algorithm, PROGRAM).hexdigest().encode()
    assert resolved()[0] == "release"
    assert not bench.calls("build")


def test_a_release_behind_a_redirect_is_used(bench: Bench, site: Site) -> None:
    """Release hosts send downloads elsewhere; what counts is the checksum."""
    published(site, packed(tiny=PROGRAM))
    site.files["/elsewhere"] = site.files.pop(f"/v1.2.3/{ARCHIVE}")
    site.moved[f"/v1.2.3/{ARCHIVE}"] = "/elsewhere"
    assert resolved()[0] == "release"
    assert not bench.calls("build")


def test_another_checksum_is_an_error_and_no_reason_to_build(bench: Bench, site: Site) -> None:
    """An archive that is not what its project published is refused; nothing of it is kept and nothing is built."""
    content = packed(tiny=PROGRAM)
    published(site, content)
    site.files[f"/v1.2.3/{ARCHIVE}"] = packed(tiny=PROGRAM + b"# changed")
    with pytest.raises(BadInput) as caught:
        resolved()
    line = str(caught.value)
    assert hashlib.sha256(content).hexdigest() in line
    assert hashlib.sha256(site.files[f"/v1.2.3/{ARCHIVE}"]).hexdigest() in line
    assert "KIBAN_OFFLINE=1" in line
    assert not bench.calls("build")
    assert not bench.binaries()
    assert not bench.scratch()


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("SUMS", None, "SUMS: HTTP 404"),
        (ARCHIVE, None, f"{ARCHIVE}: HTTP 404"),
        ("SUMS", b"0123  tiny-v1.2.3.tar.gz\n", f"has no SHA-256 or SHA-512 of {ARCHIVE}"),
        ("SUMS", b"<html>not\nfound</html>", f"has no SHA-256 or SHA-512 of {ARCHIVE}"),
    ],
    ids=["no checksum file", "no archive", "too short a checksum", "a page instead"],
)
def test_what_is_not_published_is_built(bench: Bench, site: Site, path: str, content: bytes | None, said: str) -> None:
    """A missing archive, or one that cannot be checked, is not used, and a line says why."""
    published(site, packed(tiny=PROGRAM))
    if content is None:
        del site.files[f"/v1.2.3/{path}"]
    else:
        site.files[f"/v1.2.3/{path}"] = content
    source, _, lines = resolved()
    assert source == "built"
    assert any(said in line for line in lines)
    assert len(bench.calls("build")) == 1


def test_an_archive_without_the_binary_is_not_used(bench: Bench, site: Site) -> None:
    """An archive that is laid out differently than expected leads to a build, with a line that says so."""
    published(site, packed(other=PROGRAM))
    source, _, lines = resolved()
    assert source == "built"
    assert any(f"{ARCHIVE} has no file tiny/tiny" in line for line in lines)
    assert bench.calls("build")


def test_offline_nothing_is_asked_for(bench: Bench, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """KIBAN_OFFLINE=1 means that no release host is tried at all."""
    published(site, packed(tiny=PROGRAM))
    monkeypatch.setenv("KIBAN_OFFLINE", "1")
    assert resolved()[0] == "built"
    assert not site.asked
    assert bench.calls("build")


def test_a_refused_connection_leads_to_a_build_and_is_remembered(
    bench: Bench, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that cannot be reached is not tried again for ten minutes, by this process or another."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    release_from(monkeypatch, f"http://127.0.0.1:{port}")
    assert resolved()[0] == "built"
    (stamp,) = (bench.cache / "unreachable").iterdir()
    assert stamp.name == f"127.0.0.1_{port}"
    stamp.rename(stamp.with_name(site.url.removeprefix("http://").replace(":", "_")))
    assert network.reachable([site.url]) == set()
    assert not site.asked


def test_a_memory_of_an_unreachable_host_fades(bench: Bench, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten minutes the host gets another chance."""
    network.forget(site.url.removeprefix("http://"))
    assert network.reachable([site.url]) == set()
    monkeypatch.setattr(network, "_REMEMBERED", 0.0)
    assert network.reachable([site.url]) == {site.url}
    assert bench.cache.exists()


@pytest.mark.usefixtures("site")
def test_many_silent_hosts_cost_one_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts that accept a connection and never answer are given up together, not one after the other."""
    monkeypatch.setattr(network, "PATIENCE", 0.5)
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(9)]
    try:
        urls = [f"http://127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]
        began = time.monotonic()
        assert network.reachable(urls) == set()
        assert time.monotonic() - began < 9 * 0.5 / 2
    finally:
        for listener in listeners:
            listener.close()


def test_a_host_that_falls_silent_in_the_middle_leads_to_a_build(
    bench: Bench, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that answers the first question and then no more is given up, and the tool is built."""
    monkeypatch.setattr(releases, "PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        published(site, packed(tiny=PROGRAM))
        site.moved["/v1.2.3/SUMS"] = f"http://127.0.0.1:{silent.getsockname()[1]}/SUMS"
        source, _, lines = resolved()
    assert source == "built"
    assert any("no official release to be had (ReadTimeout" in line for line in lines)
    assert bench.calls("build")
    assert not bench.scratch()


def test_a_release_of_another_version_is_not_kept(bench: Bench, site: Site) -> None:
    """An archive that is as published, but whose binary says another version, is found out before it is used."""
    published(site, packed(tiny=b"#!/bin/sh\necho tiny v9.9.9\n"))
    with pytest.raises(RunFailed, match=r"says it is 9\.9\.9"):
        resolved()
    assert not bench.binaries()
