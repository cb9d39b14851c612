"""Requests to an embedded cluster's API server as its admin, without starting a program for each.

Only what bringing a cluster up needs; everything else talks to a cluster through kubectl or Pulumi.
"""

import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from infra.errors import RunFailed

Object = dict[str, Any]
FIELD_MANAGER = "kiban-cluster"
_AT_ONCE = 8
_SECONDS = 30.0
_READY_SECONDS = 2.0
_APPLY = "application/apply-patch+yaml"
_NAMES_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class Refused(RunFailed):
    """The API server answered, with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Unanswered(RunFailed):
    """The API server could not be reached, or did not answer in time."""


class Api:
    """One API server. Every request raises Refused or Unanswered where it does not succeed.

    Where the API server asks to be asked again later, as it does for a kind whose store is being made again, it is,
    as long as a request may take.
    user: whose certificate and key in the folder `pki` the requests are made with.
    Safe to use from several threads, each with a connection of its own.
    """

    def __init__(self, server: str, *, pki: Path, user: str = "admin") -> None:
        self._address = urlsplit(server).netloc
        self._tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._tls.load_cert_chain(str(pki / f"{user}.crt"), str(pki / f"{user}.key"))
        self._local = threading.local()

    def ready(self) -> bool:
        """Whether the API server calls itself ready and reads from its store: it says so for a while without one."""
        try:
            self._send("GET", "/readyz", None, {}, seconds=_READY_SECONDS)
            self._send("GET", "/api/v1/namespaces/kube-system", None, {}, seconds=_READY_SECONDS)
        except (Unanswered, Refused):
            return False
        return True

    def get(self, path: str, *, accept: str = "application/json") -> Object:
        """An object or a list."""
        answer: Object = json.loads(self._send("GET", path, None, {"Accept": accept}))
        return answer

    def text(self, path: str) -> str:
        """What is not JSON: `/metrics`."""
        return self._send("GET", path, None, {}).decode()

    def metadata(self, path: str) -> list[Object]:
        """The `metadata` of every object of a list."""
        return [item["metadata"] for item in self.get(path, accept=_NAMES_ONLY)["items"] or ()]

    def apply(self, path: str, manifest: Object) -> None:
        """Make the object as the manifest says (server-side, fields of others untouched)."""
        query = f"?fieldManager={FIELD_MANAGER}&force=true"
        self._send("PATCH", path + query, json.dumps(manifest), {"Content-Type": _APPLY})

    def merge(self, path: str, patch: Object) -> None:
        """Change fields of an object (JSON merge patch)."""
        self._send("PATCH", path, json.dumps(patch), {"Content-Type": "application/merge-patch+json"})

    def create(self, path: str, manifest: Object) -> Object:
        """Post an object to a list: what was made of it, by all that admits and changes it."""
        headers = {"Content-Type": "application/json"}
        answer: Object = json.loads(self._send("POST", path, json.dumps(manifest), headers))
        return answer

    def serves(self, manifests: Iterable[Object]) -> bool:
        """Whether it serves the kind that each CustomResourceDefinition among these objects defines."""
        specs = [each["spec"] for each in manifests if each["kind"] == "CustomResourceDefinition"]
        try:
            for spec in specs:
                version = next(each["name"] for each in spec["versions"] if each["storage"])
                self.metadata(f"/apis/{spec['group']}/{version}/{spec['names']['plural']}?limit=1")
        except Refused:
            return False
        return True

    def dry_run(self, path: str, manifest: Object) -> Object:
        """What would be made of an object that is posted to a list."""
        return self.create(f"{path}?dryRun=All", manifest)

    def delete(self, path: str) -> None:
        """Delete an object, or every object of a list; one that is gone already is fine."""
        try:
            self._send("DELETE", path, None, {})
        except Refused as refused:
            if refused.status != http.client.NOT_FOUND:
                raise

    def each(self, call: Callable[..., None], arguments: Iterable[tuple[Any, ...]]) -> None:
        """Make the same call with each of the arguments, several at once; the first error ends it."""
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            for done in [pool.submit(call, *given) for given in arguments]:
                done.result()

    def _send(
        self, method: str, path: str, body: str | None, headers: Mapping[str, str], *, seconds: float = _SECONDS
    ) -> bytes:
        deadline = time.monotonic() + seconds
        while True:
            answer, content = self._exchange(method, path, body, headers, seconds)
            if answer.status < http.client.BAD_REQUEST:
                return content
            later = answer.getheader("Retry-After")
            if answer.status != http.client.TOO_MANY_REQUESTS or not later or time.monotonic() + int(later) > deadline:
                raise Refused(answer.status, f"{method} {path.partition('?')[0]}: {_reason(answer.status, content)}")
            time.sleep(int(later))

    def _exchange(
        self, method: str, path: str, body: str | None, headers: Mapping[str, str], seconds: float
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPSConnection(self._address, context=self._tls)
            self._local.connection = connection
        kept = connection.sock is not None
        connection.timeout = seconds
        if kept:
            connection.sock.settimeout(seconds)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            content: bytes = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()  # the next request starts afresh
            if kept and not isinstance(error, TimeoutError):
                # the API server ends what was idle for three minutes; every request here may be made twice (what was
                # created is then refused, since it is there)
                return self._exchange(method, path, body, headers, seconds)
            raise Unanswered(f"{method} {path.partition('?')[0]}: no answer from {self._address} ({error})") from error
        return answer, content


def _reason(status: int, content: bytes) -> str:
    try:
        return f"{json.loads(content)['message']} ({status})"
    except (ValueError, KeyError, TypeError):
        return f"{content.decode(errors='replace')[:200]!r} ({status})"
