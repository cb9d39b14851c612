"""Connections tried from within real pods of an embedded cluster: from their own network namespaces, as they would."""

import ctypes
import os
import re
import socket
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

Address = tuple[str, int]
_SECONDS = 2.0
_AT_ONCE = 32
_CLONE_NEWNET = 0x40000000
_POD = re.compile(r"/pod([0-9a-f]{8}-[0-9a-f-]{27})(?:/|$)", re.MULTILINE)


def processes() -> dict[str | None, int]:
    """The uid of every pod that has processes on this machine, to one of these."""
    found: dict[str | None, int] = {}
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            pod = _POD.search(path.read_text())
        except OSError:  # it has ended
            continue
        if pod:
            found[pod[1]] = int(path.parent.name)
    return found


def answered(wanted: Mapping[int, Iterable[Address]]) -> dict[tuple[int, Address], bool]:
    """Whether each connection comes about. wanted: a process of the pod that opens them, to where.

    What was asked of a process that has ended is left out. A refusal and silence are alike: where a plugin rejects what
    a policy forbids, it refuses as a server does that does not listen.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:  # a thread is in a namespace, not the program
        of_each = pool.map(lambda one: _answered(*one), wanted.items())
    return {key: answer for answers in of_each for key, answer in answers.items()}


def _answered(process: int, addresses: Iterable[Address]) -> dict[tuple[int, Address], bool]:
    try:
        with Path(f"/proc/{process}/ns/net").open() as namespace:
            _enter(namespace.fileno())
    except FileNotFoundError:
        return {}
    return {(process, address): _connects(address) for address in addresses}


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"a pod's network namespace: {os.strerror(ctypes.get_errno())}")


def _connects(address: Address) -> bool:
    try:
        socket.create_connection(address, timeout=_SECONDS).close()
    except OSError:
        return False
    return True
