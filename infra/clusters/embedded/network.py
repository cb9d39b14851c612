"""Where an embedded cluster's processes listen: a network namespace of its own, or free ports on loopback.

A namespace has one link to the host and no route outside. It needs root on Linux; loopback needs nothing.
What runs in it is not this file's matter: a real node's processes join through the same `command`.
"""

import contextlib
import ctypes
import dataclasses as dc
import hashlib
import ipaddress
import itertools
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

from infra import system
from infra.clusters.waiting import until
from infra.errors import CouldNotRun

_RUN = Path("/run/kiban")
_ROUTES = Path("/proc/net/route")
_LINKS = ipaddress.IPv4Network("198.19.0.0/16")  # RFC 2544, for benchmarks: no provider or VPN routes it
_PORTS = range(20000, 30000)
_CLONE_NEWNET, _MS_BIND, _IFF_UP = 0x40000000, 0x1000, 0x1
PORTS = {"kube-apiserver": 6443, "etcd": 2379, "etcd-peer": 2380, "cluster-api": 9443}


@dc.dataclass(frozen=True, kw_only=True)
class Namespace:
    """A network namespace, bound to `path`, with a veth pair: `link` on the host, eth0 inside."""

    path: Path
    link: str
    host: str
    address: str

    @property
    def ports(self) -> Mapping[str, int]:
        """Process name to port; fixed, since nothing else listens here."""
        return PORTS

    @property
    def bind(self) -> str:
        """The address that the API server listens on."""
        return "0.0.0.0"  # noqa: S104 - of the namespace, which only this host reaches

    @property
    def command(self) -> tuple[str, ...]:
        """What to put before a command so that it runs here; it replaces itself, so the process is the same."""
        nsenter = shutil.which("nsenter", path=system.PATH)
        if nsenter is None:
            raise CouldNotRun("nsenter is not there; install util-linux, or set KIBAN_NETNS=0 for loopback ports")
        return (nsenter, f"--net={self.path}", "--")

    @property
    def exists(self) -> bool:
        """Whether all of it is there: the link is set up last. It is gone after a restart of the machine."""
        flags = Path("/sys/class/net", self.link, "flags")
        return _bound(self.path) and flags.exists() and bool(int(flags.read_text(), 16) & _IFF_UP)

    def make(self) -> None:
        """Make the namespace and its link anew; nothing of the cluster may run. Raises CouldNotRun if not allowed."""
        import pyroute2  # noqa: PLC0415 - takes 0.3 s, and most runs make nothing

        self.remove()
        try:
            _RUN.mkdir(mode=0o700, exist_ok=True)
            self.path.touch(mode=0o600)
            with ThreadPoolExecutor(max_workers=1) as thread:  # the thread is in it, and ends
                opened = thread.submit(_enter_new, self.path).result()
            with pyroute2.IPRoute() as host, pyroute2.IPRoute(fileno=opened.detach()) as inside:
                inside.link("set", index=inside.link_lookup(ifname="lo")[0], state="up")
                host.link("add", ifname=self.link, kind="veth", peer={"ifname": "eth0", "net_ns_fd": str(self.path)})
                for side, name, address in ((inside, "eth0", self.address), (host, self.link, self.host)):
                    index = side.link_lookup(ifname=name)[0]
                    side.addr("add", index=index, address=address, prefixlen=30)
                    side.link("set", index=index, state="up")
        except (OSError, pyroute2.NetlinkError) as error:
            self.remove()
            raise CouldNotRun(f"no network namespace can be made here ({error})") from error

    def remove(self) -> None:
        """Remove whatever there is of it."""
        if Path("/sys/class/net", self.link).exists():
            import pyroute2  # noqa: PLC0415 - as above

            with pyroute2.IPRoute() as host, contextlib.suppress(pyroute2.NetlinkError):
                host.link("del", ifname=self.link)
        if _bound(self.path):
            from pyroute2 import netns  # noqa: PLC0415 - as above

            netns.remove(str(self.path))
        self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another cluster's namespace is in it, or it was never made
            _RUN.rmdir()


