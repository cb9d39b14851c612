"""Serving: KServe in Standard mode, a gateway where one is asked for, and the teams' models with their request logs.

Every pod of a model is in its team's queue, with a priority above training's: what serves is counted in what the team
was promised, and a new replica ends a training step rather than wait (docs/adr/0011-serving.md).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components import _gateway
from components._charts import UpstreamChart, controller
from components._crds import definitions
from components._gateway import Gateway
from components._labels import TEAM, labels
from components._models import CANARY, Canary, Model, Objective, Replicas
from components._object_store import Store
from components._serving import ServingStackArgs, kserve_values, models_values, route, runtime_values
from components.foundation import Foundation
from components.metadata_store import MetadataStore
from components.tenancy import Tenancy

__all__ = ["CANARY", "Canary", "Gateway", "Model", "Objective", "Replicas", "ServingStack", "ServingStackArgs"]

NAMESPACE = "kserve"
MODEL = "kiban.dev/model"


class ServingStack(pulumi.ComponentResource):
    """KServe's kinds, controller and runtimes; the gateway; and charts/models for the models.

    charts: upstream's by name: kserve-resources, kserve-runtime-configs, and gateway-helm where there is a gateway.
    crds, gateway_crds: a definition's name to its manifest. chart: the folder of charts/models.
    `hosts` maps TEAM/MODEL to the name by which it is reached from outside, where there is a gateway.
    """

    hosts: dict[str, str]

    def __init__(
        self,
        name: str,
        args: ServingStackArgs,
        *,
        foundation: Foundation,
        tenancy: Tenancy,
        metadata: MetadataStore,
        charts: Mapping[str, UpstreamChart],
        chart: str,
        crds: Mapping[str, Mapping[str, Any]],
        gateway_crds: Mapping[str, Mapping[str, Any]] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("kiban:components:ServingStack", name, None, opts)
        args.check(metadata.object_store)
        self._name, self._tags = name, labels("serving-stack", name)
        kinds = definitions(f"{name}-crd", crds, self._tags, parent=self)
        runtimes = self._kserve(charts, metadata.object_store, foundation, kinds)
        door: list[pulumi.Resource] = []
        if args.gateway is not None:
            door = _gateway.declare(
                f"{name}-gateway",
                args.gateway,
                chart=charts["gateway-helm"],
                crds=gateway_crds or {},
                teams=[team.name for team in args.teams],
                priority=foundation.highest,
                tags=self._tags,
                parent=self,
                after=[foundation],
            )
        if args.models:
            self._models(args, chart, metadata, foundation, [runtimes, tenancy, *metadata.ready])
        self.hosts = {}
        for model in args.models if args.gateway else ():
            self._route(model, args, tenancy.namespaces[model.team], door)
        self.register_outputs({"hosts": self.hosts})

    def _kserve(
        self,
        charts: Mapping[str, UpstreamChart],
        store: Store,
        foundation: Foundation,
        kinds: Sequence[pulumi.Resource],
    ) -> pulumi.Resource:
        """Declare the controller, and the runtimes, which its webhook admits."""
        resources = controller(
            f"{self._name}-kserve",
            charts["kserve-resources"],
            namespace=NAMESPACE,
            called_on=[9443],
            values=kserve_values(store),
            tags=self._tags,
            parent=self,
            after=[foundation, *kinds],
        )
        runtimes = charts["kserve-runtime-configs"]
        return k8s.helm.v4.Chart(
            f"{self._name}-runtimes",
            name=runtimes.name,
            chart=runtimes.location,
            version=runtimes.version,
            namespace=NAMESPACE,
            values=runtime_values(),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[resources]),
        )

    def _models(
        self,
        args: ServingStackArgs,
        chart: str,
        metadata: MetadataStore,
        foundation: Foundation,
        after: Sequence[pulumi.Resource],
    ) -> None:
        k8s.helm.v4.Chart(
            f"{self._name}-models",
            name="models",
            chart=chart,
            namespace=NAMESPACE,
            values=models_values(args, metadata.object_store, tags=self._tags, highest=foundation.highest),
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=[*after, *([one] if (one := foundation.priorities.get(args.priority)) else [])]
            ),
        )

    def _route(
        self, model: Model, args: ServingStackArgs, namespace: pulumi.Input[str], after: Sequence[pulumi.Resource]
    ) -> None:
        """Declare the model's HTTPRoute. Its weights are the canary controller's once it is there."""
        gateway = args.gateway
        if gateway is None:
            return
        self.hosts[f"{model.team}/{model.name}"] = gateway.host(model.name, model.team)
        k8s.apiextensions.CustomResource(
            f"{self._name}-route-{model.team}-{model.name}",
            api_version=_gateway.API,
            kind="HTTPRoute",
            metadata={
                "name": model.name,
                "namespace": namespace,
                "labels": self._tags | {TEAM: model.team, MODEL: model.name},
                # else another change of the route would be refused once the controller has moved a weight
                "annotations": {"pulumi.com/patchForce": "true"},
            },
            spec=route(model, gateway),
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=list(after),
                ignore_changes=[f"spec.rules[0].backendRefs[{index}].weight" for index in range(2)]
                if model.canary
                else None,
            ),
        )
