"""Models as data, what is refused of them, and what the component declares for them; no cluster."""

import dataclasses as dc
from collections import defaultdict
from typing import Any

import pulumi
import pytest
from pulumi.runtime.mocks import MockCallArgs, MockResourceArgs, Mocks, set_mocks

from components._charts import UpstreamChart
from components._crds import without_descriptions
from components._gateway import Gateway, certificates, listeners, opened
from components._models import RUNTIMES, check
from components._object_store import Store
from components._pools import shares
from components._serving import canaries, kserve_values, models_values, route, runtime_values, services
from components.foundation import Foundation, FoundationArgs
from components.gpu_node_pools import GpuPool, Taint
from components.metadata_store import MetadataStore, MetadataStoreArgs
from components.scripts import canary
from components.serving_stack import Canary, Model, Objective, Replicas, ServingStack, ServingStackArgs
from components.tenancy import Team, Tenancy, TenancyArgs

DIGEST, OTHER = "a" * 64, "b" * 64
STORE = Store(endpoint="http://store.ns.svc:9000", region="here", buckets={"vision": "b-vision"}, backups="b")
A100 = GpuPool(name="a100", accelerator="NVIDIA-A100-SXM4-80GB", nodes=2, gpus_per_node=8)
SPOT = GpuPool(
    name="spot", accelerator="Tesla-T4", nodes=4, gpus_per_node=1, spot=True, taints=(Taint(key="batch", value="1"),)
)
NEAR = dc.replace(A100, name="near", topology=("kubernetes.io/hostname",))
VISION = Team(name="vision", owner="vision-oncall", gpus={"a100": 4, "spot": 2})
DIGITS = Model(
    name="digits",
    team="vision",
    version="3",
    uri="s3://b-vision/models/3/model.pkl",
    digest=DIGEST,
    runtime="kserve-sklearnserver",
    format="sklearn",
)
CANARY = Canary(version="4", uri="s3://b-vision/models/4/model.pkl", digest=OTHER, percent=10)
GATEWAY = Gateway(domain="ml.example.com", service="ClusterIP")


def checked(*models: Model, gateway: bool = True, prometheus: bool = True) -> None:
    """Check models against the environment of these tests."""
    buckets = STORE.buckets
    check(models, teams=[VISION], pools=[A100, SPOT, NEAR], buckets=buckets, gateway=gateway, prometheus=prometheus)


@pytest.mark.parametrize(
    ("changed", "given", "accepted"),
    [
        ({"name": "Digits"}, "name", "lower-case"),
        ({"name": "digits-canary"}, "name", "not ending with '-canary'"),
        ({"version": "three"}, "version='three'", "1 or more"),
        ({"uri": "http://x/y"}, "uri='http://x/y'", "s3://BUCKET/KEY"),
        ({"digest": "abc"}, "digest='abc'", "64 hex digits"),
        ({"runtime": "kserve-vllmserver"}, "runtime='kserve-vllmserver'", "kserve-sklearnserver"),
        ({"format": "onnx"}, "format='onnx', which kserve-sklearnserver does not know", "accepted: sklearn"),
        ({"cpu": "half"}, "cpu='half'", "500m"),
        ({"memory": "1G"}, "memory='1G'", "512Mi"),
        ({"gpus": 1}, "gpus=1, pool=None", "both, or neither"),
        ({"runtime": "kserve-mlserver", "canary": CANARY}, "canary with runtime kserve-mlserver", "kserve-xgbserver"),
    ],
)
def test_a_model_that_cannot_be_served_is_refused(changed: dict[str, Any], given: str, accepted: str) -> None:
    """The message names the model, the field, the value and what is accepted."""
    with pytest.raises(ValueError, match="model") as refused:
        dc.replace(DIGITS, **changed)
    assert given in str(refused.value)
    assert accepted in str(refused.value)


