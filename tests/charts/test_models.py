"""charts/models as it is rendered: what each model and each team gets, and what values are refused."""

import dataclasses as dc
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from components._object_store import Store
from components._serving import models_values
from components.gpu_node_pools import GpuPool
from components.scripts import agent
from components.serving_stack import Canary, Model, Replicas, ServingStackArgs
from components.tenancy import Team
from tests.charts.policies import reaches
from tests.charts.rendering import NAMESPACE, ROOT, Object, Refused, kind, render

CHART = ROOT / "charts" / "models"
POOL = GpuPool(name="a100", accelerator="NVIDIA-A100-SXM4-80GB", nodes=2, gpus_per_node=8)
TEAMS = (Team(name="vision", owner="v", gpus={"a100": 8}), Team(name="sound", owner="s"))
STORE = Store(
    endpoint="http://object-store.kiban-metadata.svc:9000",
    region="us-east-1",
    buckets={"vision": "vision", "sound": "sound"},
    backups="b",
)
DIGITS = Model(
    name="digits",
    team="vision",
    version="3",
    uri="s3://vision/m/model.pkl",
    digest="a" * 64,
    runtime="kserve-sklearnserver",
    format="sklearn",
    replicas=Replicas(min=2, max=6, target=60),
    canary=Canary(version="4", uri="s3://vision/n/model.pkl", digest="b" * 64),
)
FIXED = Model(
    name="voices",
    team="sound",
    version="1",
    uri="s3://sound/voices/",
    digest="c" * 64,
    runtime="kserve-tritonserver",
    format="onnx",
)
GPU = dc.replace(DIGITS, name="large", gpus=2, pool="a100", canary=None)
TAGS = {"app.kubernetes.io/part-of": "kiban"}


def values(**changed: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of the arguments
    """Return the chart's values."""
    args = ServingStackArgs(
        models=(DIGITS, FIXED, GPU),
        teams=TEAMS,
        pools=(POOL,),
        queue="default",
        prometheus="http://prometheus.m.svc:9090",
    )
    return models_values(dc.replace(args, **changed), STORE, tags=TAGS, highest="kiban-platform")


def chart(folder: Path) -> Path:
    """Return a copy of the chart that brings KServe's kind: without a cluster nobody else does."""
    copy = folder / "models"
    shutil.copytree(CHART, copy)
    (copy / "crds").mkdir()
    definition = kind("serving.kserve.io", "v1beta1", "InferenceService", "inferenceservices")
    (copy / "crds" / "kserve.yaml").write_text(yaml.safe_dump(definition))
    return copy


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Object]]:
    """Return the chart's objects: `queued`, and `open` with a gateway and without queues."""
    from components.serving_stack import Gateway  # noqa: PLC0415

    variants = {"queued": values(), "open": values(queue=None, gateway=Gateway(domain="ml.example.com"))}
    return render(chart(tmp_path_factory.mktemp("chart")), variants, tmp_path_factory.mktemp("render"))


def named(objects: list[Object], wanted: str, name: str) -> Object:
    """Return the object, of several teams' one."""
    return next(each for each in objects if (each["kind"], each["metadata"]["name"]) == (wanted, name))


def of(objects: list[Object], wanted: str) -> set[tuple[str, str]]:
    """Return namespace and name of the objects of a kind."""
    return {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in objects if each["kind"] == wanted}


def test_a_model_is_an_inference_service_and_so_is_its_canary(rendered: dict[str, list[Object]]) -> None:
    """Each in its team's namespace."""
    assert of(rendered["queued"], "InferenceService") == {
        ("team-vision", "digits"),
        ("team-vision", "digits-canary"),
        ("team-vision", "large"),
        ("team-sound", "voices"),
    }


def test_both_versions_answer_to_the_models_name(rendered: dict[str, list[Object]]) -> None:
    """A request does not say which of the two it is for."""
    for name in ("digits", "digits-canary"):
        predictor = named(rendered["queued"], "InferenceService", name)["spec"]["predictor"]
        assert predictor["model"]["args"] == ["--model_name=digits"]
        assert predictor["model"]["readinessProbe"]["httpGet"]["path"] == "/v2/models/digits/ready"


