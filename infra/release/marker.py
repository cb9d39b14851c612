"""What an environment's own cluster knows of its promotions, so that every machine that reaches it knows the same.

ConfigMap and Lease `kiban-promotion` in kube-system, where a `destroy` of the platform does not reach: which release is
in force, the last entry of the record that this cluster has seen, and who is promoting now.
"""

import contextlib
import dataclasses as dc
import datetime as dt
import getpass
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
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
    """The cluster's marker; None where nothing was ever promoted to it. Raises RunFailed where it does not answer."""
    found = kubectl.get("configmaps", namespace=NAMESPACE, selector=f"app.kubernetes.io/name={NAME}")
    if not found:
        return None
    data = found[0]["data"]
    return Marker(release=data["release"], applied=data["applied"], number=int(data["number"]), head=data["head"])


def write(kubectl: Kubectl, marker: Marker) -> None:
    """Have the cluster remember a marker."""
    data = {key: str(value) for key, value in dc.asdict(marker).items()}
    kubectl.apply([_named("v1", "ConfigMap") | {"data": data}], field_manager=FIELD_MANAGER)


def _named(version: str, kind: str) -> Object:
    labels = {"app.kubernetes.io/name": NAME}
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
    }


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
    holder = f"{getpass.getuser()}@{socket.gethostname()} process {os.getpid()} {secrets.token_hex(4)}"
    taken = _take(kubectl, holder, say)
    done = threading.Event()
    renewing = threading.Thread(target=_renew, args=(kubectl, holder, done), daemon=True)
    renewing.start()

    def still() -> None:
        lease = _lease(kubectl)
        if lease is None or lease["spec"].get("holderIdentity") != holder:
            raise CouldNotRun("another process has taken over the lease of promotions; nothing was changed")

    try:
        yield Held(ahead=_ahead(taken), still=still)
    finally:
        done.set()
        renewing.join()
        with contextlib.suppress(RunFailed, CouldNotRun):  # then it runs out
            still()
            _write(kubectl, None, _lease(kubectl))


def _take(kubectl: Kubectl, holder: str, say: Say) -> Object:
    lease = _lease(kubectl)
    other = lease and lease["spec"].get("holderIdentity")
    if lease and other and not _gone(other):
        say(f"{other} holds the lease of promotions; waiting {_SECONDS} s for a sign of life")
        seen = lease["spec"]["renewTime"]
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            time.sleep(1)
            lease = _lease(kubectl)
            if lease is None or not lease["spec"].get("holderIdentity"):
                break
            if lease["spec"]["renewTime"] != seen:
                raise CouldNotRun(f"{other} promotes to this environment now; wait for it to end")
    return _write(kubectl, holder, lease)


def _gone(holder: str) -> bool:
    """Whether a holder is a process of this machine that is no more."""
    who, _, rest = holder.partition(" process ")
    number = rest.partition(" ")[0]
    return who.endswith(f"@{socket.gethostname()}") and number.isdigit() and not psutil.pid_exists(int(number))


def _lease(kubectl: Kubectl) -> Object | None:
    found = kubectl.get("leases.coordination.k8s.io", namespace=NAMESPACE, selector=f"app.kubernetes.io/name={NAME}")
    return found[0] if found else None


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
        raise CouldNotRun(f"the lease of promotions was not had, another process was first: {failed}") from None
    return written


def _renew(kubectl: Kubectl, holder: str, done: threading.Event) -> None:
    while not done.wait(_RENEWED_EVERY):
        with contextlib.suppress(RunFailed, CouldNotRun):  # an API server that restarts: the next time
            lease = _lease(kubectl)
            if lease and lease["spec"].get("holderIdentity") == holder:
                _write(kubectl, holder, lease)


def _ahead(lease: Object) -> dt.timedelta:
    """This machine's clock less the API server's, which says when it wrote what this machine has just written."""
    times = [each["time"] for each in lease["metadata"]["managedFields"] if each["manager"] == FIELD_MANAGER]
    server = max(dt.datetime.fromisoformat(each) for each in times)
    own = dt.datetime.fromisoformat(lease["spec"]["renewTime"])
    return own - server
