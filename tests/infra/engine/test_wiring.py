"""What the wiring registers, under Pulumi's mocks: types, names, marks, order; no engine, no cluster, no charts."""

import collections
import dataclasses as dc
from collections.abc import Callable
from typing import Any

import pulumi
import pulumi_kubernetes as k8s
import pytest
from pulumi.runtime import settings
from pulumi.runtime.mocks import MockCallArgs, MockMonitor, MockResourceArgs, Mocks, set_mocks
from pulumi.runtime.proto.callback_pb2 import Callback

import stacks
from components._charts import UpstreamChart
from components._devices import DevicePlugin, Driver, GpuOperator
from components._labels import ENVIRONMENT
from components.gpu_node_pools import ClusterApi, Existing, Karpenter, Source
from components.monitoring import KINDS, MonitoringArgs
from components.pipeline_engine import KubeflowPipelines, PipelineEngineArgs
from components.tenancy import Team
from infra import wiring
from infra.errors import CouldNotRun
from infra.wiring import FIELD_MANAGER, WAIT_FOR, marked
from stacks._schema import Environment, KubeconfigCluster
from tests.components import any_pools

CHART = "kubernetes:helm.sh/v4:Chart"


class Recorder(Mocks):
    """Remembers every resource that is registered."""

    def __init__(self) -> None:
        self.resources: list[MockResourceArgs] = []

    def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        """Take a resource as it is."""
        self.resources.append(args)
        return f"{args.name}-id", dict(args.inputs)

    def call(self, args: MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        """Answer no function."""
        raise NotImplementedError(args.token)


class Monitor(MockMonitor):
    """Pulumi's mock of the engine, which also notes after which others a resource is made, by their names."""

    def __init__(self, mocks: Mocks, after: dict[str, set[str]]) -> None:
        super().__init__(mocks)
        self.after = after

    def RegisterResource(self, request: Any) -> Any:  # noqa: ANN401, N802  as the base class has it
        """Take a resource."""
        self.after[request.name] = {urn.rsplit("::", 1)[-1] for urn in request.dependencies}
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]


class Callbacks:
    """In place of the server through which the engine calls a program back: keeps what it would call."""

    def __init__(self) -> None:
        self.transforms: list[pulumi.ResourceTransform] = []

    def register_transform(self, transform: pulumi.ResourceTransform) -> Callback:
        """Take a transform."""
        self.transforms.append(transform)
        return Callback()


Registered = list[MockResourceArgs]


@pytest.fixture
def callbacks(monkeypatch: pytest.MonkeyPatch) -> Callbacks:
    """Return what the engine would call back. Pulumi's mocks have no such server."""
    made = Callbacks()

    async def get() -> Callbacks:
        return made

    monkeypatch.setattr("pulumi.runtime.resource._get_callbacks", get)
    return made


@pytest.fixture
def after() -> dict[str, set[str]]:
    """Return what each resource waits for, by name, once they are registered."""
    return {}


@pytest.fixture
def declared(
    callbacks: Callbacks, after: dict[str, set[str]], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Environment], Registered]:
    """Return what tells what the wiring of an environment registers. A chart is registered, but not rendered."""
    assert not callbacks.transforms

    def upstream(name: str) -> UpstreamChart:
        return UpstreamChart(name=name, version="1.2.3", location=f"/charts/{name}")

    monkeypatch.setattr("infra.charts.upstream", upstream)

    def declare(environment: Environment) -> Registered:
        recorder = Recorder()
        settings.ROOT.set(None)  # else what the last program asked to be done to every resource is done once more
        set_mocks(recorder, project="kiban", stack=environment.name, preview=False, monitor=Monitor(recorder, after))

        @pulumi.runtime.test  # type: ignore[untyped-decorator]
        def program() -> None:
            wiring.mark(environment)
            kube = k8s.Provider("kube", context="x")
            wiring.wire(environment, pulumi.ResourceOptions(providers=[kube]))

        program()
        return recorder.resources

    return declare


@pytest.fixture
def registered(environment: Environment, declared: Callable[[Environment], Registered]) -> Registered:
    """Return what the wiring of the environment registers."""
    return declared(environment)


def objects(registered: Registered) -> Registered:
    """Return the Kubernetes objects that the program itself declares."""
    return [made for made in registered if made.typ.startswith("kubernetes:") and made.typ != CHART]


