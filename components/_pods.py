"""Pods and containers that meet Pod Security `restricted`, as Kubernetes' API wants them."""

from collections.abc import Mapping, Sequence
from typing import Any

Spec = dict[str, Any]

_TEMPORARY = {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108 - in the container


def pod(
    containers: Sequence[Spec],
    *,
    account: str,
    user: int,
    priority: str,
    volumes: Mapping[str, Spec],
    init: Sequence[Spec] = (),
    **more: Any,  # noqa: ANN401 - any field of a pod
) -> Spec:
    """Spec of a pod whose containers run as one user, without a token of the API.

    volumes: name to source, besides the /tmp that every container has.
    """
    return {
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "priorityClassName": priority,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": user,
            "fsGroup": user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({"initContainers": list(init)} if init else {}),
        "containers": list(containers),
        "volumes": [{"name": "tmp", "emptyDir": {}}, *({"name": name, **of} for name, of in volumes.items())],
        **more,
    }


def container(
    name: str,
    image: str,
    command: Sequence[str],
    *,
    mounts: Mapping[str, str],
    cpu: str,
    memory: str,
    most: str,
    env: Sequence[Spec] = (),
    **more: Any,  # noqa: ANN401 - any field of a container
) -> Spec:
    """A container that can write to /tmp and to its volumes only.

    mounts: path to the name of the volume, or `NAME/FILE` for one file of it; a path that ends in `:ro` read-only.
    cpu, memory: requested. most: the memory limit.
    """
    return {
        "name": name,
        "image": image,
        "command": list(command),
        "env": list(env),
        "resources": {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": most}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [_TEMPORARY, *(_mount(path, volume) for path, volume in mounts.items())],
        **more,
    }


def from_secret(variable: str, secret: str, key: str) -> Spec:
    """An environment variable that a Secret's key gives."""
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def plain(**variables: str) -> list[Spec]:
    """Environment variables."""
    return [{"name": name, "value": value} for name, value in variables.items()]


def _mount(path: str, volume: str) -> Spec:
    name, _, file = volume.partition("/")
    where = path.removesuffix(":ro")
    return {
        "name": name,
        "mountPath": where,
        **({"readOnly": True} if where != path else {}),
        **({"subPath": file} if file else {}),
    }