@pytest.mark.parametrize(
    ("type_", "changed", "given"),
    [
        (Canary, {"version": "4", "uri": "s3://bucket/k", "digest": DIGEST, "percent": 120}, "canary.percent=120"),
        (Canary, {"version": "4", "uri": "b/k", "digest": DIGEST}, "canary.uri='b/k'"),
        (Replicas, {"min": 0}, "replicas.min=0"),
        (Replicas, {"min": 3, "max": 2}, "replicas.max=2"),
        (Replicas, {"target": 0}, "replicas.target=0"),
        (Objective, {"availability": 1.0}, "objective.availability=1.0"),
        (Objective, {"latency_ms": 0}, "objective.latency_ms=0"),
        (Gateway, {"domain": "no spaces"}, "gateway.domain='no spaces'"),
        (Gateway, {"domain": "a.b", "service": "Mesh"}, "gateway.service='Mesh'"),
    ],
)
def test_a_part_out_of_bounds_is_refused(type_: type, changed: dict[str, Any], given: str) -> None:
    """A canary of 120 %, say."""
    with pytest.raises(ValueError, match="accepted: ") as refused:
        type_(**changed)
    assert given in str(refused.value)


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ((dc.replace(DIGITS, team="sound"),), "team='sound'; accepted: vision"),
        ((DIGITS, DIGITS), "two named 'digits'"),
        ((dc.replace(DIGITS, uri="s3://other/m.pkl"),), "in the team's bucket, s3://b-vision/"),
        ((dc.replace(DIGITS, canary=dc.replace(CANARY, uri="s3://other/m.pkl")),), "in the team's bucket"),
        ((dc.replace(DIGITS, gpus=1, pool="h100"),), "pool='h100'; accepted: a100, spot, near"),
        ((dc.replace(DIGITS, gpus=9, pool="a100"),), "gpus=9; accepted: up to 8, the nvidia.com/gpu of a node"),
        (
            (dc.replace(DIGITS, gpus=5, pool="a100"),),
            "take 5 of pool 'a100' at their fewest replicas; accepted: up to 4",
        ),
        ((dc.replace(DIGITS, gpus=3, pool="a100", replicas=Replicas(min=2, max=2)),), "take 6 of pool 'a100'"),
        ((dc.replace(DIGITS, gpus=3, pool="a100", canary=CANARY),), "take 6 of pool 'a100'"),
    ],
)
def test_a_model_that_the_environment_has_no_place_for_is_refused(models: tuple[Model, ...], said: str) -> None:
    """Of devices counts what the team was promised: what is borrowed can be taken back."""
    with pytest.raises(ValueError, match="model") as refused:
        checked(*models)
    assert said in str(refused.value)


def test_what_fits_is_accepted() -> None:
    """As many devices as were promised, two models of different names, a canary where there is a gateway."""
    checked(dc.replace(DIGITS, gpus=4, pool="a100"), dc.replace(DIGITS, name="faces", canary=CANARY))


def test_a_canary_without_a_gateway_is_refused() -> None:
    """Nothing could share its requests out."""
    with pytest.raises(ValueError, match="no gateway"):
        checked(dc.replace(DIGITS, canary=CANARY), gateway=False)


def test_a_canary_without_monitoring_is_refused() -> None:
    """Nothing could say whether its objective holds."""
    with pytest.raises(ValueError, match="no monitoring"):
        checked(dc.replace(DIGITS, canary=CANARY), prometheus=False)


@pytest.mark.parametrize(("percent", "steps"), [(10, (10, 50, 100)), (30, (30, 50, 100)), (100, (100,))])
def test_a_canarys_steps_rise_to_all(percent: int, steps: tuple[int, ...]) -> None:
    """From the first share on."""
    assert dc.replace(CANARY, percent=percent).steps == steps


def test_the_controller_is_told_what_the_script_takes() -> None:
    """Of each model that has a canary."""
    model = dc.replace(DIGITS, canary=dc.replace(CANARY, step_minutes=2, fewest_requests=50))
    (told,) = canaries([model, DIGITS], [VISION])
    assert canary.Canary(**told).step_seconds == 120
    assert (told["namespace"], told["name"], told["version"]) == ("team-vision", "digits", "4")
    assert (told["availability"], told["latency_ms"], told["fewest_requests"]) == (0.99, 1000, 50)


def test_a_model_may_use_twice_the_cores_and_at_least_two() -> None:
    """A server that starts needs more than one that waits."""
    (small,) = services(DIGITS, {})
    (large,) = services(dc.replace(DIGITS, cpu="3"), {})
    assert (small["cpu"], small["cpuLimit"], large["cpu"], large["cpuLimit"]) == ("100m", "2", "3", "6")


def test_a_canary_is_a_second_service_of_the_same_model() -> None:
    """It has its own version, and the model's name: requests call both alike."""
    own, other = services(dc.replace(DIGITS, canary=CANARY), {})
    assert (own["name"], other["name"]) == ("digits", "digits-canary")
    assert (own["model"], other["model"]) == ("digits", "digits")
    assert (own["version"], other["version"], other["digest"]) == ("3", "4", OTHER)


