"""Serving: KServe in Standard mode, a gateway where one is asked for, and the teams' models with their request logs.

Every pod of a model is in its team's queue, with a priority above training's: what serves is counted in what the team
was promised, and a new replica ends a training step rather than wait (docs/adr/0011-serving.md).
"""

import dataclasses as dc
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components import _gateway
from components._charts import UpstreamChart, controller
from components._crds import definitions
from components._gateway import Gateway
from components._kubeflow import STORE_SECRET
from components._labels import POOL, TEAM, labels
from components._models import (
    CANARY,
    CANARY_CONTROLLER,
    CANARY_PORT,
    RUNTIMES,
    Canary,
    Model,
    Objective,
    Replicas,
    check,
)
from components._object_store import CLIENT_IMAGE, Store
from components._pools import GpuPool, Share, node_taints, shares
from components._quantities import millicores
from components.foundation import Foundation
from components.metadata_store import MetadataStore
from components.scripts.canary import LEAST, WHOLE
from components.tenancy import Team, Tenancy

__all__ = ["CANARY", "Canary", "Gateway", "Model", "Objective", "Replicas", "ServingStack", "ServingStackArgs"]

NAMESPACE = "kserve"
MODEL = "kiban.dev/model"
MODEL_VERSION = "kiban.dev/model-version"
CANARY_HEADER = "x-canary-version"
"""Of answers that a canary gave."""
REQUEST_LOG_PORT = 8080
_IMAGES = (
    "docker.io/kserve/kserve-controller:v0.20.0",
    "docker.io/kserve/agent:v0.20.0",
    "docker.io/kserve/storage-initializer:v0.20.0",
    "quay.io/brancz/kube-rbac-proxy:v0.18.0",
)
_SCRIPTS = Path(__file__).with_name("scripts")


@dc.dataclass(frozen=True, kw_only=True)
class ServingStackArgs:
    """What is served, and how it is reached.

    models: each of a team that there is. gateway: None: models are reached from within the cluster only.
    teams, pools: the environment's. queue: the LocalQueue in every team's namespace; None for a cluster without Kueue.
    priority: the PriorityClass of models' pods. prometheus: its address, by which canaries are judged.
    """

    models: tuple[Model, ...] = ()
    gateway: Gateway | None = None
    teams: tuple[Team, ...] = ()
    pools: tuple[GpuPool, ...] = ()
    queue: str | None = None
    priority: str = "kiban-serving"
    prometheus: str | None = None

    def check(self, store: Store) -> None:
        """Raise ValueError for a model that the environment has no team, bucket, pool, devices or gateway for."""
        check(
            self.models,
            teams=self.teams,
            pools=self.pools,
            buckets=store.buckets,
            gateway=self.gateway is not None,
            prometheus=self.prometheus is not None,
        )

    def standing_in(self) -> "ServingStackArgs":
        """The same for a throwaway cluster: its object store has no models, and nothing there gives addresses."""
        gateway = self.gateway and dc.replace(self.gateway, service="ClusterIP", issuer=None)
        return dc.replace(self, models=(), gateway=gateway)

    @property
    def images(self) -> tuple[str, ...]:
        """The images that the objects name."""
        return (
            *_IMAGES,
            *((_gateway.CONTROLLER_IMAGE, _gateway.ENVOY_IMAGE) if self.gateway else ()),
            *((CLIENT_IMAGE,) if self.models else ()),
            *dict.fromkeys(RUNTIMES[model.runtime].image for model in self.models),
        )


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


def kserve_values(store: Store) -> dict[str, Any]:
    """Values of chart kserve-resources (0.20): no Knative, no ingress of KServe's own, images by their full names.

    Models are read with the key pair in the team's Secret of the object store, under the names that it has there.
    """
    scheme, _, address = store.endpoint.partition("://")
    resources = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "2", "memory": "512Mi"}}
    return {
        "kserve": {
            "agent": {"image": "docker.io/kserve/agent"},
            "router": {"image": "docker.io/kserve/router"},
            "security": {"autoMountServiceAccountToken": False},
            "storage": {
                "image": "docker.io/kserve/storage-initializer",
                "enableModelcar": False,  # an image as a model needs a shared process namespace
                "s3": {
                    "accessKeyIdName": "accesskey",
                    "secretAccessKeyName": "secretkey",
                    "endpoint": address,
                    "useHttps": "0" if scheme == "http" else "1",
                    "region": store.region,
                },
            },
            "controller": {
                "deploymentMode": "Standard",
                "image": "docker.io/kserve/kserve-controller",
                "imagePullPolicy": "IfNotPresent",
                "resources": resources,
                "rbacProxy": {"resources": resources},
                "gateway": {"disableIstioVirtualHost": True, "disableIngressCreation": True},
            },
        }
    }


def runtime_values() -> dict[str, Any]:
    """Values of chart kserve-runtime-configs (0.20): those of RUNTIMES, the others off."""
    others = (
        "tensorflow",
        "pmmlserver",
        "predictiveserver",
        "paddleserver",
        "autogluonserver",
        "torchserve",
        "vllmserver",
    )
    own = {}
    for runtime in RUNTIMES.values():
        image, _, tag = runtime.image.rpartition(":")
        own[runtime.value] = {"disabled": False, "image": image, "tag": tag}
    return {"kserve": {"servingruntime": {"enabled": True, **{each: {"disabled": True} for each in others}, **own}}}