def test_every_component_is_there_under_its_pinned_name(registered: Registered) -> None:
    """Type tokens and names are contracts: another one would replace all that is below."""
    components = {(made.typ, made.name) for made in registered if made.typ.startswith("kiban:")}
    assert components == {
        ("kiban:components:Foundation", "foundation"),
        ("kiban:components:Tenancy", "tenancy"),
        ("kiban:components:GpuNodePools", "pools"),
    }


def test_every_object_is_marked(registered: Registered) -> None:
    """Each object carries the environment's label and Kiban's field manager beside its own labels."""
    assert len(objects(registered)) > 15
    for made in objects(registered):
        metadata = made.inputs["metadata"]
        assert metadata["labels"][ENVIRONMENT] == "small"
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "kiban"
        assert metadata["annotations"][FIELD_MANAGER] == "kiban"


def test_what_a_chart_declares_is_marked_too(registered: Registered, callbacks: Callbacks) -> None:
    """The provider declares it out of the program's sight, so the engine calls back with each object."""
    assert len(callbacks.transforms) >= len([made for made in registered if made.typ == CHART]) == 2
    for transform in callbacks.transforms:
        args = pulumi.ResourceTransformArgs(
            custom=True,
            type_="kubernetes:core/v1:ConfigMap",
            name="x",
            props={"metadata": {"name": "x"}},
            opts=pulumi.ResourceOptions(),
        )
        result = transform(args)
        assert isinstance(result, pulumi.ResourceTransformResult)
        metadata: Any = result.props["metadata"]
        assert metadata["labels"] == {ENVIRONMENT: "small"}


def test_every_object_has_a_name_that_is_given(registered: Registered) -> None:
    """A generated name could not be found again after a killed run."""
    assert all(made.inputs["metadata"]["name"] for made in objects(registered))


def test_every_object_goes_through_the_one_provider(registered: Registered) -> None:
    """No object falls to a default provider."""
    providers = {made.provider for made in registered if made.typ.startswith("kubernetes:")}
    assert len(providers) == 1
    assert "::kube::" in str(providers.pop())


@pytest.mark.parametrize(
    "type_", ["kiban:components:Foundation", "kubernetes:core/v1:NamespacePatch", "pulumi:providers:kubernetes"]
)
def test_what_is_no_object_of_ours_is_left_alone(type_: str) -> None:
    """A patch of somebody else's object must not make it look like ours."""
    props = {"metadata": {"name": "x"}}
    assert marked(type_, props, "small") is props


def test_metadata_without_labels_gets_them() -> None:
    """Absent and null labels are as good as none."""
    for metadata in (None, {}, {"labels": None}):
        made = marked("kubernetes:core/v1:ConfigMap", {"metadata": metadata}, "small")
        assert made["metadata"]["labels"] == {ENVIRONMENT: "small"}


@pytest.mark.parametrize("injected", ["inject-ca-from", "inject-ca-from-secret"])
@pytest.mark.parametrize("which", ["Mutating", "Validating"])
def test_a_webhook_is_waited_for_until_it_is_trusted(which: str, injected: str) -> None:
    """What cert-manager fills in comes after the webhook's pod is ready."""
    metadata = {"annotations": {f"cert-manager.io/{injected}": "kserve/serving-cert"}}
    made = marked(
        f"kubernetes:admissionregistration.k8s.io/v1:{which}WebhookConfiguration", {"metadata": metadata}, "x"
    )
    assert made["metadata"]["annotations"][WAIT_FOR] == "jsonpath={.webhooks[*].clientConfig.caBundle}"


@pytest.mark.parametrize(
    ("type_", "annotations"),
    [
        ("kubernetes:admissionregistration.k8s.io/v1:ValidatingWebhookConfiguration", {}),
        ("kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition", {"cert-manager.io/inject-ca-from": "a/b"}),
    ],
)
def test_what_nobody_fills_in_is_not_waited_for(type_: str, annotations: dict[str, str]) -> None:
    """Kueue fills in its own; a definition comes before what issues its authority."""
    assert WAIT_FOR not in marked(type_, {"metadata": {"annotations": annotations}}, "x")["metadata"]["annotations"]


def test_charts_are_released_under_their_pinned_names(registered: Registered) -> None:
    """The release's name and namespace are in the names and selectors of all that a chart has."""
    charts = {made.name: (made.inputs["name"], made.inputs["namespace"]) for made in registered if made.typ == CHART}
    assert charts == {
        "foundation-cert-manager": ("cert-manager", "cert-manager"),
        "pools-kueue": ("kueue", "kueue-system"),
    }


