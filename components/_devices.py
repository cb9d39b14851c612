"""Device software as data, and the values of the charts that it becomes. Nothing is declared here.

Facts: NVIDIA/gpu-operator v26.7.0 and NVIDIA/k8s-device-plugin v0.20.0 (values.yaml and templates of their charts),
kubernetes-sigs/node-feature-discovery v0.19.0. docs/adr/0017 says why it is this and not more.
"""

import dataclasses as dc
import hashlib
import json
import re
from typing import Any

from components._labels import POOL
from components._pools import GpuPool, node_labels, node_taints
from components.gpu_node_pools import device_configuration

OPERATOR, DISCOVERY = "gpu-operator", "node-feature-discovery"
"""Upstream's charts: of the operator, and of what the device plugin needs besides charts/devices."""
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_VERSION = re.compile(r"\d+(\.\d+){1,2}")
_SYSTEM = re.compile(r"[a-z]+\d+(\.\d+)?")
_PLUGIN, _MIG = "gpu-device-plugin", "gpu-mig-partitions"
_NODE_CRITICAL = "system-node-critical"
_OF_A_JOB = "batch.kubernetes.io/job-name"
"""The label of every pod that a Job makes (Kubernetes 1.27)."""


@dc.dataclass(frozen=True, kw_only=True)
class Driver:
    """A driver that the GPU operator builds on each node for its kernel, from packages of the system's publisher.

    version: `595.91.07`. system: of the nodes, as the images of drivers are tagged: `ubuntu24.04`.
    """

    version: str
    system: str

    def __post_init__(self) -> None:
        if not _VERSION.fullmatch(self.version):
            raise ValueError(f"driver: version={self.version!r}; accepted: numbers as in 595.91.07")
        if not _SYSTEM.fullmatch(self.system):
            raise ValueError(f"driver: system={self.system!r}; accepted: name and version as in ubuntu24.04, rhel9.6")

    @property
    def images(self) -> tuple[str, ...]:
        """The driver's, whose tag the operator completes with the node's system, and what replaces one driver."""
        return (
            f"nvcr.io/nvidia/driver:{self.version}-{self.system}",
            "nvcr.io/nvidia/cloud-native/k8s-driver-manager:v0.12.0",
        )


@dc.dataclass(frozen=True, kw_only=True)
class GpuOperator:
    """NVIDIA's GPU operator, for pools of every kind.

    driver: None: it is on the nodes' image. toolkit: whether the operator installs the container toolkit; False: it is
    on the nodes' image. namespace: of its own, since its pods are privileged.
    """

    driver: Driver | None = None
    toolkit: bool = True
    namespace: str = "gpu-operator"

    def __post_init__(self) -> None:
        _check_namespace(self.namespace)

    @property
    def images(self) -> tuple[str, ...]:
        """Images besides those that the chart names whatever its values are."""
        toolkit = ("nvcr.io/nvidia/k8s/container-toolkit:v1.20.0",) if self.toolkit else ()
        return (*(self.driver.images if self.driver else ()), *toolkit)


@dc.dataclass(frozen=True, kw_only=True)
class DevicePlugin:
    """NVIDIA's device plugin, GPU feature discovery and DCGM exporter, for pools without MIG.

    Driver and container toolkit are on the nodes' image. runtime_class: by which containers see devices; None: the
    nodes' default runtime shows them. namespace: of its own, since two of its pods are privileged or nearly so.
    """

    runtime_class: str | None = None
    namespace: str = "kiban-devices"

    def __post_init__(self) -> None:
        _check_namespace(self.namespace)
        if self.runtime_class is not None and not _NAMESPACE.fullmatch(self.runtime_class):
            raise ValueError(f"devices: runtime_class={self.runtime_class!r}; accepted: the name of one, or None")


def _check_namespace(namespace: str) -> None:
    if not _NAMESPACE.fullmatch(namespace):
        raise ValueError(
            f"devices: namespace={namespace!r}; accepted: lower-case letters, digits and '-', at most 63 characters"
        )


@dc.dataclass(frozen=True, kw_only=True)
class DeviceSoftwareArgs:
    """The software, and the pools on whose nodes it works. Raises ValueError for pools that it cannot serve."""

    software: GpuOperator | DevicePlugin
    pools: tuple[GpuPool, ...]

    def __post_init__(self) -> None:
        if not self.pools:
            raise ValueError("devices: there are no gpu_pools; accepted: with pools, or None")
        cut = [pool.name for pool in self.pools if _cut(pool)]
        if cut and isinstance(self.software, DevicePlugin):
            raise ValueError(
                f"devices: DevicePlugin, and pool {cut[0]!r} has MIG instances, into which nothing of it cuts devices; "
                "accepted: GpuOperator, or pools without MIG"
            )


