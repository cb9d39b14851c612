"""The lock that a killed run leaves in the stack's backend: who holds it, whether they live, and how it is cleared.

Knows Pulumi's own ("DIY") backends, whose locks name a process; Pulumi Cloud clears its locks itself.
"""

import dataclasses as dc
import datetime as dt
import json
import re
import socket
from pathlib import Path
from urllib.parse import unquote, urlparse

import psutil

# pkg/backend/diy/lock.go, checkForLock (Pulumi 3.259)
_LINE = re.compile(
    r"^\s*(?P<url>\S+): created by (?P<user>.*)@(?P<host>\S+) \(pid (?P<pid>\d+)\) at (?P<since>\S+)\s*$", re.MULTILINE
)


@dc.dataclass(frozen=True, kw_only=True)
class Lock:
    """One lock on a stack. `url` is where the backend keeps it."""

    url: str
    user: str
    host: str
    pid: int
    since: dt.datetime

    def __str__(self) -> str:
        return f"{self.user}@{self.host} (process {self.pid}, since {self.since:%Y-%m-%d %H:%M:%S %Z})"

    @property
    def stale(self) -> bool:
        """Whether its process is known to be gone: of this host, and no process of that number lives and is as old."""
        if self.host != socket.gethostname():
            return False
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
            return process.create_time() > self.since.timestamp() + 1  # the lock's time is cut to the second
        except psutil.NoSuchProcess:
            return True

    @property
    def file(self) -> Path | None:
        """The lock as a file, where the backend is a folder of this host."""
        parsed = urlparse(self.url)
        return Path(unquote(parsed.path)) if parsed.scheme == "file" else None


def parse(message: str) -> tuple[Lock, ...]:
    """Read the locks out of what pulumi says when a stack is locked; empty where it names none."""
    return tuple(
        Lock(
            url=found["url"],
            user=found["user"],
            host=found["host"],
            pid=int(found["pid"]),
            since=dt.datetime.fromisoformat(found["since"]),
        )
        for found in _LINE.finditer(message)
    )


def held_in(backend: str | None, project: str, stack: str) -> tuple[Lock, ...]:
    """Read the locks of a stack out of a backend that is a folder of this host; empty for any other."""
    parsed = urlparse(backend or "")
    if parsed.scheme != "file":
        return ()
    folder = Path(unquote(parsed.path), ".pulumi", "locks", "organization", project, stack)
    return tuple(_read(file) for file in sorted(folder.glob("*.json")))


def _read(file: Path) -> Lock:
    held = json.loads(file.read_text())
    return Lock(
        url=file.as_uri(),
        user=held["username"],
        host=held["hostname"],
        pid=held["pid"],
        since=dt.datetime.fromisoformat(held["timestamp"]),
    )