def test_kueues_objects_are_there_under_their_pinned_names(registered: Registered) -> None:
    """Users and other components name queues and flavors, so a name is a contract."""
    made = {
        (each.inputs["kind"], each.name, each.inputs["metadata"]["name"], each.inputs["metadata"].get("namespace"))
        for each in registered
        if each.inputs.get("apiVersion") == "kueue.x-k8s.io/v1beta2"
    }
    assert made == {
        ("ResourceFlavor", "pools-flavor-system", "system", None),
        ("ResourceFlavor", "pools-flavor-l4", "l4", None),
        ("Cohort", "tenancy-cohort", "kiban", None),
        ("ClusterQueue", "tenancy-cluster-queue-vision", "vision", None),
        ("LocalQueue", "tenancy-local-queue-vision", "default", "team-vision"),
    }


KARPENTER = Karpenter(**any_pools.KARPENTER)
CLUSTER_API = ClusterApi(**any_pools.CLUSTER_API, failure_domains=("b", "a"))


@pytest.mark.parametrize(
    ("source", "names"),
    [
        (KARPENTER, {"nodepool-l4": "l4", "nodeoverlay-l4": "l4"}),
        (
            CLUSTER_API,
            {"machinedeployment-l4-a": "l4-a", "machinedeployment-l4-b": "l4-b", "machinehealthcheck-l4": "l4"},
        ),
        (Existing(), {}),
    ],
)
def test_what_makes_nodes_is_there_under_its_pinned_names(
    source: Source,
    names: dict[str, str],
    environment: Environment,
    declared: Callable[[Environment], Registered],
    after: dict[str, set[str]],
) -> None:
    """Another name would be other nodes. Teams go first, so that no pod is left that would ask for one more."""
    (pool,) = environment.gpu_pools
    size = {"nodes": 2} if source is CLUSTER_API else {"nodes": None, "min_nodes": 0, "max_nodes": 2}
    pool = dc.replace(pool, source=source, time_slices=2, **size)
    cluster = KubeconfigCluster(context="x", kube_system_uid="1")
    registered = declared(dc.replace(environment, cluster=cluster, gpu_pools=(pool,)))
    made = {
        each.name.removeprefix("pools-"): each.inputs["metadata"]["name"]
        for each in registered
        if each.inputs.get("apiVersion", "").startswith(("karpenter.sh/", "cluster.x-k8s.io/"))
    }
    assert made == names
    assert {f"pools-{name}" for name in names} <= after["tenancy-vision"]


