"""Kubeconfig files: one written for a cluster of Kiban's own, and clusters found in the user's.

Authentication of the user's contexts is kubectl's matter: everything that is asked of such a cluster goes through it.
"""

import base64
import hashlib
import os
from pathlib import Path
from typing import Any

from infra import paths
from infra.clusters import Cluster, files
from infra.errors import BadInput, CouldNotRun, RunFailed
from infra.kubectl import Kubectl

_REACHED_WITHIN = "10s"


def context_of(name: str) -> str:
    """The context of an embedded cluster in its kubeconfig."""
    return f"kiban-{name}"


def document(name: str, server: str, *, authority: Path, certificate: Path, key: Path) -> dict[str, Any]:
    """A kubeconfig with one context, `kiban-NAME`, that holds the certificates themselves."""
    context = context_of(name)
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": context, "cluster": {"server": server, "certificate-authority-data": _data(authority)}}],
        "users": [
            {
                "name": context,
                "user": {"client-certificate-data": _data(certificate), "client-key-data": _data(key)},
            }
        ],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
        "current-context": context,
    }


def locate(context: str, kube_system_uid: str) -> Cluster:
    """The cluster of a context of the user's kubeconfig, once it has shown to be the one with this UID.

    Raises BadInput for a context that does not exist and for another cluster, CouldNotRun for one out of reach.
    """
    contexts = Kubectl().run("config", "get-contexts", "--output=name").split()
    if context not in contexts:
        there = ", ".join(contexts) or "none"
        raise BadInput(f"context {context!r} is not in your kubeconfig; accepted: {there}; set KUBECONFIG or add it")
    kubectl = Kubectl(context=context)
    try:
        found = kubectl.run(
            "get",
            "namespace",
            "kube-system",
            "--output=jsonpath={.metadata.uid}",
            f"--request-timeout={_REACHED_WITHIN}",
        )
    except RunFailed as failed:
        raise CouldNotRun(f"the cluster of context {context!r} is out of reach: {failed}") from failed
    if found != kube_system_uid:
        raise BadInput(
            f"context {context!r} leads to another cluster: UID of kube-system {found}, expected {kube_system_uid}; "
            "point the context to the right one, or change the environment's data"
        )
    return Cluster(name=context, kubeconfig=_one_file(kubectl, context), context=context, uid=found)


def _one_file(kubectl: Kubectl, context: str) -> Path:
    """The user's kubeconfig; where KUBECONFIG names several, what they say of the context, in one of our own."""
    named = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    if len(named) <= 1:
        return (named or [Path.home() / ".kube" / "config"])[0].absolute()
    path = paths.home() / "kubeconfigs" / hashlib.sha256(context.encode()).hexdigest()[:16]
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.replace(path, kubectl.run("config", "view", "--minify", "--flatten"))
    return path


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
