"""Kubeconfig files: one written for a cluster of Kiban's own, and clusters found in the user's.

Authentication of the user's contexts is kubectl's matter: everything that is asked of such a cluster goes through it.
"""

import base64
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from infra import paths
from infra.clusters import Cluster, files
from infra.errors import BadInput, CouldNotRun, RunFailed
from infra.kubectl import Kubectl

_REACHED_WITHIN = "10s"
_PARTS = ("clusters", "users", "contexts")


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


def read(path: Path) -> dict[str, Any]:
    """What is in the file, or the beginnings of one. Raises BadInput for what is no kubeconfig."""
    empty: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": []}
    try:
        found = yaml.safe_load(path.read_text()) or {}
        return empty | {key: value or empty.get(key) for key, value in found.items()}
    except FileNotFoundError:
        return empty
    except (yaml.YAMLError, AttributeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is no kubeconfig; accepted: one, or a file that is not there yet") from error


def has(path: Path, context: str) -> bool:
    """Whether the file has a context of that name."""
    return any(each["name"] == context for each in read(path)["contexts"])


def only(given: Mapping[str, Any], context: str, *, called: str | None = None) -> dict[str, Any]:
    """A kubeconfig with one context of another and what that names, all under one name: the context's, or `called`."""
    name = called or context
    current = _named(given["contexts"], context)["context"]
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": _named(given["clusters"], current["cluster"])["cluster"]}],
        "users": [{"name": name, "user": _named(given["users"], current["user"])["user"]}],
        "contexts": [{"name": name, "context": {**current, "cluster": name, "user": name}}],
        "current-context": name,
    }


def put(path: Path, context: str, given: Mapping[str, Any]) -> None:
    """Write what a kubeconfig's current context names into the file, all under the name `context`; others stay."""
    new = only(given, given["current-context"], called=context)
    there = _without(read(path), context)
    for part in _PARTS:
        there[part] += new[part]
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.replace(path, yaml.safe_dump({**new, **there}, sort_keys=False))


def take(path: Path, context: str) -> None:
    """Remove the context, with its cluster and user of the same name; one that is not there is no error."""
    if has(path, context):
        files.replace(path, yaml.safe_dump(_without(read(path), context), sort_keys=False))


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


def _without(document: Mapping[str, Any], context: str) -> dict[str, Any]:
    left = {part: [each for each in document[part] if each["name"] != context] for part in _PARTS}
    kept = {key: value for key, value in document.items() if (key, value) != ("current-context", context)}
    return kept | left


def _named(items: Iterable[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    return next(each for each in items if each["name"] == name)


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
