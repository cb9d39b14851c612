"""The only place where components are created and wired to each other, and where the stack's outputs are named."""

import dataclasses as dc
from collections.abc import Mapping
from typing import Any

import pulumi

from components._charts import UpstreamChart
from components._devices import DeviceSoftwareArgs
from components._labels import ENVIRONMENT
from components.device_software import DeviceSoftware
from components.foundation import Foundation
from components.gpu_node_pools import GpuNodePools, GpuNodePoolsArgs
from components.metadata_store import MetadataStore
from components.monitoring import Monitoring
from components.monitoring_rules import dashboards, rules
from components.pipeline_engine import PipelineEngine
from components.retraining_loop import RetrainingLoop, RetrainingLoopArgs
from components.serving_stack import ServingStack
from components.tenancy import LOCAL_QUEUE, Tenancy
from infra import charts, credentials, watching
from infra.errors import KibanError
from stacks._schema import Environment

# Their objects are declared by the provider, out of this program's sight.
_CHARTS = ("kubernetes:helm.sh/v4:Chart", "kubernetes:yaml/v2:ConfigFile", "kubernetes:yaml/v2:ConfigGroup")
FIELD_MANAGER = "pulumi.com/patchFieldManager"
WAIT_FOR = "pulumi.com/waitFor"
_LATE, _SOON = 10, {"initialDelaySeconds": 1, "periodSeconds": 1}
_INJECTED = "cert-manager.io/inject-ca-from"
_TRUSTED = "jsonpath={.webhooks[*].clientConfig.caBundle}"


def wire(env: Environment, opts: pulumi.ResourceOptions) -> None:
    """Declare the platform; `opts` carries the provider."""
    chart = {name: _upstream(name) for name in charts.used_by(env)}
    queue = LOCAL_QUEUE if env.queueing else None
    foundation = Foundation("foundation", env.foundation, cert_manager=chart.get("cert-manager"), opts=opts)
    pools = GpuNodePools(
        "pools",
        GpuNodePoolsArgs(pools=env.gpu_pools, requeue_minutes=env.queueing.requeue_minutes if env.queueing else None),
        foundation=foundation,
        kueue=chart.get("kueue"),
        jobset=chart.get("jobset"),
        jobset_crds=charts.crds("jobset") if "jobset" in chart else None,
        opts=opts,
    )
    devices = None
    if env.devices:
        devices = DeviceSoftware(
            "devices",
            DeviceSoftwareArgs(software=env.devices, pools=env.gpu_pools),
            foundation=foundation,
            charts=chart,
            chart=str(charts.own("devices")),
            opts=opts,
        )
    tenancy = Tenancy("tenancy", env.tenancy, foundation=foundation, pools=pools, opts=opts)
    given = credentials.read(env)
    metadata = pipelines = serving = None
    if env.metadata:
        metadata = MetadataStore(
            "metadata",
            dc.replace(env.metadata, teams=env.teams),
            foundation=foundation,
            tenancy=tenancy,
            credentials=given,
            slots=credentials.slots(env),
            opts=opts,
        )
        pulumi.export("mlflow", metadata.mlflow_uri)
    if env.pipelines and metadata:
        pipelines = PipelineEngine(
            "pipelines",
            dc.replace(env.pipelines, teams=env.teams, queue=queue, certificates=env.certificates),
            foundation=foundation,
            tenancy=tenancy,
            metadata=metadata,
            chart=str(charts.own("pipelines")),
            crds=_kinds(env),
            templates=charts.templates(*charts.PIPELINES),
            opts=opts,
        )
        pulumi.export("argo_server", pipelines.server)
    if env.serving and metadata:
        serving = ServingStack(
            "serving",
            dc.replace(
                env.serving,
                teams=env.teams,
                pools=env.gpu_pools,
                queue=queue,
                prometheus=env.monitoring.prometheus if env.monitoring else None,
            ),
            foundation=foundation,
            tenancy=tenancy,
            metadata=metadata,
            charts=chart,
            chart=str(charts.own("models")),
            crds=charts.crds("kserve") | charts.crds("kserve-storage"),
            gateway_crds=charts.crds("gateway-api") | charts.crds("envoy-gateway") if env.serving.gateway else None,
            opts=opts,
        )
        pulumi.export("model_hosts", serving.hosts)
    if env.monitoring:
        monitoring = Monitoring(
            "monitoring",
            watching.monitoring(env.monitoring, env),
            foundation=foundation,
            tenancy=tenancy,
            pools=pools,
            metadata=metadata,
            pipelines=pipelines,
            serving=serving,
            devices=devices,
            groups=rules(watched := watching.rules(env)),
            dashboards=dashboards(gateway=watched.gateway, gpus=watched.gpus),
            credentials=given,
            chart=str(charts.own("monitoring")),
            crds=charts.crds("prometheus-operator"),
            opts=opts,
        )
        pulumi.export("prometheus", monitoring.prometheus)
        if env.retraining and env.serving and metadata and pipelines and serving:
            RetrainingLoop(
                "retraining",
                RetrainingLoopArgs(
                    environment=env.name, target=env.retraining, teams=env.teams, models=env.serving.models
                ),
                tenancy=tenancy,
                metadata=metadata,
                pipelines=pipelines,
                after=[monitoring, serving],
                chart=str(charts.own("retraining")),
                templates=charts.templates(*charts.RETRAINING),
                opts=opts,
            )
    pulumi.export("environment", env.name)
    pulumi.export("system_namespace", foundation.system_namespace)
    pulumi.export("namespaces", tenancy.namespaces)
    pulumi.export("pools", pools.pools)