def test_controllers_are_shut_in_but_for_the_api_server(registered: Registered) -> None:
    """Each has a namespace of Pod Security `restricted`, closed but for the ports that the API server calls."""
    for namespace, ports in (("kueue-system", [9443, 8082]), ("cert-manager", [10250])):
        (space,) = (made for made in objects(registered) if made.inputs["metadata"]["name"] == namespace)
        assert space.inputs["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
        policies = {
            made.inputs["metadata"]["name"]: made.inputs["spec"]
            for made in objects(registered)
            if made.inputs["metadata"].get("namespace") == namespace and "NetworkPolicy" in made.typ
        }
        assert policies.keys() == {"default-deny", "allow-within", "allow-dns", "allow-api-server"}
        (ingress,) = policies["allow-api-server"]["ingress"]
        assert [each["port"] for each in ingress["ports"]] == ports


def test_pods_of_controllers_go_before_everything_else(registered: Registered) -> None:
    """They have the highest of the priorities, so that no team's Job can take their place."""
    values = {made.name: made.inputs["values"] for made in registered if made.typ == CHART}
    assert values["pools-kueue"]["controllerManager"]["manager"]["priorityClassName"] == "kiban-platform"
    assert values["foundation-cert-manager"]["global"]["priorityClassName"] == "kiban-platform"


@pytest.mark.usefixtures("registered")
def test_what_kueue_reads_is_made_after_it_and_goes_before_it(after: dict[str, set[str]]) -> None:
    """Its webhook takes them and its finalizers are on them; the workloads in a team's namespace have one too."""
    for name in ("pools-flavor-l4", "tenancy-cohort", "tenancy-cluster-queue-vision", "tenancy-vision"):
        assert "pools-kueue" in after[name]
    assert {"tenancy-cluster-queue-vision", "tenancy-vision"} <= after["tenancy-local-queue-vision"]
    assert {"pools-kueue-system-default-deny", "foundation-kiban-platform"} <= after["pools-kueue"]
    assert "foundation-cert-manager" not in after["pools-kueue"]


def test_jobsets_are_known_before_kueue_looks(
    environment: Environment,
    declared: Callable[[Environment], Registered],
    after: dict[str, set[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the data asks for them: kinds, then both controllers, then the namespaces that have JobSets."""
    kind = "jobsets.jobset.x-k8s.io"
    monkeypatch.setattr("infra.charts.crds", lambda name: {kind: {"metadata": {"name": kind}, "spec": {"of": name}}})
    assert environment.queueing
    made = declared(dc.replace(environment, queueing=dc.replace(environment.queueing, jobsets=True)))
    (chart,) = (each for each in made if each.name == "pools-jobset")
    assert (chart.inputs["name"], chart.inputs["namespace"]) == ("jobset", "jobset-system")
    assert chart.inputs["skipCrds"] is True
    assert f"pools-jobset-crd-{kind}" in after["pools-jobset"] & after["pools-kueue"]
    assert "pools-jobset" not in after["pools-kueue"]
    assert "pools-jobset" in after["tenancy-vision"]


def test_without_controllers_there_is_neither_chart_nor_what_it_would_read(
    environment: Environment, declared: Callable[[Environment], Registered]
) -> None:
    """A cluster that runs no pods for real has quotas alone."""
    registered = declared(environment.without_controllers())
    assert not [made for made in registered if made.typ == CHART or made.inputs.get("kind", "").endswith("Queue")]
    (quota,) = (made for made in registered if made.typ == "kubernetes:core/v1:ResourceQuota")
    assert quota.inputs["spec"]["hard"] == {"requests.nvidia.com/gpu": "2"}


@pytest.fixture
def equipped(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> Callable[[GpuOperator | DevicePlugin], Environment]:
    """Return what gives the environment a cluster with devices, their software, and monitoring."""

    def crds(name: str) -> dict[str, dict[str, Any]]:
        names = [f"{plural}.monitoring.coreos.com" for plural in KINDS]
        return {each: {"metadata": {"name": each}, "spec": {"group": name}} for each in names}

    monkeypatch.setattr("infra.charts.crds", crds)
    real = KubeconfigCluster(context="x", kube_system_uid="0")
    return lambda devices: dc.replace(environment, cluster=real, devices=devices, monitoring=MonitoringArgs())


@pytest.mark.parametrize(
    ("devices", "charts"),
    [
        (GpuOperator(driver=Driver(version="595.91.07", system="ubuntu24.04")), {"gpu-operator"}),
        (DevicePlugin(), {"node-feature-discovery", "devices"}),
    ],
)
def test_device_software_has_a_namespace_that_is_its_own(
    devices: GpuOperator | DevicePlugin,
    charts: set[str],
    equipped: Callable[[GpuOperator | DevicePlugin], Environment],
    declared: Callable[[Environment], Registered],
    after: dict[str, set[str]],
) -> None:
    """The only one that is privileged; closed, with the configuration there before what reads it."""
    registered = declared(equipped(devices))
    spaces = [made for made in registered if made.typ == "kubernetes:core/v1:Namespace"]
    levels = {
        made.inputs["metadata"]["name"]: made.inputs["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for made in spaces
    }
    assert {name for name, level in levels.items() if level != "restricted"} == {devices.namespace}
    own = {
        made.inputs["metadata"]["name"]
        for made in registered
        if made.inputs.get("metadata", {}).get("namespace") == devices.namespace
    }
    policies = {"default-deny", "allow-within", "allow-dns", "allow-api-server", "allow-monitoring"}
    policies |= {"allow-packages"} if isinstance(devices, GpuOperator) else set()
    assert own == policies | {"gpu-device-plugin", "gpu-mig-partitions"}
    assert {made.name for made in registered if made.name.startswith("devices-") and made.typ == CHART} == {
        f"devices-{chart}" for chart in charts
    }
    for chart in charts:
        assert {"devices-gpu-device-plugin", "devices-gpu-mig-partitions", "devices-system-default-deny"} <= after[
            f"devices-{chart}"
        ]
    if "devices" in charts:
        assert "devices-node-feature-discovery" in after["devices-devices"]


def test_the_api_server_calls_no_pod_of_device_software(
    equipped: Callable[[GpuOperator | DevicePlugin], Environment], declared: Callable[[Environment], Registered]
) -> None:
    """A rule that names no port opens all of them."""
    registered = declared(equipped(GpuOperator()))
    (policy,) = (made for made in registered if made.name == "devices-system-allow-api-server")
    assert policy.inputs["spec"]["policyTypes"] == ["Egress"]
    assert "ingress" not in policy.inputs["spec"]


def test_the_exporters_monitor_is_made_after_its_kind_and_is_the_only_one(
    equipped: Callable[[GpuOperator | DevicePlugin], Environment],
    declared: Callable[[Environment], Registered],
    after: dict[str, set[str]],
) -> None:
    """The chart of monitoring has it, and waits for the operator's kinds; the GPU operator's own is off."""
    registered = {made.name: made for made in declared(equipped(GpuOperator())) if made.typ == CHART}
    assert registered["monitoring"].inputs["values"]["watch"]["gpus"] is True
    assert {f"monitoring-crd-{kind}.monitoring.coreos.com" for kind in KINDS} <= after["monitoring"]
    assert registered["devices-gpu-operator"].inputs["values"]["dcgmExporter"] == {"serviceMonitor": {"enabled": False}}
    assert "devices-gpu-operator" in after["monitoring-gpu-operator-allow-monitoring"]


def test_a_chart_that_cannot_be_had_is_told_in_one_line(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine shows a RunError without a traceback."""

    def upstream(_: str) -> UpstreamChart:
        raise CouldNotRun("kueue: no network")

    monkeypatch.setattr("infra.charts.upstream", upstream)
    with pytest.raises(pulumi.RunError, match="kueue: no network"):
        wiring.wire(environment, pulumi.ResourceOptions())


def test_dependencies_grow_with_the_teams_and_not_with_their_square(
    declared: Callable[[Environment], Registered], after: dict[str, set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What depended on all that the platform has, once a team, made most of the state of two hundred teams."""

    def crds(name: str) -> dict[str, dict[str, Any]]:
        names = [f"{plural}.monitoring.coreos.com" for plural in KINDS] if name == "prometheus-operator" else [name]
        return {each: {"metadata": {"name": each}, "spec": {"group": "example"}} for each in names}

    monkeypatch.setattr("infra.charts.crds", crds)
    monkeypatch.setattr("infra.credentials.read", lambda _: collections.defaultdict(lambda: "secret"))
    monkeypatch.setattr("infra.credentials.slots", lambda _: {})
    whole = stacks.load("ci")
    assert whole.serving
    counts = []
    for number in (2, 4, 6):
        parts = {pool.name: 1 for pool in whole.gpu_pools}
        teams = tuple(Team(name=f"team{each}", owner="a", borrows=parts) for each in range(number))
        pipelines = PipelineEngineArgs(kubeflow=KubeflowPipelines(mode="multi-user"))
        serving = dc.replace(whole.serving, models=())
        after.clear()
        declared(dc.replace(whole, teams=teams, pipelines=pipelines, serving=serving))
        counts.append(sum(map(len, after.values())))
    assert counts[2] - counts[1] == counts[1] - counts[0], counts


def test_a_charts_deployment_is_asked_soon_whether_it_is_ready() -> None:
    """Where its chart would wait for half a minute; nothing else of it changes, and no other kind does."""
    late: dict[str, Any] = {"name": "a", "readinessProbe": {"initialDelaySeconds": 30, "httpGet": {"path": "/readyz"}}}
    others = [{"name": "b", "readinessProbe": {"initialDelaySeconds": 5}}, {"name": "c"}]
    given = {"metadata": {}, "spec": {"replicas": 1, "template": {"spec": {"containers": [late, *others]}}}}
    changed = wiring.asked_soon("kubernetes:apps/v1:Deployment", given)
    containers = changed["spec"]["template"]["spec"]["containers"]
    soon = {"initialDelaySeconds": 1, "periodSeconds": 1, "httpGet": {"path": "/readyz"}}
    assert containers == [{"name": "a", "readinessProbe": soon}, *others]
    assert changed["spec"]["replicas"] == 1
    assert late["readinessProbe"]["initialDelaySeconds"] == 30
    assert wiring.asked_soon("kubernetes:apps/v1:DaemonSet", given) is given
