"""The simulated nodes of an embedded cluster, as the API server has them: made, changed and removed to fit the data."""

import datetime as dt
import hashlib
import json
from collections.abc import Iterable

from infra.clusters.embedded import rbac
from infra.clusters.embedded.api import Api, Object
from infra.clusters.embedded.rbac import Rule

_FINGERPRINT = "kiban.dev/fingerprint"
_NODES = "/api/v1/nodes"
# not those that a controller has made
_OURS = "?labelSelector=kiban.dev/simulated%3Dtrue,app.kubernetes.io/managed-by%3Dkiban"
_KARPENTERS = "?labelSelector=karpenter.sh/nodepool"
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_ROLE: list[Rule] = [
    ("", ["nodes"], ["get", "list", "watch", "patch"]),
    ("", ["nodes/status", "pods/status"], ["patch", "update"]),
    ("", ["pods"], ["get", "list", "watch", "patch", "delete"]),
    ("", ["events"], ["create", "patch", "update"]),
    ("events.k8s.io", ["events"], ["create", "patch", "update"]),
    ("coordination.k8s.io", ["leases"], ["get", "list", "watch", "create", "update", "patch"]),
]


def prepare(api: Api) -> None:
    """Give kwok and the kubelet client their permissions, and take the nodes' leases from an earlier kwok.

    Called while no kwok runs. A lease holds for minutes, and a new kwok does not touch the node of another's.
    A kubelet that had one makes it again.
    """
    kwok, kubelets = "kiban:kwok", "kiban:kube-apiserver-kubelet-client"
    api.apply(*rbac.role(kwok, _ROLE))
    for user, role in ((kwok, kwok), (kubelets, "system:kubelet-api-admin")):
        api.apply(*rbac.binding(user, role=role, user=user))
    api.delete(_LEASES)


def converge(api: Api, manifests: Iterable[Object]) -> tuple[int, int]:
    """Make the simulated nodes these, touching only those that differ; how many were set and how many removed.

    Karpenter's own are left alone.
    """
    wanted = {manifest["metadata"]["name"]: _fingerprinted(manifest) for manifest in manifests}
    there = {meta["name"]: _fingerprint_of(meta) for meta in api.metadata(_NODES + _OURS)}
    differ = [node for name, node in wanted.items() if there.get(name) != _fingerprint_of(node["metadata"])]
    extra = there.keys() - wanted.keys()
    api.each(api.delete, [(f"{_NODES}/{name}",) for name in extra])
    api.each(_create, [(api, node) for node in differ if node["metadata"]["name"] not in there])
    api.each(_change, [(api, node) for node in differ if node["metadata"]["name"] in there])
    return len(differ), len(extra)


def readiness(api: Api) -> tuple[int, int]:
    """How many simulated nodes of the data there are, and how many of them are Ready."""
    return _readiness(api, _OURS)


def provisioned(api: Api) -> tuple[int, int]:
    """How many nodes Karpenter has made that are still there, and how many of them are Ready."""
    return _readiness(api, _KARPENTERS)


def _readiness(api: Api, selector: str) -> tuple[int, int]:
    rows = api.get(_NODES + selector + "&includeObject=None", accept="application/json;as=Table;g=meta.k8s.io;v=v1")[
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
