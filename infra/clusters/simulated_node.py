"""A simulated node as a Kubernetes object, whatever wants it. Pure: nothing is applied.

Simulated nodes run nothing: a pod that "completes" on one shows that it was admitted and scheduled, no more.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from components._labels import SIMULATED
from infra.toolchain import TOOLS

Manifest = dict[str, Any]
CONDITIONS = [
    {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "simulated"},
    {"type": "MemoryPressure", "status": "False", "reason": "KubeletHasSufficientMemory", "message": "simulated"},
    {"type": "DiskPressure", "status": "False", "reason": "KubeletHasNoDiskPressure", "message": "simulated"},
    {"type": "PIDPressure", "status": "False", "reason": "KubeletHasSufficientPID", "message": "simulated"},
]
PLATFORM = MappingProxyType({"os": "linux", "arch": "amd64"})
REGION = "simulated"
ZONES = ("simulated-a", "simulated-b", "simulated-c")
PODS = 110  # the kubelet's default


def manifest(
    name: str,
    *,
    labels: Mapping[str, str],
    taints: Sequence[Mapping[str, str]],
    resources: Mapping[str, str],
    number: int,
    zone: str,
    provider_id: str,
) -> Manifest:
    """The Node. Its conditions carry no times: whoever makes it knows the time.

    resources: what it offers besides a disk and places for pods. number: below 32,500; what its address is made from.
    """
    offered = {"cpu": "0", "memory": "0", "ephemeral-storage": "1Ti", "pods": str(PODS), **resources}
    own = {
        SIMULATED: "true",
        "kubernetes.io/hostname": name,
        # the beta ones, too: where they are missing the controller manager adds them, by two requests a node
        **{f"{prefix}kubernetes.io/{key}": value for prefix in ("", "beta.") for key, value in PLATFORM.items()},
        "topology.kubernetes.io/region": REGION,
        "topology.kubernetes.io/zone": zone,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {**labels, **own}, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "spec": {"providerID": provider_id, "taints": [dict(taint) for taint in taints]},
        "status": {
            "capacity": offered,
            "allocatable": offered,
            "conditions": CONDITIONS,
            "nodeInfo": {
                **dict.fromkeys(("machineID", "systemUUID", "bootID", "kubeProxyVersion"), ""),
                **dict.fromkeys(("osImage", "kernelVersion"), "simulated"),
                "operatingSystem": PLATFORM["os"],
                "architecture": PLATFORM["arch"],
                "containerRuntimeVersion": f"kwok://{TOOLS['kwok'].version}",
                "kubeletVersion": f"v{TOOLS['kube-apiserver'].version}",
            },
            # of 198.18.0.0/16, for benchmarks (RFC 2544): nothing answers there
            "addresses": [
                {"type": "InternalIP", "address": f"198.18.{number // 250}.{number % 250 + 1}"},
                {"type": "Hostname", "address": name},
            ],
        },
    }
