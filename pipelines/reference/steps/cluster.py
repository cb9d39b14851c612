"""What the step `record` asks the Kubernetes API, with the token of its pod's service account."""

import json
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .ending import Refused, Unavailable

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SERVER = "https://kubernetes.default.svc"
PATIENCE = 120
"""Seconds that the API server may be away."""

_PAUSE = 2


def namespace() -> str:
    """The namespace of this pod."""
    return (ACCOUNT / "namespace").read_text().strip()


def workflow(name: str) -> dict[str, Any]:
    """A Workflow of Argo in this pod's namespace."""
    found: dict[str, Any] = _get(f"/apis/argoproj.io/v1alpha1/namespaces/{namespace()}/workflows/{quote(name)}")
    return found


def pods(name: str) -> list[dict[str, Any]]:
    """The pods of a Workflow that are still there."""
    found: list[dict[str, Any]] = _get(
        f"/api/v1/namespaces/{namespace()}/pods?labelSelector=workflows.argoproj.io/workflow%3D{quote(name)}"
    )["items"]
    return found


def _get(path: str) -> Any:  # noqa: ANN401 - what the path is of
    """Raises Refused where the API server refuses, Unavailable where it does not answer in PATIENCE seconds."""
    trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    end = time.monotonic() + PATIENCE
    while True:
        token = (ACCOUNT / "token").read_text().strip()
        request = urllib.request.Request(SERVER + path, headers={"Authorization": f"Bearer {token}"})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=10, context=trust) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != 429:
                raise Refused(f"API server, {path}: {error.code} {error.reason}") from error
            reason: Exception = error
        except OSError as error:
            reason = error
        if time.monotonic() > end:
            raise Unavailable(f"API server, {path}: {reason}") from reason
        time.sleep(_PAUSE)
