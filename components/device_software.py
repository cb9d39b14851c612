"""What makes devices of real nodes into resources: drivers, device plugin, MIG manager, discovery, DCGM exporter.

What is installed is in components/_devices.py, as data. Managed clusters often have it; simulated nodes need none.
"""

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components._charts import UpstreamChart
from components._devices import (
    DISCOVERY,
    OPERATOR,
    DevicePlugin,
    DeviceSoftwareArgs,
    GpuOperator,
    discovery_values,
    operator_values,
    plugin_values,
)
from components._labels import labels, privileged
from components._network import api_server, closed_namespace, tcp
from components.foundation import Foundation
from components.gpu_node_pools import device_configuration


class DeviceSoftware(pulumi.ComponentResource):
    """A namespace with the configuration of the pools' devices, and the software that reads it there.

    Its pods open the node's devices and sockets, so the namespace is privileged; it is theirs alone, and closed.
    charts: upstream's by name. chart: the folder of charts/devices.
    """

    def __init__(
        self,
        name: str,
        args: DeviceSoftwareArgs,
        *,
        foundation: Foundation,
        charts: Mapping[str, UpstreamChart],
        chart: str,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("kiban:components:DeviceSoftware", name, None, opts)
        tags = labels("device-software", name)
        software, priority = args.software, foundation.highest
        space = k8s.core.v1.Namespace(
            f"{name}-system",
            metadata={"name": software.namespace, "labels": tags | privileged()},
            opts=pulumi.ResourceOptions(parent=self),
        )
        namespace = space.metadata["name"]
        closed = closed_namespace(f"{name}-system", space, tags, self, opened(software))
        configuration = [
            k8s.core.v1.ConfigMap(
                f"{name}-{config}",
                metadata={"name": config, "namespace": namespace, "labels": tags},
                data=data,
                opts=pulumi.ResourceOptions(parent=self),
            )
            for config, data in device_configuration(args.pools).items()
        ]
        before = [*closed, *configuration, foundation.priorities[priority]]
        if isinstance(software, GpuOperator):
            parts = [(charts[OPERATOR], operator_values(software, args.pools, priority=priority))]
        else:
            own = UpstreamChart(name="devices", version="", location=chart)
            parts = [
                (charts[DISCOVERY], discovery_values(priority=priority)),
                (own, plugin_values(software, args.pools)),
            ]
        for part, values in parts:
            made = k8s.helm.v4.Chart(
                f"{name}-{part.name}",
                name=part.name,
                chart=part.location,
                version=part.version or None,
                namespace=namespace,
                values=values,
                opts=pulumi.ResourceOptions(parent=self, depends_on=before),
            )
            before = [*before, made]
        self.register_outputs({"namespace": namespace})


def opened(software: GpuOperator | DevicePlugin) -> dict[str, dict[str, Any]]:
    """NetworkPolicies by name, besides those that close the namespace.

    A driver that is built on the node fetches its kernel's headers from where its system's packages are.
    """
    policies = api_server()
    if isinstance(software, GpuOperator) and software.driver is not None:
        policies["allow-packages"] = {
            "podSelector": {"matchLabels": {"app": "nvidia-driver-daemonset"}},
            "policyTypes": ["Egress"],
            "egress": [{"ports": tcp(80, 443)}],
        }
    return policies
