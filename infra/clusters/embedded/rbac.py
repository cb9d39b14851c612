"""Permissions of an embedded cluster's own processes, each as the path to apply it to and its manifest."""

from collections.abc import Iterable

from infra.clusters.embedded.api import Object

_GROUP = "rbac.authorization.k8s.io"
_PATH = f"/apis/{_GROUP}/v1"
Rule = tuple[str, list[str], list[str]]
"""API group, resources, verbs."""


def role(name: str, rules: Iterable[Rule]) -> tuple[str, Object]:
    """A ClusterRole."""
    return f"{_PATH}/clusterroles/{name}", {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [{"apiGroups": [group], "resources": kinds, "verbs": verbs} for group, kinds, verbs in rules],
    }


def binding(name: str, *, role: str, user: str) -> tuple[str, Object]:
    """A ClusterRoleBinding of one user, or of one service account by its user name."""
    return f"{_PATH}/clusterrolebindings/{name}", {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": _GROUP, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": _GROUP, "kind": "User", "name": user}],
    }
