"""A pool's nodes as Karpenter (1.14) makes them: a NodePool, and a NodeOverlay where devices are cut. Pure.

What Karpenter does with each field was read in its source; docs/adr/0015-node-provisioning.md has what follows of it.
"""

from typing import Any

from components._quantities import count
from components._sources import Karpenter, Machines

Manifest = dict[str, Any]
GROUP = "karpenter.sh"
OVERLAY_GATE = "NodeOverlay"
"""The feature gate of Karpenter (alpha in 1.14, off) without which a NodeOverlay is not looked at."""
COUNTS_FOR_NOTHING = -(2**25)
"""A pod of this priority or a lower one does not keep a node from being empty (Karpenter 1.14, EvictionCost)."""


def manifests(machines: Machines, source: Karpenter) -> list[Manifest]:
    """The pool's objects, cluster-scoped, all of the pool's name."""
    overlay = [_manifest("v1alpha1", "NodeOverlay", machines, _overlay(machines))] if machines.cut else []
    return [_manifest("v1", "NodePool", machines, _node_pool(machines, source)), *overlay]


def _manifest(version: str, kind: str, machines: Machines, spec: dict[str, Any]) -> Manifest:
    return {"apiVersion": f"{GROUP}/{version}", "kind": kind, "metadata": {"name": machines.pool}, "spec": spec}


def _node_pool(machines: Machines, source: Karpenter) -> dict[str, Any]:
    """Limits are the quota's numbers.

    That of the devices is the one that holds: within one round of scheduling Karpenter adds up what the instance types
    offer, and no instance type offers "nodes".
    """
    offered = {resource: count(each * machines.most) for resource, each in machines.devices.items() if each}
    return {
        "template": {
            "metadata": {"labels": dict(machines.labels)},
            "spec": {
                "nodeClassRef": {
                    "group": source.node_class.group,
                    "kind": source.node_class.kind,
                    "name": source.node_class.name,
                },
                "requirements": _requirements(machines, source),
                "taints": [dict(taint) for taint in machines.taints],
                "expireAfter": "Never",  # it would end a node whatever runs there; no budget holds it up
            },
        },
        "limits": {"nodes": count(machines.most)} | offered,
        "disruption": {
            "consolidationPolicy": "WhenEmpty",
            "consolidateAfter": f"{source.idle_seconds}s",
            # A node that differs from the NodePool by now is left until it is empty.
            "budgets": [{"nodes": "0", "reasons": ["Drifted", "Underutilized"]}],
        },
    }


def _requirements(machines: Machines, source: Karpenter) -> list[dict[str, Any]]:
    wanted = {
        "kubernetes.io/arch": ("amd64",),
        "kubernetes.io/os": ("linux",),
        "karpenter.sh/capacity-type": ("spot",) if machines.spot else ("reserved", "on-demand"),
        "node.kubernetes.io/instance-type": source.instance_types,
        "topology.kubernetes.io/zone": source.zones,
    }
    return [{"key": key, "operator": "In", "values": list(values)} for key, values in wanted.items() if values]


def _overlay(machines: Machines) -> dict[str, Any]:
    """What a node offers once its devices are cut; no provider of a cloud knows it."""
    return {
        "requirements": [{"key": f"{GROUP}/nodepool", "operator": "In", "values": [machines.pool]}],
        "capacity": {resource: count(each) for resource, each in machines.devices.items()},
    }