def test_a_gpu_model_goes_to_its_pool() -> None:
    """It asks for the pool's resource, selects its nodes and bears their taints."""
    (one,) = services(dc.replace(DIGITS, gpus=1, pool="spot"), shares([SPOT]))
    assert one["devices"] == {"nvidia.com/gpu": "1"}
    assert one["nodeSelector"] == {"kiban.dev/pool": "spot"}
    assert [each["key"] for each in one["tolerations"]] == ["nvidia.com/gpu", "kiban.dev/spot", "batch"]
    assert "topology" not in one
    assert services(dc.replace(DIGITS, gpus=1, pool="near"), shares([NEAR]))[0]["topology"] is True


def test_a_model_on_a_slice_of_a_mix_names_its_profile() -> None:
    """It asks for that resource, and goes to the nodes of the pool."""
    mix = {"3g.40gb": 1, "1g.10gb": 4}
    mixed = GpuPool(name="mix", accelerator="NVIDIA-A100-SXM4-80GB", nodes=1, gpus_per_node=1, mig=mix)
    (one,) = services(dc.replace(DIGITS, gpus=1, pool="mix/1g.10gb"), shares([mixed]))
    assert one["devices"] == {"nvidia.com/mig-1g.10gb": "1"}
    assert one["nodeSelector"] == {"kiban.dev/pool": "mix"}


def test_a_route_leads_to_the_model_until_the_controller_moves_requests() -> None:
    """The canary is second, which is where its figures are looked for, and what it answers says so.

    Without one there are two backends as well: Envoy has the same clusters before, with and after a canary.
    """
    alone, shared = route(DIGITS, GATEWAY), route(dc.replace(DIGITS, canary=CANARY), GATEWAY)
    for spec, name in ((alone, "digits-predictor"), (shared, "digits-canary-predictor")):
        own, other = spec["rules"][0]["backendRefs"]
        assert (own["name"], own["weight"]) == ("digits-predictor", 999_999)
        assert (other["name"], other["weight"]) == (name, 1)
    (own,), (other,) = (each["filters"] for each in shared["rules"][0]["backendRefs"])
    assert own["responseHeaderModifier"] == {"remove": ["x-canary-version"]}
    assert other["responseHeaderModifier"] == {"set": [{"name": "x-canary-version", "value": "4"}]}
    assert shared["hostnames"] == ["digits.vision.ml.example.com"]


def test_only_teams_that_have_models_are_in_the_charts_values() -> None:
    """A request log that nobody writes to would only take from the team's queue."""
    sound = Team(name="sound", owner="sound-oncall")
    args = ServingStackArgs(models=(DIGITS,), teams=(VISION, sound), queue="default")
    given = models_values(args, STORE, tags={}, highest="p")
    assert [team["name"] for team in given["teams"]] == ["vision"]
    assert given["teams"][0]["bucket"] == "b-vision"


def test_a_throwaway_cluster_has_no_models_and_no_addresses() -> None:
    """Its object store has none, and who signs for the domain does not know it."""
    args = ServingStackArgs(models=(DIGITS,), gateway=Gateway(domain="ml.example.com", issuer="corporate"))
    here = args.standing_in()
    assert here.models == ()
    assert here.gateway == GATEWAY


def test_images_are_those_of_the_runtimes_in_use() -> None:
    """A runtime that no model names is never pulled."""
    assert not any("server" in each for each in ServingStackArgs().images)
    assert RUNTIMES["kserve-sklearnserver"].image in ServingStackArgs(models=(DIGITS,)).images


def test_kserve_makes_no_ingress_and_reads_the_teams_own_keys() -> None:
    """Routes are Kiban's; keys stay in one Secret."""
    kserve = kserve_values(STORE)["kserve"]
    assert kserve["controller"]["deploymentMode"] == "Standard"
    assert kserve["controller"]["gateway"]["disableIngressCreation"] is True
    s3 = kserve["storage"]["s3"]
    assert (s3["accessKeyIdName"], s3["endpoint"], s3["useHttps"]) == ("accesskey", "store.ns.svc:9000", "0")


def test_every_runtimes_image_is_named_in_full() -> None:
    """A name without a host is another image to who looks for it by its name."""
    given = runtime_values()["kserve"]["servingruntime"]
    for runtime in RUNTIMES.values():
        value = given[runtime.value]
        assert f"{value['image']}:{value['tag']}" == runtime.image
        assert "." in runtime.image.partition("/")[0]


def test_the_gateway_takes_teams_routes_by_tls_only() -> None:
    """Plain HTTP has no routes but the gateway's own, which is the redirect."""
    http, https = listeners(GATEWAY)["listeners"]
    assert http["allowedRoutes"]["namespaces"] == {"from": "Same"}
    assert https["tls"]["certificateRefs"] == [{"name": "gateway"}]
    assert https["allowedRoutes"]["namespaces"]["selector"]["matchExpressions"][0]["key"] == "kiban.dev/team"


