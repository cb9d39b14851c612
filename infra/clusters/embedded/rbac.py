"""Permissions of an embedded cluster's own processes, as manifests."""

from collections.abc import Iterable

from infra.clusters.embedded.api import Object

_GROUP = "rbac.authorization.k8s.io"
Rule = tuple[str, list[str], list[str]]
"""API group, resources, verbs."""


def role(name: str, rules: Iterable[Rule]) -> Object:
    """A ClusterRole."""
    return {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [{"apiGroups": [group], "resources": kinds, "verbs": verbs} for group, kinds, verbs in rules],
    }


def binding(name: str, *, role: str, user: str) -> Object:
    """A ClusterRoleBinding of one user, or of one service account by its user name."""
    return {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": _GROUP, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": _GROUP, "kind": "User", "name": user}],
    }
