"""Pulls an image from its registry into an OCI archive, with crane, on this machine: a cluster's node has no way out.

Crane checks what it gets against the digests that lead to it, and signs in as the user's Docker configuration says.
Only a registry on loopback is asked by plain HTTP.
"""

import functools
import hashlib
import os
import re
import textwrap
import time
from pathlib import Path

from infra import paths, toolchain
from infra.errors import BadInput
from infra.images import oci
from infra.toolchain import cache, golang, network, running
from infra.toolchain.progress import Say

_REFERENCE = re.compile(r"(?!docker\.io/[^/]+$)(?P<registry>[^/@]*[.:][^/@]*)/[^:@]+(?::[^:@/]+|@sha256:[0-9a-f]{64})")
"""With the registry and a tag or a digest, as containerd stores it (of both it would drop the tag)."""
_DOCKER_HUB = "index.docker.io"
_LOOPBACK = {"localhost", "127.0.0.1"}
_OF_ONE_IMAGE = re.compile(
    r"\b(?:MANIFEST_UNKNOWN|NAME_UNKNOWN|NAME_INVALID|UNAUTHORIZED|DENIED|401 Unauthorized|404 Not Found)\b"
)
"""What a registry answers about one image (OCI distribution 1.1, error codes), while it may well give others."""


class Refused(Exception):
    """The registry did not give the image; the message is crane's reason."""


def cached(reference: str) -> Path | None:
    """The archive that was pulled before, for this machine's platform. A tag that has moved since is not noticed."""
    target = _target(reference)
    return target if target.exists() else None


def obstacle(reference: str) -> str | None:
    """Why pulling need not be tried, or None where the registry answers.

    Raises BadInput for a reference without a registry, or without a tag or digest.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise BadInput(
            f"image {reference!r} is no full reference; accepted: REGISTRY/PATH:TAG or REGISTRY/PATH@sha256:DIGEST, "
            "such as docker.io/library/busybox:1.35.0; nothing was changed"
        )
    if network.offline():
        return "KIBAN_OFFLINE=1 forbids it"
    return None if answers(_host(reference)) else f"{match['registry']} refuses or cannot be reached"


def pull(reference: str, say: Say) -> Path:
    """The image's archive, pulled for this machine's processor unless another process does it first.

    A registry that does not work at all is left alone for a while. Raises Refused where crane fails, BadInput for a
    full disk, and what making crane raises.
    """
    target = _target(reference)
    what = f"image {reference}"
    crane = toolchain.resolve("crane", say=say)["crane"]
    with cache.claimed(target, what, say) as scratch:
        if not target.exists():
            began = time.monotonic()
            platform = f"--platform=linux/{golang.architecture()}"
            command: list[str | Path] = [crane, "pull", "--format=oci", platform, reference, "layout"]
            ended = running.run(command, environment=os.environ, folder=scratch)
            if ended.status != 0:
                raise _failure(reference, what, ended.output)
            digest = oci.name(scratch / "layout", reference)
            cache.place(oci.pack(scratch / "layout"), target)
            say(f"images: {reference} pulled in {time.monotonic() - began:.0f} s ({digest})")
    return target


def _failure(reference: str, what: str, output: str) -> BadInput | Refused:
    if "no space left on device" in output or "disk quota exceeded" in output:
        return cache.full(what)
    said = [line.removeprefix("Error: ") for line in output.splitlines() if line.startswith("Error: ")]
    if not _OF_ONE_IMAGE.search(output):
        network.forget(_host(reference))
        answers.cache_clear()
    return Refused(textwrap.shorten(said[0], 300) if said else "crane said nothing")  # a proxy may answer with a page


@functools.cache  # asked for every image, several times; what does not answer is remembered on disk too
def answers(host: str) -> bool:
    """Whether a registry is there (OCI distribution 1.1: `/v2/` answers 200, or 401 before signing in)."""
    probe = f"{'http' if host.partition(':')[0] in _LOOPBACK else 'https'}://{host}/v2/"
    if not network.reachable([probe]):
        return False
    import httpx  # noqa: PLC0415 - 0.2 s that only a network is worth

    try:
        status = httpx.get(probe, follow_redirects=True, timeout=network.PATIENCE).status_code
    except httpx.HTTPError:
        status = None
    if status not in {httpx.codes.OK, httpx.codes.UNAUTHORIZED}:
        network.forget(host)
        return False
    return True


def _host(reference: str) -> str:
    """Where the registry of a full reference is asked."""
    registry = reference.partition("/")[0]
    return _DOCKER_HUB if registry == "docker.io" else registry


def _target(reference: str) -> Path:
    key = hashlib.sha256(f"{reference} {golang.architecture()}".encode()).hexdigest()[:12]
    return paths.cache() / "images" / f"pulled-{key}.tar"