def test_the_gateways_certificate_covers_every_teams_models() -> None:
    """A wildcard stands for one label only."""
    made = certificates(GATEWAY, ["vision", "sound"])
    assert made["gateway"]["dnsNames"] == ["*.vision.ml.example.com", "*.sound.ml.example.com"]
    assert made["gateway"]["issuerRef"] == {"name": "gateway-ca", "kind": "Issuer"}
    outside = certificates(dc.replace(GATEWAY, issuer="corporate"), ["vision"])
    assert outside["gateway"]["issuerRef"] == {"name": "corporate", "kind": "ClusterIssuer"}
    assert "envoy-gateway.envoy-gateway-system.svc.cluster.local" in made["envoy-gateway"]["dnsNames"]


def test_envoy_reaches_models_and_no_other_port_of_a_team() -> None:
    """Its two ports are open to clients."""
    policies = opened()
    ports = [each["port"] for each in policies["allow-to-models"]["egress"][0]["ports"]]
    assert ports == [8080, 9081]
    assert [each["port"] for each in policies["allow-clients"]["ingress"][0]["ports"]] == [10080, 10443]


def test_of_a_kinds_schema_only_the_prose_is_left_out() -> None:
    """A field that is called `description` stays."""
    fields = {"description": {"type": "string", "description": "What it is for."}}
    assert without_descriptions({"type": "object", "description": "A thing.", "properties": fields}) == {
        "type": "object",
        "properties": {"description": {"type": "string"}},
    }


class Recorder(Mocks):
    """Remembers every resource that is registered, by type and name."""

    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {}

    def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        """Take a resource as it is."""
        self.made[f"{args.typ.rpartition(':')[2]} {args.name}"] = dict(args.inputs)
        return f"{args.name}-id", dict(args.inputs)

    def call(self, args: MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        """Answer no function."""
        raise NotImplementedError(args.token)


def declared(args: ServingStackArgs) -> dict[str, dict[str, Any]]:
    """Return what the component declares for one team, by type and name."""
    recorder = Recorder()
    set_mocks(recorder, project="kiban", stack="small", preview=False)
    upstream = {
        name: UpstreamChart(name=name, version="1", location=f"/{name}")
        for name in ("kserve-resources", "kserve-runtime-configs", "gateway-helm")
    }

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def program() -> None:
        foundation = Foundation("foundation", FoundationArgs())
        tenancy = Tenancy("tenancy", TenancyArgs(teams=(VISION,), pools=(A100, SPOT)), foundation=foundation)
        metadata = MetadataStore(
            "metadata",
            MetadataStoreArgs(teams=(VISION,)),
            foundation=foundation,
            tenancy=tenancy,
            credentials=defaultdict(lambda: "secret"),
            slots={},
        )
        ServingStack(
            "serving",
            args,
            foundation=foundation,
            tenancy=tenancy,
            metadata=metadata,
            charts=upstream,
            chart="/charts/models",
            crds={},
        )

    program()
    return {name: each for name, each in recorder.made.items() if " serving" in name}


def in_bucket(model: Model) -> Model:
    """Return the model where the cluster's own store has it."""
    moved = dc.replace(model, uri=model.uri.replace("b-vision", "vision"))
    canary = model.canary and dc.replace(model.canary, uri=model.canary.uri.replace("b-vision", "vision"))
    return dc.replace(moved, canary=canary)


def test_the_type_token_is_pinned() -> None:
    """Another one would replace everything that is under the component."""
    assert "ServingStack serving" in declared(ServingStackArgs(teams=(VISION,)))


def test_without_models_there_is_kserve_alone() -> None:
    """No chart of models, no gateway."""
    made = declared(ServingStackArgs(teams=(VISION,)))
    assert {name for name in made if name.startswith("Chart ")} == {"Chart serving-kserve", "Chart serving-runtimes"}
    assert not any("Gateway" in name for name in made)


def test_with_a_gateway_every_model_has_a_route() -> None:
    """The Gateway, its class and its certificates are there too."""
    model = in_bucket(dc.replace(DIGITS, canary=CANARY))
    args = ServingStackArgs(models=(model,), teams=(VISION,), pools=(A100,), gateway=GATEWAY, prometheus="http://p")
    made = declared(args)
    route_made = made["HTTPRoute serving-route-vision-digits"]
    assert route_made["metadata"]["namespace"] == "team-vision"
    assert "Chart serving-models" in made
    assert {"Gateway serving-gateway-gateway-kiban", "GatewayClass serving-gateway-gatewayclass-envoy"} <= set(made)
