"""A pool's nodes as Cluster API (1.14) keeps them: MachineDeployments and a MachineHealthCheck. Pure.

The autoscaler's annotations: kubernetes/autoscaler, cluster-autoscaler/cloudprovider/clusterapi/README.md.
"""

from typing import Any

from components._labels import POOL
from components._sources import ClusterApi, Machines, Ref

Manifest = dict[str, Any]
GROUP = "cluster.x-k8s.io"
ACCELERATOR = "cluster-api/accelerator"
"""The label by which the autoscaler knows nodes with devices: it waits for these, and judges the node by them alone."""
_CLUSTER = f"{GROUP}/cluster-name"
_CAPACITY = "capacity.cluster-autoscaler.kubernetes.io"
_SIZE = f"{GROUP}/cluster-api-autoscaler-node-group"
_OPTIONS = f"{GROUP}/autoscaling-options"
_IDLE = "0.001"  # less than one slice of the largest node; 0 would keep idle nodes as well
_STARTED = 1800  # seconds for a machine with devices to become a node; upstream's 10 minutes end them while they start
_SICK = 600  # seconds


def manifests(machines: Machines, source: ClusterApi) -> list[Manifest]:
    """The pool's objects, all in the Cluster's namespace."""
    domains: tuple[str | None, ...] = source.failure_domains or (None,)
    sizes = zip(domains, _spread(machines.least, len(domains)), _spread(machines.most, len(domains)), strict=True)
    deployments = [_deployment(machines, source, domain, least, most) for domain, least, most in sizes]
    return [*deployments, _health_check(machines, source)]


def given_labels(machines: Machines) -> dict[str, str]:
    """The labels of the Machines that their nodes have to have, too."""
    return dict(machines.given) | ({ACCELERATOR: machines.pool} if machines.elastic else {})


def _spread(count: int, over: int) -> list[int]:
    """As even as can be; the first get one more. So no part of a smaller count is above that of a larger one."""
    return [count // over + (index < count % over) for index in range(over)]


def _deployment(machines: Machines, source: ClusterApi, domain: str | None, least: int, most: int) -> Manifest:
    """One failure domain's machines.

    The number of an elastic pool is left out: the webhook starts at the minimum, and only who writes it owns it.
    """
    name = f"{machines.pool}-{domain}" if domain else machines.pool
    selector = {_CLUSTER: source.cluster, f"{GROUP}/deployment-name": name}
    template = {
        "clusterName": source.cluster,
        "version": source.version,
        "bootstrap": {"configRef": _ref(source.bootstrap)},
        "infrastructureRef": _ref(source.infrastructure),
        "taints": [{**taint, "propagation": "Always"} for taint in machines.taints],
    }
    return _manifest(
        source,
        "MachineDeployment",
        name,
        {
            "clusterName": source.cluster,
            **({} if machines.elastic else {"replicas": most}),
            "selector": {"matchLabels": selector},
            # A machine that differs from its template by now is left until it is ended for another reason.
            "rollout": {"strategy": {"type": "OnDelete"}},
            "remediation": {"maxInFlight": 1},
            "template": {
                "metadata": {"labels": given_labels(machines) | selector},
                "spec": template | ({"failureDomain": domain} if domain else {}),
            },
        },
        _autoscaled(machines, source, least, most) if machines.elastic else {},
    )


def _autoscaled(machines: Machines, source: ClusterApi, least: int, most: int) -> dict[str, str]:
    ((devices, count),) = machines.devices.items()  # whole ones: slices of an elastic pool are refused
    return {
        f"{_SIZE}-min-size": str(least),
        f"{_SIZE}-max-size": str(most),
        f"{_OPTIONS}-scaledownunneededtime": f"{source.idle_seconds}s",
        f"{_OPTIONS}-scaledowngpuutilizationthreshold": _IDLE,
        f"{_CAPACITY}/cpu": str(machines.cpu),
        f"{_CAPACITY}/memory": f"{machines.memory_gib}Gi",
        f"{_CAPACITY}/gpu-type": devices,
        f"{_CAPACITY}/gpu-count": str(count),
        f"{_CAPACITY}/labels": ",".join(
            f"{key}={value}" for key, value in sorted({**machines.labels, **given_labels(machines)}.items())
        ),
        f"{_CAPACITY}/taints": ",".join(_taint(**taint) for taint in machines.taints),
    }


def _taint(key: str, effect: str, value: str = "") -> str:
    return f"{key}={value}:{effect}"


def _health_check(machines: Machines, source: ClusterApi) -> Manifest:
    """A machine that is not there is replaced, one after the other; several at once are for somebody to look at.

    Many nodes that are not ready at the same time are a network or a control plane that is away far more often than
    as many broken machines.
    """
    return _manifest(
        source,
        "MachineHealthCheck",
        machines.pool,
        {
            "clusterName": source.cluster,
            "selector": {"matchLabels": {_CLUSTER: source.cluster, POOL: machines.pool}},
            "checks": {
                "nodeStartupTimeoutSeconds": _STARTED,
                "unhealthyNodeConditions": [
                    {"type": "Ready", "status": status, "timeoutSeconds": _SICK} for status in ("Unknown", "False")
                ],
            },
            "remediation": {"triggerIf": {"unhealthyLessThanOrEqualTo": max(1, machines.most // 10)}},
        },
    )


def _manifest(
    source: ClusterApi, kind: str, name: str, spec: dict[str, Any], annotations: dict[str, str] | None = None
) -> Manifest:
    metadata = {
        "name": name,
        "namespace": source.namespace,
        "labels": {_CLUSTER: source.cluster},
        **({"annotations": annotations} if annotations else {}),
    }
    return {"apiVersion": f"{GROUP}/v1beta2", "kind": kind, "metadata": metadata, "spec": spec}


def _ref(ref: Ref) -> dict[str, str]:
    return {"apiGroup": ref.group, "kind": ref.kind, "name": ref.name}
