"""Whether release hosts can be reached, found out once for all tools instead of three seconds for each."""

import contextlib
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from infra import paths

PATIENCE = 3.0
"""Seconds without a connection after which a host counts as unreachable."""

_REMEMBERED = 600.0
"""Seconds for which an unreachable host is not tried again, by this process or another."""


def offline() -> bool:
    """Whether the user forbids the network: KIBAN_OFFLINE=1."""
    return os.environ.get("KIBAN_OFFLINE", "") not in {"", "0"}


def reachable(bases: Iterable[str]) -> set[str]:
    """Those of the URLs whose host answers at all within PATIENCE; all are tried at once.

    In threads that nobody waits for: a name server that does not answer holds a look-up up for longer than any
    connection timeout.
    """
    if offline():
        return set()
    import httpx  # noqa: PLC0415 - 0.2 s that only a missing tool is worth

    hosts = {base: urlsplit(base).netloc for base in bases}
    unknown = {host: base for base, host in hosts.items() if not _remembered(host)}
    answered = threading.Semaphore(0)
    alive: set[str] = set()

    def probe(host: str, base: str) -> None:
        try:
            httpx.head(base, timeout=PATIENCE)
            alive.add(host)
        except (httpx.HTTPError, OSError):
            pass
        finally:
            answered.release()

    for host, base in unknown.items():
        threading.Thread(target=probe, args=(host, base), daemon=True).start()
    deadline = time.monotonic() + PATIENCE
    for _ in unknown:
        answered.acquire(timeout=max(0.0, deadline - time.monotonic()))
    known = set(alive)
    for host in unknown.keys() - known:
        forget(host)
    return {base for base, host in hosts.items() if host in known}


def forget(host: str) -> None:
    """Count a host as unreachable for a while. Where that cannot be written down, it is tried again."""
    stamp = _stamp(host)
    with contextlib.suppress(OSError):
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()


def _remembered(host: str) -> bool:
    try:
        age = time.time() - _stamp(host).stat().st_mtime
    except OSError:
        return False
    return 0 <= age < _REMEMBERED


def _stamp(host: str) -> Path:
    return paths.cache() / "unreachable" / host.replace(":", "_")