@dc.dataclass(frozen=True, kw_only=True)
class Loopback:
    """Ports of 127.0.0.1, free when they were chosen."""

    ports: Mapping[str, int]

    address: ClassVar[str] = "127.0.0.1"
    bind: ClassVar[str] = "127.0.0.1"
    command: ClassVar[tuple[str, ...]] = ()

    def moved(self, name: str) -> "Loopback":
        """The same with another free port for one process."""
        return Loopback(ports={**self.ports, name: _free_ports(1)[0]})


Network = Namespace | Loopback


def isolated_by_default() -> bool:
    """Whether a cluster gets a namespace: as root on Linux, unless KIBAN_NETNS=0."""
    return sys.platform == "linux" and os.geteuid() == 0 and os.environ.get("KIBAN_NETNS") != "0"


def namespace(folder: Path) -> Namespace:
    """The namespace of the cluster whose state is in `folder`, at addresses that nothing on this host uses now."""
    key = hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]
    links = list(_LINKS.subnets(new_prefix=30))
    taken = _routed()
    start = int(key, 16) % len(links)
    for link in links[start:] + links[:start]:
        if not any(link.overlaps(other) for other in taken):
            host, address = map(str, link.hosts())
            return Namespace(path=_RUN / f"{folder.name}-{key}", link=f"kiban{key}", host=host, address=address)
    raise CouldNotRun(f"no free /30 network in {_LINKS}; accepted: one that no route of this host covers")


def remove_namespace(folder: Path) -> None:
    """Remove the namespace of the cluster in the folder, if it has one; what it is called follows from the folder."""
    if sys.platform == "linux" and os.geteuid() == 0:
        namespace(folder).remove()


def loopback() -> Loopback:
    """Free ports for every process that listens."""
    return Loopback(ports=dict(zip(PORTS, _free_ports(len(PORTS)), strict=True)))


@contextlib.contextmanager
def choosing() -> Iterator[None]:
    """Hold the machine's one lock on choosing addresses, whatever the checkout; it ends with this process."""
    if sys.platform != "linux":
        yield
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        until(lambda: _binds(lock, "\0kiban.dev/addresses"), seconds=30, what="another kiban choosing addresses")
        yield


def is_free(port: int) -> bool:
    """Whether 127.0.0.1 has nothing listening on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: a closed one lingers
        return _binds(probe, ("127.0.0.1", port))


def _binds(probe: socket.socket, address: str | tuple[str, int]) -> bool:
    try:
        probe.bind(address)
    except OSError:
        return False
    return True


def _free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now, below those that the system gives to clients.

    A server that is down for a moment would lose one of those to a client, most likely to its own that reconnects.
    """
    start = secrets.randbelow(len(_PORTS))
    free = (port for port in (*_PORTS[start:], *_PORTS[:start]) if is_free(port))
    found = list(itertools.islice(free, count))
    if len(found) < count:
        raise CouldNotRun(f"no {count} free ports of 127.0.0.1 in {_PORTS.start} to {_PORTS.stop - 1}; free some")
    return found


def _routed() -> list[ipaddress.IPv4Network]:
    """The networks that this host has routes to, but for the default route."""
    if not _ROUTES.exists():
        return []
    rows = [line.split() for line in _ROUTES.read_text().splitlines()[1:]]
    networks = [ipaddress.IPv4Network((_swapped(row[1]), str(_swapped(row[7])))) for row in rows]
    return [network for network in networks if network.prefixlen > 0]


def _swapped(word: str) -> ipaddress.IPv4Address:
    """An address as /proc/net/route writes it: hexadecimal, in the byte order of the machine."""
    return ipaddress.IPv4Address(int(word, 16).to_bytes(4, sys.byteorder))


def _enter_new(path: Path) -> socket.socket:
    """Move this thread into a new namespace, bind that to the path, and return a netlink socket of it.

    No program is run for it, so nothing goes on when this process is killed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    own, target = b"/proc/thread-self/ns/net", os.fsencode(path)
    if libc.unshare(_CLONE_NEWNET) != 0 or libc.mount(own, target, None, _MS_BIND, None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM)


def _bound(path: Path) -> bool:
    """Whether a namespace is mounted on the path."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_dev != path.parent.stat().st_dev
    return False
