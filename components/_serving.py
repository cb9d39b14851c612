"""Serving as data: what is served, and what KServe, the models' chart and the gateway's routes are told of it."""

import dataclasses as dc
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components import _gateway
from components._gateway import Gateway
from components._kubeflow import STORE_SECRET
from components._labels import POOL
from components._models import CANARY, CANARY_CONTROLLER, CANARY_PORT, RUNTIMES, Canary, Model, check
from components._object_store import CLIENT_IMAGE, Store
from components._pools import GpuPool, Share, node_taints, shares
from components._quantities import millicores
from components.scripts.canary import LEAST, WHOLE
from components.tenancy import Team

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
