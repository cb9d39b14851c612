"""What an environment's own cluster knows of its promotions, so that every machine that reaches it knows the same.

ConfigMap and Lease `kiban-promotion` in kube-system, where a `destroy` of the platform does not reach: which release is
in force, the last entry of the record that this cluster has seen, and who is promoting now.
"""

import contextlib
import dataclasses as dc
import datetime as dt
import getpass
import hashlib
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from infra.errors import CouldNotRun, RunFailed
from infra.kubectl import Kubectl, Object

Say = Callable[[str], None]
NAME, NAMESPACE = "kiban-promotion", "kube-system"
FIELD_MANAGER = "kiban-promote"
_SECONDS = 30
"""For how long a Lease that nobody renews is taken to be held."""
_RENEWED_EVERY = 5.0
_OVERTAKEN = re.compile(r"the object has been modified|already exists|not found")


@dc.dataclass(frozen=True, kw_only=True)
class Marker:
    """What the cluster has seen.

    release: the id of what its program has to be, from the moment that a promotion or rollback begins. applied: what
    the program's files and values must amount to (contents.applied). number, head: of the record's last entry.
    """

    release: str
    applied: str
    number: int
    head: str


def read(kubectl: Kubectl) -> Marker | None:
    """The cluster's marker; None where nothing was ever promoted to it.

    Raises RunFailed where the cluster does not answer, or has a marker that nobody can have promoted.
    """
    found = _found(kubectl, "configmap")
    if found is None:
        return None
    try:
        data = found["data"]
        return Marker(release=data["release"], applied=data["applied"], number=int(data["number"]), head=data["head"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunFailed(
            f"ConfigMap {NAME} of {NAMESPACE} is not as a promotion wrote it ({error}); put back what it said: "
            "release, applied, number, head"
        ) from None


def write(kubectl: Kubectl, marker: Marker) -> None:
    """Have the cluster remember a marker."""
    data = {key: str(value) for key, value in dc.asdict(marker).items()}
    kubectl.apply([_named("v1", "ConfigMap") | {"data": data}], field_manager=FIELD_MANAGER)


def _found(kubectl: Kubectl, kind: str) -> Object | None:
    """The object by its name: a label can be taken off it, and then nobody would know that it is there."""
    words = (NAME, f"--namespace={NAMESPACE}", "--ignore-not-found", "--show-managed-fields", "--output=json")
    said = kubectl.run("get", kind, *words)
    found: Object | None = json.loads(said) if said.strip() else None
    return found


def _named(version: str, kind: str) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": NAME, "namespace": NAMESPACE}}


@dc.dataclass(frozen=True, kw_only=True)
class Held:
    """The Lease while this process has it. ahead: this machine's clock less the API server's."""

    ahead: dt.timedelta
    still: Callable[[], None]
    """Raises CouldNotRun where another process has it by now, as after a machine that slept."""


@contextlib.contextmanager
def held(kubectl: Kubectl, say: Say) -> Iterator[Held]:
    """Hold the environment's Lease.

    Another machine's is waited for until it is certain that nobody renews it; clocks do not come into that. Raises
    CouldNotRun while another process promotes.
    """
    holder = f"{getpass.getuser()}@{socket.gethostname()} process {os.getpid()} {_processes()} {secrets.token_hex(4)}"
    taken = _take(kubectl, holder, say)
    done = threading.Event()
    renewing = threading.Thread(target=_renew, args=(kubectl, holder, done), daemon=True)
    renewing.start()

    def still() -> None:
        if _holder(_lease(kubectl)) != holder:
            raise CouldNotRun("another process has taken over the lease of promotions; nothing was changed")

    try:
        yield Held(ahead=_ahead(taken), still=still)
    finally:
        done.set()
        renewing.join()
        with contextlib.suppress(RunFailed, CouldNotRun):  # then it runs out
            lease = _lease(kubectl)
            if _holder(lease) == holder:
                _write(kubectl, None, lease)


def _take(kubectl: Kubectl, holder: str, say: Say) -> Object:
    lease = _lease(kubectl)
    if (other := _holder(lease)) and not _gone(other):
        say(f"{other} holds the lease of promotions; waiting {_SECONDS} s for a sign of life")
        seen = _renewed(lease)
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            time.sleep(1)
            lease = _lease(kubectl)
            if not (other := _holder(lease)):
                break
            if _renewed(lease) != seen:
                raise CouldNotRun(f"{other} promotes to this environment now; wait for it to end")
    return _write(kubectl, holder, lease)


def _gone(holder: str) -> bool:
    """Whether a holder is a process of this machine that is no more; of another machine's nobody can tell."""
    found = re.search(r" process (\d+) (\S+) \S+$", holder)
    return found is not None and found[2] == _processes() and not psutil.pid_exists(int(found[1]))


def _processes() -> str:
    """Names this machine's processes since its start, or those of this container: a host's name is not one's alone."""
    start, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if start.exists() and space.exists():
        named = f"{start.read_text().strip()} {space.readlink()}"
    else:
        named = f"{socket.gethostname()} {psutil.boot_time()}"
    return hashlib.sha256(named.encode()).hexdigest()[:12]


def _lease(kubectl: Kubectl) -> Object | None:
    return _found(kubectl, "lease.coordination.k8s.io")


def _holder(lease: Object | None) -> str:
    """Who holds it; empty: nobody does."""
    return str((lease or {}).get("spec", {}).get("holderIdentity") or "")


def _renewed(lease: Object | None) -> str:
    return str((lease or {}).get("spec", {}).get("renewTime"))


def _write(kubectl: Kubectl, holder: str | None, lease: Object | None) -> Object:
    """Write the Lease where it is still as it was read. Raises CouldNotRun where another process was first."""
    now = dt.datetime.now(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    spec: dict[str, Any] = {"holderIdentity": holder, "leaseDurationSeconds": _SECONDS, "renewTime": now}
    wanted = _named("coordination.k8s.io/v1", "Lease") | {"spec": spec}
    verb = "create"
    if lease:
        wanted["metadata"]["resourceVersion"] = lease["metadata"]["resourceVersion"]
        verb = "replace"
    words = (verb, "--filename=-", f"--field-manager={FIELD_MANAGER}", "--output=json", "--show-managed-fields")
    try:
        written: Object = json.loads(kubectl.run(*words, stdin=json.dumps(wanted)))
    except RunFailed as failed:
        first = "another process was first: " if _OVERTAKEN.search(str(failed)) else ""
        raise CouldNotRun(f"the lease of promotions was not had: {first}{failed}; nothing was changed") from None
    return written


def _renew(kubectl: Kubectl, holder: str, done: threading.Event) -> None:
    while not done.wait(_RENEWED_EVERY):
        with contextlib.suppress(RunFailed, CouldNotRun):  # an API server that restarts: the next time
            lease = _lease(kubectl)
            if _holder(lease) == holder:
                _write(kubectl, holder, lease)


def _ahead(lease: Object) -> dt.timedelta:
    """This machine's clock less the API server's, which says when it wrote what this machine has just written."""
    times = [each["time"] for each in lease["metadata"]["managedFields"] if each["manager"] == FIELD_MANAGER]
    server = max(dt.datetime.fromisoformat(each) for each in times)
    own = dt.datetime.fromisoformat(lease["spec"]["renewTime"])
    return own - server
