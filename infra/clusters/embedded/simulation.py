"""The simulated nodes of an embedded cluster, as the API server has them: made, changed and removed to fit the data."""

import datetime as dt
import hashlib
import json
from collections.abc import Iterable

from infra.clusters.embedded.api import Api, Object

_FINGERPRINT = "kiban.dev/fingerprint"
_NODES = "/api/v1/nodes"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_OURS = "?labelSelector=kiban.dev/simulated%3Dtrue"
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


def prepare(api: Api) -> None:
    """Give kwok and the kubelet client their permissions, and take the nodes' leases from an earlier kwok.

    Called while no kwok runs. A lease holds for minutes, and a new kwok does not touch the node of another's.
    A kubelet that had one makes it again.
    """
    api.apply(f"{_RBAC}/clusterroles/kiban:kwok", _role())
    api.apply(*_binding("kiban:kwok", role="kiban:kwok", user="kiban:kwok"))
    kubelets = "kiban:kube-apiserver-kubelet-client"
    api.apply(*_binding(kubelets, role="system:kubelet-api-admin", user=kubelets))
    api.delete(_LEASES)


def converge(api: Api, manifests: Iterable[Object]) -> tuple[int, int]:
    """Make the simulated nodes these, touching only those that differ; how many were set and how many removed."""
    wanted = {manifest["metadata"]["name"]: _fingerprinted(manifest) for manifest in manifests}
    there = {meta["name"]: _fingerprint_of(meta) for meta in api.metadata(_NODES + _OURS)}
    differ = [node for name, node in wanted.items() if there.get(name) != _fingerprint_of(node["metadata"])]
    extra = there.keys() - wanted.keys()
    api.each(api.delete, [(f"{_NODES}/{name}",) for name in extra])
    api.each(_create, [(api, node) for node in differ if node["metadata"]["name"] not in there])
    api.each(_change, [(api, node) for node in differ if node["metadata"]["name"] in there])
    return len(differ), len(extra)


def readiness(api: Api) -> tuple[int, int]:
    """How many simulated nodes there are, and how many of them are Ready."""
    rows = api.get(_NODES + _OURS + "&includeObject=None", accept="application/json;as=Table;g=meta.k8s.io;v=v1")[
        "rows"
    ]
    states = [row["cells"][1].split(",") for row in rows or []]
    return len(states), sum("Ready" in state for state in states)


def _create(api: Api, node: Object) -> None:
    """Apply a node that is not there yet, its status with it."""
    now = dt.datetime.now(dt.UTC).isoformat()
    times = {"lastHeartbeatTime": now, "lastTransitionTime": now}
    status = {**node["status"], "conditions": [condition | times for condition in node["status"]["conditions"]]}
    api.apply(_path(node), {**node, "status": status})


def _change(api: Api, node: Object) -> None:
    """Apply a node that is there; its conditions are kwok's and the controller manager's by now."""
    status = {part: value for part, value in node["status"].items() if part != "conditions"}
    api.apply(f"{_path(node)}/status", {**node, "status": status})
    api.apply(_path(node), node)  # last: the fingerprint in it says that all of the node is applied


def _path(node: Object) -> str:
    return f"{_NODES}/{node['metadata']['name']}"


def _fingerprinted(manifest: Object) -> Object:
    """The manifest with an annotation that tells whether the node is as this manifest says."""
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]
    meta = manifest["metadata"]
    return {**manifest, "metadata": {**meta, "annotations": {**meta.get("annotations", {}), _FINGERPRINT: digest}}}


def _fingerprint_of(metadata: Object) -> str | None:
    annotations: dict[str, str] = metadata.get("annotations", {})
    return annotations.get(_FINGERPRINT)


def _role() -> Object:
    rules = [
        ("", ["nodes"], ["get", "list", "watch", "patch"]),
        ("", ["nodes/status", "pods/status"], ["patch", "update"]),
        ("", ["pods"], ["get", "list", "watch", "patch", "delete"]),
        ("", ["events"], ["create", "patch", "update"]),
        ("events.k8s.io", ["events"], ["create", "patch", "update"]),
        ("coordination.k8s.io", ["leases"], ["get", "list", "watch", "create", "update", "patch"]),
    ]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "kiban:kwok"},
        "rules": [{"apiGroups": [group], "resources": kinds, "verbs": verbs} for group, kinds, verbs in rules],
    }


def _binding(name: str, *, role: str, user: str) -> tuple[str, Object]:
    group = "rbac.authorization.k8s.io"
    return f"{_RBAC}/clusterrolebindings/{name}", {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
