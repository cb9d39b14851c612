"""Who set an object's fields, and which of those names are controllers of the cluster and not people or their tools.

A name in managedFields is what a client says of itself. So it excuses what was added to an object, and a changed value
only where that is part of an API (judging.py).
"""

import dataclasses as dc
import re
from collections.abc import Iterable

from infra.kubectl import Object
from infra.release.drift.fields import Fields

_KUBERNETES = frozenset(
    {
        "before-first-apply",  # what was set before the first server-side apply
        "cloud-controller-manager",
        "clusterrole-aggregation-controller",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
    }
)
_LEASES = frozenset({"kube-system", "kube-node-lease"})
_WORKLOADS = frozenset({"Deployment", "StatefulSet", "DaemonSet"})


@dc.dataclass(frozen=True, kw_only=True)
class Entry:
    """The fields that a manager set in one way.

    subresource: through which, `scale` or "". at: when it last did, RFC 3339; "" through a scale, which keeps no time.
    """

    manager: str
    at: str
    subresource: str
    fields: Fields


def entries(each: Object) -> tuple[Entry, ...]:
    """Who owns what of an object, besides its status; the oldest first, what has no time last."""
    found = (
        Entry(
            manager=entry["manager"],
            at=entry.get("time", ""),
            subresource=entry.get("subresource", ""),
            fields={element: below for element, below in entry["fieldsV1"].items() if element != "f:status"},
        )
        for entry in each["metadata"].get("managedFields") or ()
        if entry.get("subresource") != "status" and "fieldsV1" in entry
    )
    return tuple(sorted(found, key=lambda entry: (entry.at == "", entry.at)))


@dc.dataclass(frozen=True, kw_only=True)
class Controllers:
    """Names of field managers that are programs of the cluster. workloads: names that the platform gives to its own."""

    names: frozenset[str]
    workloads: frozenset[str]

    def __contains__(self, manager: str) -> bool:
        if manager.startswith("kubectl"):  # also where it wrote a status or a Lease
            return False
        return manager in self.names or any(_named_for(manager, workload) for workload in self.workloads)


def _named_for(manager: str, workload: str) -> bool:
    """PrometheusOperator for prometheus-operator; cert-manager-issuing for cert-manager; webhook for a-webhook.

    And jobset for jobset-controller.
    """
    same = _plain(manager) in {_plain(workload), _plain(workload.removesuffix("-controller"))}
    return same or manager.startswith(f"{workload}-") or workload.endswith(f"-{manager}")


def controllers(declared: Iterable[Object], everything: Iterable[Object], namespaces: Iterable[str]) -> Controllers:
    """Find the controllers by what they do.

    They are Kubernetes' own; who renews a Lease where the cluster's or the platform's programs do; who writes the
    status of what the platform declares; and who is called as one of the platform's workloads or containers is.

    declared: the platform's objects, live. everything: all objects. namespaces: the platform's, without the teams'.
    """
    leased = _LEASES | set(namespaces)
    names = {
        entry.manager
        for each in everything
        if each["kind"] == "Lease" and each["metadata"]["namespace"] in leased
        for entry in entries(each)
        if "f:renewTime" in entry.fields.get("f:spec", {})
    }
    workloads: set[str] = set()
    for each in declared:
        names |= {
            entry["manager"]
            for entry in each["metadata"].get("managedFields") or ()
            if entry.get("subresource") == "status"
        }
        if each["kind"] in _WORKLOADS:
            workloads.add(each["metadata"]["name"])
            names |= {container["name"] for container in each["spec"]["template"]["spec"]["containers"]}
    return Controllers(names=_KUBERNETES | names, workloads=frozenset(workloads))


def _plain(name: str) -> str:
    """`prometheusoperator` of both `PrometheusOperator` and `prometheus-operator`."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