def operator_values(software: GpuOperator, pools: tuple[GpuPool, ...], *, priority: str) -> dict[str, Any]:
    """Values of the GPU operator's chart (26.7).

    It works on nodes that node feature discovery has labelled, which looks at those of the pools only. No key is the
    default of the device plugin's configuration: a node that lacks the label is to fail, not to offer other resources
    than its queue hands out. charts/monitoring scrapes DCGM exporter, after the operator of Prometheus has its kinds;
    the chart's own ServiceMonitor would be a second scrape, and is on by default. What reads a ConfigMap notices a
    node's other label, and not another content; a variable that changes with that has its pods made again.
    """
    tolerations = _tolerations(pools)
    digests = {name: [{"name": "KIBAN_CONFIGURATION", "value": digest}] for name, digest in _digests(pools).items()}
    values: dict[str, Any] = {
        "operator": {
            "priorityClassName": priority,
            "upgradeCRD": False,  # a hook, which Pulumi leaves out: it upgrades kinds itself
            "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
        },
        "daemonsets": {"priorityClassName": _NODE_CRITICAL, "tolerations": tolerations},
        "driver": {"enabled": False},
        "toolkit": {"enabled": software.toolkit},
        "cdi": {"enabled": True},
        "devicePlugin": {"config": {"name": _PLUGIN, "default": ""}, "env": digests[_PLUGIN]},
        "gfd": {"env": digests[_PLUGIN]},
        "mig": {"strategy": "mixed"},
        "migManager": {"enabled": False},
        "dcgmExporter": {"serviceMonitor": {"enabled": False}},
        "node-feature-discovery": {
            "postDeleteCleanup": False,  # a hook
            "worker": {"affinity": _affinity(pools), "tolerations": tolerations},
        },
    }
    if software.driver is not None:
        # To replace a node's driver its pods with devices are deleted: not those of Jobs, whose end is waited for,
        # however long. The others may lose what they keep in an emptyDir, or it would never come to its end.
        policy = {"waitForCompletion": {"podSelector": _OF_A_JOB}, "gpuPodDeletion": {"deleteEmptyDir": True}}
        values["driver"] = {"enabled": True, "version": software.driver.version, "upgradePolicy": policy}
    if any(map(_cut, pools)):
        values["migManager"] = {
            "enabled": True,
            "config": {"name": _MIG, "default": "all-disabled"},
            "env": digests[_MIG],
        }
    return values


def plugin_values(software: DevicePlugin, pools: tuple[GpuPool, ...]) -> dict[str, Any]:
    """Values of charts/devices: what an environment decides; all else is in its values.yaml."""
    return {
        "devices": {
            "configuration": {"name": _PLUGIN, "digest": _digests(pools)[_PLUGIN]},
            "affinity": _affinity(pools),
            "tolerations": _tolerations(pools),
            **({"runtimeClassName": software.runtime_class} if software.runtime_class else {}),
        }
    }


def discovery_values(*, priority: str) -> dict[str, Any]:
    """Values of node feature discovery's chart (0.19): what makes labels of what GPU feature discovery has found.

    Without its own look at the nodes (worker): nothing here needs other labels.
    """
    return {
        "priorityClassName": priority,
        "postDeleteCleanup": False,  # a hook
        "master": {"extraLabelNs": ["nvidia.com"]},
        "worker": {"enable": False},
    }


def _cut(pool: GpuPool) -> bool:
    """Whether its nodes ask MIG manager to cut their devices."""
    return "nvidia.com/mig.config" in node_labels(pool)


def _affinity(pools: tuple[GpuPool, ...]) -> dict[str, Any]:
    """To nodes of the pools only."""
    of_pools = {"key": POOL, "operator": "In", "values": [pool.name for pool in pools]}
    term = {"nodeSelectorTerms": [{"matchExpressions": [of_pools]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}


def _tolerations(pools: tuple[GpuPool, ...]) -> list[dict[str, str]]:
    """Of every taint of the pools' nodes, each once: without this software nobody has a node's devices."""
    taints = dict.fromkeys((taint.key, taint.effect) for pool in pools for taint in node_taints(pool))
    return [{"key": key, "operator": "Exists", "effect": effect} for key, effect in taints]


def _digests(pools: tuple[GpuPool, ...]) -> dict[str, str]:
    """ConfigMap name to a digest of its content."""
    found = {name: json.dumps(data, sort_keys=True).encode() for name, data in device_configuration(pools).items()}
    return {name: hashlib.sha256(text).hexdigest()[:16] for name, text in found.items()}