def models_values(args: ServingStackArgs, store: Store, *, tags: Mapping[str, str], highest: str) -> dict[str, Any]:
    """Values of charts/models: the teams that have models, and theirs. highest: the platform's own PriorityClass."""
    offered = shares(args.pools)
    served = [team for team in args.teams if any(one.team == team.name for one in args.models)]
    return {
        "labels": dict(tags),
        "queue": args.queue or "",
        "priorityClassName": args.priority,
        "storeSecret": STORE_SECRET,
        "gatewayNamespace": _gateway.NAMESPACE if args.gateway else "",
        "agent": {"image": CLIENT_IMAGE, **_script("agent.py")},
        "requestLog": {
            "image": CLIENT_IMAGE,
            **_script("request_log.py"),
            "endpoint": store.endpoint,
            "region": store.region,
            "port": REQUEST_LOG_PORT,
        },
        "canaryController": {
            "name": CANARY_CONTROLLER,
            "image": CLIENT_IMAGE,
            "script": (_SCRIPTS / "canary.py").read_text(),
            "canaries": canaries(args.models, args.teams),
            "prometheus": args.prometheus or "",
            "port": CANARY_PORT,
            "priorityClassName": highest,
        },
        "teams": [
            {
                "name": team.name,
                "namespace": team.namespace,
                "bucket": store.buckets[team.name],
                "services": [each for one in args.models if one.team == team.name for each in services(one, offered)],
                "canaries": [one.name for one in args.models if one.team == team.name and one.canary],
            }
            for team in served
        ],
    }


def _script(name: str) -> dict[str, str]:
    script = (_SCRIPTS / name).read_text()
    return {"script": script, "digest": hashlib.sha256(script.encode()).hexdigest()[:10]}


def canaries(models: Sequence[Model], teams: Sequence[Team]) -> list[dict[str, Any]]:
    """What components/scripts/canary.py is told of each canary."""
    namespaces = {team.name: team.namespace for team in teams}
    return [
        {
            "team": model.team,
            "namespace": namespaces[model.team],
            "name": model.name,
            "version": model.canary.version,
            "steps": list(model.canary.steps),
            "step_seconds": model.canary.step_minutes * 60,
            "fewest_requests": model.canary.fewest_requests,
            "availability": model.objective.availability,
            "latency_ms": model.objective.latency_ms,
        }
        for model in models
        if model.canary
    ]


def services(model: Model, offered: Mapping[str, Share]) -> list[dict[str, Any]]:
    """A model's InferenceServices, as the chart's values have them: its own, and its canary's."""
    limit = millicores(max(2000, 2 * model.millicores))
    devices: dict[str, Any] = {}
    if model.pool is not None:
        share = offered[model.pool]
        devices = {
            "devices": {share.resource: str(model.gpus)},
            "nodeSelector": {POOL: share.pool.name},
            "tolerations": [
                {key: value for key, value in {"operator": "Equal", **dc.asdict(taint)}.items() if value}
                for taint in node_taints(share.pool)
            ],
            **({"topology": True} if share.pool.topology else {}),
        }
    common = {
        "model": model.name,
        "runtime": model.runtime,
        "format": model.format,
        "cpu": millicores(model.millicores),
        "cpuLimit": limit,
        "memory": model.memory,
        "replicas": dc.asdict(model.replicas),
        "named": RUNTIMES[model.runtime].named,
        **devices,
    }
    versions: list[tuple[str, Model | Canary]] = [(model.name, model)]
    if model.canary is not None:
        versions.append((f"{model.name}{CANARY}", model.canary))
    return [
        {**common, "name": name, "version": one.version, "uri": one.uri.rstrip("/"), "digest": one.digest}
        for name, one in versions
    ]


def route(model: Model, gateway: Gateway) -> dict[str, Any]:
    """Spec of the HTTPRoute that leads to a model, and to its canary once the canary controller says so.

    There are always two backends with a filter, each a cluster of its own to Envoy: both are the model if there is no
    canary. So one that comes or goes changes where a cluster leads and not which clusters there are, for which some
    requests would be answered 500 (components/scripts/canary.py, LEAST). A canary's answers say so; no other ones do.
    """
    own: tuple[str, dict[str, Any]] = (f"{model.name}-predictor", {"remove": [CANARY_HEADER]})
    second = own
    if model.canary is not None:
        said = {"set": [{"name": CANARY_HEADER, "value": model.canary.version}]}
        second = f"{model.name}{CANARY}-predictor", said
    parent = {"name": _gateway.GATEWAY, "namespace": _gateway.NAMESPACE, "sectionName": "https"}
    return {
        "parentRefs": [parent],
        "hostnames": [gateway.host(model.name, model.team)],
        "rules": [
            {"backendRefs": [_backend(*own, WHOLE - LEAST), _backend(*second, LEAST)], "timeouts": {"request": "60s"}}
        ],
    }


def _backend(service: str, header: Mapping[str, Any], weight: int) -> dict[str, Any]:
    filters = [{"type": "ResponseHeaderModifier", "responseHeaderModifier": header}]
    return {"name": service, "port": 80, "weight": weight, "filters": filters}
