"""Karpenter beside an embedded control plane: it makes machines for pods that wait, and ends those that nobody needs.

Its kwok provider stands in for a cloud: a machine is a Node object, for which kwok then lives as for every simulated
one. What it can make comes from the pools (infra/clusters/instance_types.py). Pure: nothing is started here.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import yaml

from components._labels import POOL
from infra.clusters.embedded import rbac
from infra.clusters.embedded.api import Object
from infra.clusters.embedded.layout import Layout
from infra.clusters.embedded.processes import Process
from infra.clusters.embedded.rbac import Rule

NAME = "karpenter-kwok"
USER = "kiban:karpenter"
MODULE = ("karpenter", "sigs.k8s.io/karpenter")
"""The tools' family that pins it, and its module, which carries its kinds."""
DEVICES = "kiban-devices"
_GATES = "NodeOverlay=true,NodeRepair=true"  # slices in instance types; machines that are not Ready for 10 minutes
_KINDS = {
    "nodepools.karpenter.sh": "pkg/apis/crds/karpenter.sh_nodepools.yaml",
    "nodeclaims.karpenter.sh": "pkg/apis/crds/karpenter.sh_nodeclaims.yaml",
    "nodeoverlays.karpenter.sh": "pkg/apis/crds/karpenter.sh_nodeoverlays.yaml",
    "kwoknodeclasses.karpenter.kwok.sh": "kwok/apis/crds/karpenter.kwok.sh_kwoknodeclasses.yaml",
}
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
_WATCH = ["get", "list", "watch"]
_ROLE: list[Rule] = [
    ("karpenter.sh", ["nodepools", "nodeclaims", "nodeoverlays"], _WATCH),
    ("karpenter.sh", ["nodeclaims"], ["create", "delete", "update", "patch"]),
    (
        "karpenter.sh",
        ["nodepools", "nodepools/status", "nodeclaims/status", "nodeoverlays/status"],
        ["update", "patch"],
    ),
    ("karpenter.sh", ["nodepools/finalizers", "nodeclaims/finalizers"], ["update", "patch"]),
    ("karpenter.kwok.sh", ["kwoknodeclasses"], [*_WATCH, "update", "patch"]),
    ("karpenter.kwok.sh", ["kwoknodeclasses/status"], ["update", "patch"]),
    ("", ["nodes"], [*_WATCH, "create", "update", "patch", "delete"]),
    ("", ["pods", "namespaces", "persistentvolumes", "persistentvolumeclaims", "replicationcontrollers"], _WATCH),
    ("", ["pods"], ["delete"]),
    ("", ["pods/eviction"], ["create"]),
    ("", ["events"], ["create", "patch"]),
    ("apps", ["daemonsets", "deployments", "replicasets", "statefulsets"], _WATCH),
    ("policy", ["poddisruptionbudgets"], _WATCH),
    ("storage.k8s.io", ["storageclasses", "csinodes", "volumeattachments"], _WATCH),
]


def process(at: Layout, instance_types: str) -> Process:
    """The process. instance_types: the name of their file in the cluster's folder."""
    flags = {
        "instance-types-file-path": at.folder / instance_types,
        "feature-gates": _GATES,
        "disable-leader-election": "true",
        "leader-election-name": at.server,  # nobody's name, but a moved API server shows in it, and restarts it
        "metrics-port": 0,  # any free one: they cannot be left out
        "health-probe-port": 0,
    }
    return Process(
        name=NAME,
        arguments=tuple(f"--{flag}={value}" for flag, value in flags.items()),
        environment={"KUBECONFIG": str(at.pki(f"{NAME}.kubeconfig")), "GOGC": "50"},
    )


def permissions() -> dict[str, Object]:
    """What it may do."""
    return dict([rbac.role(USER, _ROLE), rbac.binding(USER, role=USER, user=USER)])


def kinds(module: Path) -> dict[str, Object]:
    """The kinds of its objects, from the files of its module."""
    return {f"{_DEFINITIONS}/{name}": yaml.safe_load((module / file).read_text()) for name, file in _KINDS.items()}


def node_class() -> dict[str, Object]:
    """The KWOKNodeClass `default`, for every pool: it says nothing of a machine."""
    version = "karpenter.kwok.sh/v1alpha1"
    made = {"apiVersion": version, "kind": "KWOKNodeClass", "metadata": {"name": "default"}, "spec": {}}
    return {f"/apis/{version}/kwoknodeclasses/default": made}


def device_plugin(devices: Mapping[str, Mapping[str, str]]) -> dict[str, Object]:
    """A MutatingAdmissionPolicy in the place of device plugins, with its binding: no machine is without its devices.

    The provider gives a node what its pods ask for and what its instance type has, of slices no more than those asked
    for. devices: pool to what is registered on a node of it.
    """
    own = {"name": DEVICES}
    policy = {
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "matchConstraints": {
            "resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["nodes"]}
            ]
        },
        "matchConditions": [
            {
                "name": "made-by-karpenter",
                "expression": "'karpenter.sh/nodepool' in object.metadata.?labels.orValue({})",
            }
        ],
        "variables": [{"name": "devices", "expression": _of_the_pool(devices)}],
        "mutations": [
            {
                "patchType": "JSONPatch",
                "jsonPatch": {"expression": " + ".join(map(_registered, ("capacity", "allocatable")))},
            }
        ],
    }
    version = "admissionregistration.k8s.io/v1"
    return {
        f"{_ADMISSION}/mutatingadmissionpolicies/{DEVICES}": {
            "apiVersion": version,
            "kind": "MutatingAdmissionPolicy",
            "metadata": own,
            "spec": policy,
        },
        f"{_ADMISSION}/mutatingadmissionpolicybindings/{DEVICES}": {
            "apiVersion": version,
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": own,
            "spec": {"policyName": DEVICES},
        },
    }


def _of_the_pool(devices: Mapping[str, Mapping[str, str]]) -> str:
    """The devices of the node's pool, in CEL: a map of strings, written as JSON, is one in CEL too."""
    return f"{json.dumps(devices)}[?object.metadata.?labels[?'{POOL}'].orValue('')].orValue({{}})"


def _registered(part: str) -> str:
    """The operations of JSON Patch (RFC 6902) that add the devices to a part of the node's status, in CEL."""
    path = f"'/status/{part}/' + jsonpatch.escapeKey(d)"
    return f"variables.devices.map(d, JSONPatch{{op: 'add', path: {path}, value: variables.devices[d]}})"