@pytest.mark.parametrize("name", ["digits", "digits-canary", "large", "voices"])
def test_a_models_pods_meet_pod_security_and_have_bounds(rendered: dict[str, list[Object]], name: str) -> None:
    """`restricted`; no token; requests and limits."""
    predictor = named(rendered["queued"], "InferenceService", name)["spec"]["predictor"]
    assert predictor["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert predictor["securityContext"]["runAsUser"] > 0
    assert predictor["automountServiceAccountToken"] is False
    for container in (predictor["model"], *predictor["containers"]):
        own = container["securityContext"]
        assert (own["allowPrivilegeEscalation"], own["capabilities"], own["readOnlyRootFilesystem"]) == (
            False,
            {"drop": ["ALL"]},
            True,
        )
        for resource in ("cpu", "memory"):
            assert resource in container["resources"]["requests"]
            assert resource in container["resources"]["limits"]


def test_a_server_ends_when_its_agents_callers_have_left(rendered: dict[str, list[Object]]) -> None:
    """The agent says when, and has more time than it gives to idle ones (components/scripts/agent.py)."""
    predictor = named(rendered["queued"], "InferenceService", "digits")["spec"]["predictor"]
    assert predictor["model"]["lifecycle"]["preStop"]["httpGet"] == {"path": "/drained", "port": 9081}
    assert predictor["terminationGracePeriodSeconds"] > agent.MOST + agent.LEAST
    assert predictor["deploymentStrategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_pods_of_models_are_in_the_teams_queue_with_servings_priority(rendered: dict[str, list[Object]]) -> None:
    """Where there is Kueue; the request log too."""
    objects = rendered["queued"]
    predictor = named(objects, "InferenceService", "digits")["spec"]["predictor"]
    log = named(objects, "Deployment", "request-log")["spec"]["template"]
    assert predictor["labels"]["kueue.x-k8s.io/queue-name"] == "default"
    assert log["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "default"
    assert predictor["priorityClassName"] == log["spec"]["priorityClassName"] == "kiban-serving"
    unqueued = named(rendered["open"], "InferenceService", "digits")["spec"]["predictor"]
    assert "kueue.x-k8s.io/queue-name" not in unqueued["labels"]


def test_everything_of_a_model_says_whose_and_which_it_is(rendered: dict[str, list[Object]]) -> None:
    """Its pods as well, by the labels that the component is given."""
    service = named(rendered["queued"], "InferenceService", "digits-canary")
    wanted = {"kiban.dev/team": "vision", "kiban.dev/model": "digits", "kiban.dev/model-version": "4"}
    assert wanted.items() <= service["metadata"]["labels"].items()
    assert wanted.items() <= service["spec"]["predictor"]["labels"].items()
    budget = named(rendered["queued"], "PodDisruptionBudget", "digits-canary")
    assert wanted.items() <= budget["metadata"]["labels"].items()


@pytest.mark.parametrize("name", ["digits", "voices"])
def test_a_pod_is_ready_when_its_server_answers_through_the_agent(rendered: dict[str, list[Object]], name: str) -> None:
    """Asked every second: the kubelet takes longer to see that a server was killed."""
    predictor = named(rendered["queued"], "InferenceService", name)["spec"]["predictor"]
    (container,) = predictor["containers"]
    assert container["name"] == "agent"  # KServe adds its own where there is none of this name
    probe = container["readinessProbe"]
    assert probe["httpGet"] == predictor["model"]["readinessProbe"]["httpGet"] | {"port": 9081}
    assert probe["periodSeconds"] == probe["failureThreshold"] == 1


def test_requests_are_logged_with_model_and_version(rendered: dict[str, list[Object]]) -> None:
    """To the team's log, by the agent's program, of which another makes new pods."""
    objects = rendered["queued"]
    predictor = named(objects, "InferenceService", "digits-canary")["spec"]["predictor"]
    assert predictor["logger"] == {"mode": "all"}  # else the Service leads past the agent
    (container,) = predictor["containers"]
    assert {each["name"]: each["value"] for each in container["env"]} == {
        "PORT": "9081",
        "SERVER_PORT": "8080",
        "LOG_URL": "http://request-log.team-vision.svc:8080",
        "MODEL": "digits",
        "VERSION": "4",
    }
    assert named(objects, "ConfigMap", "agent")["data"] == {"agent.py": Path(agent.__file__).read_text()}
    assert {"name": "agent", "configMap": {"name": "agent"}} in predictor["volumes"]
    assert predictor["annotations"]["kiban.dev/script"] == values()["agent"]["digest"]
    assert of(objects, "ConfigMap") >= {("team-vision", "agent"), ("team-sound", "agent")}


def test_what_scales_has_a_target_and_what_does_not_has_no_autoscaler(rendered: dict[str, list[Object]]) -> None:
    """One that looks for metrics which it does not need would only complain."""
    scaled = named(rendered["queued"], "InferenceService", "digits")
    fixed = named(rendered["queued"], "InferenceService", "voices")
    assert (scaled["spec"]["predictor"]["scaleTarget"], scaled["spec"]["predictor"]["maxReplicas"]) == (60, 6)
    assert "serving.kserve.io/autoscalerClass" not in scaled["metadata"]["annotations"]
    assert fixed["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "none"


def test_what_moves_canaries_may_do_that_and_nothing_else(rendered: dict[str, list[Object]]) -> None:
    """Routes and Deployments by name, in the namespaces of teams that have canaries."""
    objects = rendered["queued"]
    (role,) = (each for each in objects if each["kind"] == "Role")
    assert role["metadata"]["namespace"] == "team-vision"
    assert [(each["resources"], each["resourceNames"], each["verbs"]) for each in role["rules"]] == [
        (["httproutes"], ["digits"], ["get", "patch"]),
        (["deployments"], ["digits-canary-predictor"], ["get"]),
    ]
    (binding,) = (each for each in objects if each["kind"] == "RoleBinding")
    assert (binding["metadata"]["namespace"], binding["roleRef"]["name"]) == ("team-vision", role["metadata"]["name"])
    (account,) = binding["subjects"]
    deployment = named(objects, "Deployment", "canary-controller")
    assert deployment["metadata"]["namespace"] == account["namespace"] == NAMESPACE
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == account["name"]
    config = named(objects, "ConfigMap", "canary-controller")["data"]
    assert [each["name"] for each in json.loads(config["canaries.json"])] == ["digits"]


def test_without_canaries_nothing_moves_them(tmp_path: Path) -> None:
    """A controller without work would only be one more thing that can be down."""
    objects = render(chart(tmp_path), {"none": values(models=(FIXED,))}, tmp_path / "rendered")["none"]
    assert not [each for each in objects if "canary" in each["metadata"]["name"]]


def test_of_two_replicas_one_is_never_evicted(rendered: dict[str, list[Object]]) -> None:
    """A budget for a single one would only hold up a drain."""
    assert of(rendered["queued"], "PodDisruptionBudget") == {
        ("team-vision", "digits"),
        ("team-vision", "digits-canary"),
        ("team-vision", "large"),
    }


def test_a_gpu_model_asks_for_devices_of_its_pool(rendered: dict[str, list[Object]]) -> None:
    """And bears the taint of nodes with GPUs."""
    predictor = named(rendered["queued"], "InferenceService", "large")["spec"]["predictor"]
    assert predictor["model"]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert predictor["nodeSelector"] == {"kiban.dev/pool": "a100"}
    assert {"key": "nvidia.com/gpu", "operator": "Equal", "value": "present", "effect": "NoSchedule"} in predictor[
        "tolerations"
    ]


def test_every_team_with_models_has_one_request_log(rendered: dict[str, list[Object]]) -> None:
    """With the team's own bucket, and the keys from the Secret."""
    logs = {each for each in of(rendered["queued"], "Deployment") if each[1] == "request-log"}
    assert logs == {("team-vision", "request-log"), ("team-sound", "request-log")}
    for each in rendered["queued"]:
        if (each["kind"], each["metadata"]["name"]) == ("Deployment", "request-log"):
            (container,) = each["spec"]["template"]["spec"]["containers"]
            env = {one["name"]: one for one in container["env"]}
            assert f"team-{env['BUCKET']['value']}" == each["metadata"]["namespace"]
            assert "value" not in env["AWS_SECRET_ACCESS_KEY"]


def test_the_gateway_reaches_models_and_nothing_else_of_a_team(rendered: dict[str, list[Object]]) -> None:
    """Without a gateway nobody from another namespace does."""
    gateway = ("envoy-gateway-system", {"app.kubernetes.io/component": "proxy"})
    model = ("team-vision", {"serving.kserve.io/inferenceservice": "digits"})
    log = ("team-vision", {"app.kubernetes.io/name": "request-log"})
    for port in (8080, 9081):
        assert reaches(rendered["open"], source=gateway, target=model, port=port)
        assert not reaches(rendered["queued"], source=gateway, target=model, port=port)
        assert not reaches(rendered["open"], source=gateway, target=log, port=port)
        assert not reaches(rendered["open"], source=("elsewhere", {}), target=model, port=port)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"drainSeconds": 10}, "drainSeconds"),
        ({"surprise": 1}, "surprise"),
        ({"priorityClassName": ""}, "priorityClassName"),
    ],
)
def test_values_that_are_not_the_schemas_are_refused(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    """Helm says which."""
    with pytest.raises(Refused, match=said):
        render(chart(tmp_path), {"bad": values() | changed}, tmp_path / "scratch")
