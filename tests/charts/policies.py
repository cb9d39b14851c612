"""NetworkPolicies read as Kubernetes does: whether what comes in reaches a pod's port."""

from collections.abc import Iterable, Mapping
from typing import Any

Object = dict[str, Any]
_NAME = "kubernetes.io/metadata.name"


def reaches(
    objects: Iterable[Object],
    *,
    source: tuple[str, Mapping[str, str]],
    target: tuple[str, Mapping[str, str]],
    port: int,
) -> bool:
    """Whether a pod may open a connection to the port of another; both as namespace and labels.

    The target's namespace denies by default. What lets the source out is not asked.
    """
    namespace, labels = target
    return any(
        _admits(rule, source, namespace, port)
        for each in objects
        if each["kind"] == "NetworkPolicy"
        and each["metadata"]["namespace"] == namespace
        and "Ingress" in each["spec"]["policyTypes"]
        and _matches(each["spec"]["podSelector"], labels)
        for rule in each["spec"].get("ingress", [])
    )


def _admits(rule: Object, source: tuple[str, Mapping[str, str]], namespace: str, port: int) -> bool:
    if "ports" in rule and port not in {each["port"] for each in rule["ports"]}:
        return False
    return "from" not in rule or any(_is(peer, source, namespace) for peer in rule["from"])


def _is(peer: Object, source: tuple[str, Mapping[str, str]], namespace: str) -> bool:
    where, labels = source
    at = _matches(peer["namespaceSelector"], {_NAME: where}) if "namespaceSelector" in peer else where == namespace
    return at and _matches(peer.get("podSelector", {}), labels)


def _matches(selector: Object, labels: Mapping[str, str]) -> bool:
    wanted = selector.get("matchLabels", {})
    expressions = selector.get("matchExpressions", [])
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        each["key"] in labels if each["operator"] == "Exists" else labels.get(each["key"]) in each["values"]
        for each in expressions
    )