def _upstream(name: str) -> UpstreamChart:
    try:
        return charts.upstream(name)
    except KibanError as error:
        raise pulumi.RunError(str(error)) from None


def _kinds(env: Environment) -> dict[str, dict[str, Any]]:
    kubeflow = charts.own_crds("pipelines", "crds-kfp") if env.pipelines and env.pipelines.kubeflow else {}
    return charts.crds("argo") | kubeflow


def mark(env: Environment, patience: str | None = None) -> None:
    """Mark every Kubernetes object declared from here on, those of charts too, as the environment's.

    patience: how many seconds each is given to become what is waited for, where that is not Pulumi's ten minutes. To be
    deleted takes longer: a namespace waits until the cluster's few workers come to it.

    The label is how infra/sweep.py finds what the state does not know. An annotation fixes the name of the field
    manager, which is random otherwise, so that an object is adopted instead of fought over. Another lets who depends on
    a webhook wait until the API server trusts it: its pod is ready before cert-manager has filled in the authority.
    """
    limits = pulumi.CustomTimeouts(create=f"{patience}s", update=f"{patience}s", delete="5m") if patience else None

    def limited(given: pulumi.ResourceOptions) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions.merge(given, pulumi.ResourceOptions(custom_timeouts=limits)) if limits else given

    def within_chart(args: pulumi.ResourceTransformArgs) -> pulumi.ResourceTransformResult | None:
        props = asked_soon(args.type_, marked(args.type_, args.props, env.name))
        return None if props is args.props else pulumi.ResourceTransformResult(props=props, opts=limited(args.opts))

    def declared(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        if args.type_ in _CHARTS:
            transforms = [*(args.opts.transforms or ()), within_chart]
            opts = pulumi.ResourceOptions.merge(args.opts, pulumi.ResourceOptions(transforms=transforms))
            return pulumi.ResourceTransformationResult(props=args.props, opts=opts)
        props = marked(args.type_, args.props, env.name)
        if props is args.props:
            return None
        return pulumi.ResourceTransformationResult(props=props, opts=limited(args.opts))

    # One that the engine calls back, as a chart's objects need, costs 5 ms a resource: these are called in place.
    pulumi.runtime.register_stack_transformation(declared)


def marked(type_: str, props: Mapping[str, Any], environment: str) -> Mapping[str, Any]:
    """A resource's properties with the environment's label and Kiban's field manager, if it is a Kubernetes object."""
    if not type_.startswith("kubernetes:") or type_.endswith("Patch") or "metadata" not in props:
        return props
    metadata = props["metadata"]
    if isinstance(metadata, pulumi.Output):
        return {**props, "metadata": metadata.apply(lambda given: _marked(type_, given, environment))}
    return {**props, "metadata": _marked(type_, metadata, environment)}


def asked_soon(type_: str, props: Mapping[str, Any]) -> Mapping[str, Any]:
    """A Deployment of a chart whose containers are asked within ten seconds whether they are ready.

    KServe's chart (0.20) asks its controller after half a minute, for which every `up` of a new cluster would wait; the
    controller's own answer says whether its webhooks serve.
    """
    if type_ != "kubernetes:apps/v1:Deployment":
        return props
    template = props["spec"]["template"]
    containers = [
        each | {"readinessProbe": each["readinessProbe"] | _SOON}
        if each.get("readinessProbe", {}).get("initialDelaySeconds", 0) > _LATE
        else each
        for each in template["spec"]["containers"]
    ]
    changed = template | {"spec": template["spec"] | {"containers": containers}}
    return {**props, "spec": props["spec"] | {"template": changed}}


def _marked(type_: str, metadata: Mapping[str, Any] | None, environment: str) -> dict[str, Any]:
    given = dict(metadata or {})
    annotations = {**(given.get("annotations") or {}), FIELD_MANAGER: "kiban"}
    # a definition's authority is not waited for: what issues it is declared after the definition
    if type_.endswith("WebhookConfiguration") and any(key.startswith(_INJECTED) for key in annotations):
        annotations[WAIT_FOR] = _TRUSTED
    return {**given, "labels": {**(given.get("labels") or {}), ENVIRONMENT: environment}, "annotations": annotations}
