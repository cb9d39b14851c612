"""An image comes from its registry where that gives it, as containerd imports it; else it is built, or there is none.

The registry is crane's own, on loopback; in front of it a gate that lets through what a test says.
"""

import dataclasses as dc
import http.server
import json
import os
import platform
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from infra import images, toolchain
from infra.errors import BadInput, CouldNotRun
from infra.images import archives, pulls
from tests.infra.images.conftest import BUSYBOX, Archive, quiet
from tests.infra.toolchain.tiny import write_program

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
Answer = Callable[[str, Mapping[str, str]], int]


class Registry:
    """Crane's registry. `host` is the gate's: `answer` gives the status of a path and its headers, 200 lets through."""

    def __init__(self, port: str) -> None:
        self._port = port
        self.answer: Answer = lambda *_: 200
        registry = self

        class Gate(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._pass_on()

            def do_GET(self) -> None:
                self._pass_on()

            def _pass_on(self) -> None:
                status, found = registry.answer(self.path, dict(self.headers)), None
                if status == httpx.codes.OK:
                    accept = {"Accept": self.headers.get("Accept", "*/*")}
                    found = httpx.request(self.command, f"http://127.0.0.1:{port}{self.path}", headers=accept)
                    status = found.status_code
                self.send_response(status)
                self.send_header("WWW-Authenticate", 'Basic realm="test"')
                for name, value in (found.headers if found else {"Content-Length": "0"}).items():
                    self.send_header(name, value)
                self.end_headers()
                if found:
                    self.wfile.write(found.content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gate)
        self.host = f"127.0.0.1:{self.server.server_port}"

    def push(self, archive: Path, name: str) -> str:
        """Push an archive's image, and return its digest."""
        layout = archive.with_suffix("")
        with tarfile.open(archive) as whole:
            whole.extractall(layout, filter="data")
        pushed = self.crane("push", str(layout), f"{self.inside}/{name}")
        return pushed.rpartition("@")[2]

    @property
    def inside(self) -> str:
        """Its own address, behind the gate."""
        return f"127.0.0.1:{self._port}"

    def crane(self, *arguments: str) -> str:
        """What crane prints."""
        run = subprocess.run(["crane", *arguments], check=True, capture_output=True, text=True)
        return run.stdout.strip()


@pytest.fixture
def built(empty: Path) -> Path:
    """Return the archive of the image that is pushed, built, and out of the cache."""
    return images.archive(BUSYBOX, say=quiet).rename(empty.parent / "busybox.tar")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """Serve a registry, and turn the network on."""
    monkeypatch.delenv("KIBAN_OFFLINE")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    pulls.answers.cache_clear()
    crane = ["crane", "registry", "serve", "--address=127.0.0.1:0"]
    with subprocess.Popen(crane, stderr=subprocess.PIPE, text=True) as serving:
        assert serving.stderr
        made = Registry(serving.stderr.readline().split()[-1])
        thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.server.shutdown()
        made.server.server_close()
        thread.join()
        serving.kill()
    pulls.answers.cache_clear()


def with_recipe(monkeypatch: pytest.MonkeyPatch, reference: str) -> None:
    """Give a reference the recipe of BusyBox, and no other any."""
    monkeypatch.setattr(archives, "RECIPES", {reference: dc.replace(images.RECIPES[BUSYBOX], reference=reference)})


def test_an_image_without_a_recipe_is_pulled(registry: Registry, built: Path) -> None:
    """The archive is the pushed image under its full reference, and a line says which, and how long it took."""
    reference = f"{registry.host}/library/busybox:1.35.0"
    digest = registry.push(built, "library/busybox:1.35.0")
    said: list[str] = []
    assert images.tools(reference) == ("crane",)
    pulled = Archive(images.archive(reference, say=said.append))
    (manifest,) = pulled.index["manifests"]
    assert manifest["annotations"] == {"org.opencontainers.image.ref.name": reference}
    assert manifest["digest"] == digest
    assert pulled.config == Archive(built).config
    assert pulled.layer["bin/sh"].linkname == "busybox"
    assert said == [f"images: {reference} pulled in 0 s ({digest})"]


def test_a_pulled_image_is_kept(registry: Registry, built: Path) -> None:
    """Once it is there, neither the registry nor any tool is needed."""
    reference = f"{registry.host}/busybox:1"
    registry.push(built, "busybox:1")
    assert images.how(reference) is None
    first = images.archive(reference, say=quiet)
    registry.answer = lambda *_: pytest.fail("it was asked")
    said: list[str] = []
    assert images.archive(reference, say=said.append) == first
    assert images.tools(reference) == ()
    assert images.how(reference) == "pulled"
    assert not said


def test_a_digest_is_a_reference_too(registry: Registry, built: Path) -> None:
    """An image can be pulled by digest, and its name is that."""
    reference = f"{registry.host}/busybox@{registry.push(built, 'busybox:1')}"
    (manifest,) = Archive(images.archive(reference, say=quiet)).index["manifests"]
    assert manifest["annotations"] == {"org.opencontainers.image.ref.name": reference}


def test_only_this_machines_platform_is_pulled(registry: Registry, built: Path) -> None:
    """Of an image for several processors, the archive has the one for this machine's."""
    registry.push(built, "busybox:1")
    whole = f"{registry.inside}/busybox"
    for architecture in ("amd64", "arm64", "s390x"):
        registry.crane("mutate", f"--set-platform=linux/{architecture}", f"--tag={whole}:{architecture}", f"{whole}:1")
    manifests = [f"--manifest={whole}:{one}" for one in ("s390x", "arm64", "amd64")]
    registry.crane("index", "append", *manifests, f"--tag={whole}:all")
    (manifest,) = Archive(images.archive(f"{registry.host}/busybox:all", say=quiet)).index["manifests"]
    expected = registry.crane("digest", f"{whole}:{ARCHITECTURES[platform.machine()]}")
    assert manifest["digest"] == expected


def test_a_private_registry_is_signed_in_to(
    registry: Registry, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the user's Docker configuration has for a registry is used."""
    reference = f"{registry.host}/busybox:1"
    registry.push(built, "busybox:1")
    login = "dXNlcjpwYXNz"
    registry.answer = lambda _, headers: 200 if headers.get("Authorization") == f"Basic {login}" else 401
    with pytest.raises(CouldNotRun, match="401 Unauthorized"):
        images.archive(reference, say=quiet)
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": login}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert images.archive(reference, say=quiet).exists()


def test_what_was_built_before_is_not_pulled(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive in the cache is the image, however it came to be."""
    reference = f"{registry.host}/busybox:1"
    with_recipe(monkeypatch, reference)
    with monkeypatch.context() as offline:
        offline.setenv("KIBAN_OFFLINE", "1")
        first = images.archive(reference, say=quiet)
    registry.answer = lambda *_: pytest.fail("it was asked")
    assert images.archive(reference, say=quiet) == first
    assert images.tools(reference) == ()
    assert images.how(reference) == "built"


def test_an_image_that_the_registry_lacks_is_built(
    registry: Registry, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is a recipe, a line says why it is followed; others of the registry's images are still pulled."""
    reference, other = (f"{registry.host}/busybox:{tag}" for tag in ("1", "2"))
    registry.push(built, "busybox:2")
    with_recipe(monkeypatch, reference)
    said: list[str] = []
    (manifest,) = Archive(images.archive(reference, say=said.append)).index["manifests"]
    assert manifest["annotations"] == {"org.opencontainers.image.ref.name": reference}
    refused, done = said
    assert refused.startswith(
        f"images: {reference} cannot be pulled (GET http://{registry.host}/v2/busybox/manifests/1"
    )
    assert "MANIFEST_UNKNOWN" in refused
    assert refused.endswith("; building it")
    assert done.startswith(f"images: {reference} built in ")
    assert images.how(reference) == "built"
    assert images.tools(other) == ("crane",)
    assert images.archive(other, say=quiet).exists()


def test_an_image_that_the_registry_lacks_and_no_recipe_builds_is_named(registry: Registry, empty: Path) -> None:
    """Without a recipe there is one line, with the registry's own words, and nothing stays."""
    with pytest.raises(CouldNotRun) as caught:
        images.archive(f"{registry.host}/busybox:1", say=quiet)
    line = str(caught.value)
    for words in (f"image {registry.host}/busybox:1", "NAME_UNKNOWN", "has no recipe", BUSYBOX):
        assert words in line
    assert "\n" not in line
    assert not list(empty.rglob("*.tar"))


@pytest.mark.parametrize("refused", ["/v2/", "/v2/busybox"])
def test_a_registry_that_refuses_is_left_alone(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """One behind a proxy that forbids it, at once or at the image, is not asked again for a while: images are built."""
    reference = f"{registry.host}/busybox:1"
    with_recipe(monkeypatch, reference)
    registry.answer = lambda path, _: 403 if path.startswith(refused) else 200
    said: list[str] = []
    images.archive(reference, say=said.append)
    assert said[-1].startswith(f"images: {reference} built in ")
    assert [line.split("(")[0] for line in said[:-1]] == [f"images: {reference} cannot be pulled "][: refused != "/v2/"]
    registry.answer = lambda *_: pytest.fail("it was asked")
    with pytest.raises(
        CouldNotRun, match=rf"/other:1 cannot be pulled \({registry.host} refuses or cannot be reached\)"
    ):
        images.archive(f"{registry.host}/other:1", say=quiet)


def test_a_registry_that_is_not_there_needs_the_tools_of_the_build(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing answers, crane is of no use."""
    registry.server.socket.close()
    reference = f"{registry.host}/busybox:1"
    with_recipe(monkeypatch, reference)
    assert images.tools(reference) == ("umoci",)


@pytest.mark.parametrize("ask", [images.tools, images.archive])
def test_offline_only_recipes_are_left(ask: Callable[[str], object]) -> None:
    """KIBAN_OFFLINE=1: the line says so, and which images can be had."""
    with pytest.raises(CouldNotRun, match=rf"\(KIBAN_OFFLINE=1 forbids it\) and has no recipe; .*{BUSYBOX}"):
        ask("docker.io/library/nginx:1.29")


@pytest.mark.parametrize("ask", [images.tools, images.archive])
@pytest.mark.parametrize(
    "reference",
    [
        "nginx:1.29",
        "library/nginx:1.29",
        "docker.io/nginx:1.29",
        "docker.io/library/nginx",
        f"docker.io/library/nginx:1@sha256:{64 * '0'}",
        "docker.io/library/nginx@sha256:0",
        "--help",
    ],
)
def test_a_reference_is_whole(ask: Callable[[str], object], reference: str) -> None:
    """What containerd would store under another name is refused, with the form that is accepted."""
    with pytest.raises(BadInput, match=r"is no full reference; accepted: REGISTRY/PATH:TAG or "):
        ask(reference)


def test_a_full_disk_is_not_taken_for_a_refusal(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where crane runs out of space, the image is not built instead: that would need space too."""
    reference = f"{registry.host}/busybox:1"
    with_recipe(monkeypatch, reference)
    version = toolchain.TOOLS["crane"].version
    script = f'#!/bin/sh\n[ "$1" = version ] && echo {version} && exit\necho "Error: no space left on device"; exit 1\n'
    write_program(tmp_path / "fake" / "crane", script)
    monkeypatch.setenv("PATH", f"{tmp_path / 'fake'}:{os.environ['PATH']}")
    with pytest.raises(BadInput, match="is full"):
        images.archive(reference, say=quiet)
