"""Kubeflow Pipelines as the chart renders it: who reaches what, how pods are shut in, and what values are refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.conftest import CHART, GATEWAY
from tests.charts.policies import reaches
from tests.charts.rendering import Object, Refused, render

MODES = ("standalone", "multi-user")
KUBEFLOW = "kubeflow"
TEAM = ("team-vision", {"workflows.argoproj.io/workflow": "x"})
RUN = (KUBEFLOW, {"workflows.argoproj.io/workflow": "x"})
PROXY = (GATEWAY, {"app.kubernetes.io/component": "proxy"})
STRANGER = ("elsewhere", {"app": "ml-pipeline-ui", "application-crd-id": "kubeflow-pipelines"})


def named(objects: list[Object], kind: str, name: str, namespace: str = KUBEFLOW) -> Object:
    """Return the one object."""
    (one,) = (
        each
        for each in objects
        if (each["kind"], each["metadata"]["name"]) == (kind, name)
        and each["metadata"].get("namespace", namespace) == namespace
    )
    return one


def own(objects: list[Object], kind: str) -> list[Object]:
    """Return KFP's objects of the kind."""
    return [each for each in objects if each["kind"] == kind and "application-crd-id" in each["metadata"]["labels"]]


def pod(objects: list[Object], deployment: str) -> tuple[str, dict[str, str]]:
    """Return a Deployment's pod, as namespace and labels."""
    return KUBEFLOW, named(objects, "Deployment", deployment)["spec"]["template"]["metadata"]["labels"]


def environment(objects: list[Object], deployment: str) -> dict[str, Any]:
    """Return the literal environment of a Deployment's first container."""
    container = named(objects, "Deployment", deployment)["spec"]["template"]["spec"]["containers"][0]
    return {one["name"]: one.get("value") for one in container["env"]}


@pytest.mark.parametrize("port", [8888, 8887])
def test_in_multi_user_mode_no_team_reaches_where_the_users_header_is_trusted(
    port: int, rendered: dict[str, list[Object]]
) -> None:
    """The API server and the page believe the header: the gateway and KFP's own pods reach them, and nobody else."""
    objects = rendered["multi-user"]
    server = pod(objects, "ml-pipeline")
    for source in (PROXY, pod(objects, "ml-pipeline-ui"), pod(objects, "ml-pipeline-scheduledworkflow")):
        assert reaches(objects, source=source, target=server, port=port)
    for source in (TEAM, RUN, STRANGER, (GATEWAY, {}), (KUBEFLOW, {"app.kubernetes.io/name": "argo-server"})):
        assert not reaches(objects, source=source, target=server, port=port)


@pytest.mark.parametrize("mode", MODES)
def test_the_page_is_reached_by_the_gateway_alone(mode: str, rendered: dict[str, list[Object]]) -> None:
    """It has no sign-in of its own, and in multi-user mode hands the header on."""
    objects = rendered[mode]
    page = pod(objects, "ml-pipeline-ui")
    gateway = PROXY if mode == "multi-user" else (GATEWAY, {})
    assert reaches(objects, source=gateway, target=page, port=3000)
    for source in (TEAM, RUN, STRANGER, pod(objects, "ml-pipeline")):
        assert not reaches(objects, source=source, target=page, port=3000)


def test_a_teams_way_to_the_api_server_takes_the_header_off(rendered: dict[str, list[Object]]) -> None:
    """In multi-user mode teams reach an Envoy, which alone passes on, on both ports, what has no header."""
    objects = rendered["multi-user"]
    door = pod(objects, "ml-pipeline-teams")
    for port in (8888, 8887):
        assert reaches(objects, source=TEAM, target=door, port=port)
        assert not reaches(objects, source=STRANGER, target=door, port=port)
        assert reaches(objects, source=door, target=pod(objects, "ml-pipeline"), port=port)
    configuration = yaml.safe_load(named(objects, "ConfigMap", "ml-pipeline-teams")["data"]["envoy-config.yaml"])
    listeners = configuration["static_resources"]["listeners"]
    assert len(listeners) == 2
    for listener in listeners:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        assert manager["route_config"]["request_headers_to_remove"] == ["kubeflow-userid"]
    assert environment(objects, "ml-pipeline")["ML_PIPELINE_SERVICE_NAME"] == "ml-pipeline-teams"


def test_in_standalone_mode_teams_and_runs_use_the_api(rendered: dict[str, list[Object]]) -> None:
    """There is no user to pretend to be; strangers stay out."""
    objects = rendered["standalone"]
    for source in (TEAM, RUN):
        assert reaches(objects, source=source, target=pod(objects, "ml-pipeline"), port=8888)
    assert not reaches(objects, source=STRANGER, target=pod(objects, "ml-pipeline"), port=8888)


@pytest.mark.parametrize("mode", MODES)
def test_metadata_is_reached_from_where_runs_are(mode: str, rendered: dict[str, list[Object]]) -> None:
    """ML Metadata knows no users, so only those who have to write there reach it; its Envoy only the page."""
    objects = rendered[mode]
    runs, others = (TEAM, RUN) if mode == "multi-user" else (RUN, TEAM)
    server, envoy = pod(objects, "metadata-grpc-deployment"), pod(objects, "metadata-envoy-deployment")
    assert reaches(objects, source=runs, target=server, port=8080)
    assert reaches(objects, source=envoy, target=server, port=8080)
    assert not reaches(objects, source=others, target=server, port=8080)
    assert reaches(objects, source=pod(objects, "ml-pipeline-ui"), target=envoy, port=9090)
    assert not reaches(objects, source=runs, target=envoy, port=9090)


@pytest.mark.parametrize(("mode", "namespace"), [("standalone", KUBEFLOW), ("multi-user", "team-vision")])
def test_a_viewer_is_restricted_and_reached_by_the_page_alone(
    mode: str, namespace: str, rendered: dict[str, list[Object]]
) -> None:
    """A user starts it in the namespace of the run; without these settings Pod Security would refuse it."""
    objects = rendered[mode]
    template = named(objects, "ConfigMap", "ml-pipeline-ui-configmap")["data"]["viewer-pod-template.json"]
    spec = json.loads(template)["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    assert spec["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    viewer = (namespace, {"app": "viewer"})
    assert reaches(objects, source=pod(objects, "ml-pipeline-ui"), target=viewer, port=6006)
    assert not reaches(objects, source=STRANGER, target=viewer, port=6006)


@pytest.mark.parametrize("mode", [*MODES, "outside"])
def test_every_pod_is_shut_in(mode: str, rendered: dict[str, list[Object]]) -> None:
    """Pod Security restricted, requests and limits, an own account, and its token only where it has rights."""
    objects = rendered[mode]
    bound = {subject["name"] for binding in own(objects, "RoleBinding") for subject in binding["subjects"]}
    accounts = []
    for deployment in own(objects, "Deployment"):
        spec = deployment["spec"]["template"]["spec"]
        accounts.append(spec["serviceAccountName"])
        assert spec["automountServiceAccountToken"] == (spec["serviceAccountName"] in bound)
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["priorityClassName"] == "kiban-platform"
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            security = container["securityContext"]
            assert security["runAsNonRoot"] is True
            assert security["runAsUser"] > 0
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"].keys() == {"requests", "limits"}
            assert security["readOnlyRootFilesystem"] or container["name"] == "ml-pipeline-visualizationserver"
    assert len(accounts) == len(set(accounts)) >= 9


@pytest.mark.parametrize("mode", MODES)
def test_every_server_is_probed(mode: str, rendered: dict[str, list[Object]]) -> None:
    """What listens can be asked whether it is ready and alive."""
    for deployment in own(rendered[mode], "Deployment"):
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            probes = container.keys() & {"readinessProbe", "livenessProbe"}
            assert len(probes) == (2 if "ports" in container else 0)


@pytest.mark.parametrize("mode", MODES)
def test_every_image_is_pinned_and_in_the_values(mode: str, rendered: dict[str, list[Object]]) -> None:
    """Those too that are in an environment variable or in a file; but for a viewer's, whose tag its user chooses."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())["kfp"]
    images = set(values["images"].values())
    text = json.dumps([each for each in rendered[mode] if "application-crd-id" in each["metadata"]["labels"]])
    named_images = set(re.findall(r"(?:ghcr|gcr|docker|quay)\.io/[a-z0-9./_-]+(?::[\w.-]+)?", text))
    assert named_images - {values["tensorboardImage"]} == images
    assert all(re.search(r":v?\d+\.\d+", image) for image in images)


def test_runs_are_queued(rendered: dict[str, list[Object]]) -> None:
    """All pods of a run carry the label of its namespace's queue; that of KFP's own namespace is not `default`."""
    for mode, name in (("standalone", "pipelines"), ("multi-user", "default"), ("outside", "")):
        patch = json.loads(environment(rendered[mode], "ml-pipeline")["COMPILED_PIPELINE_SPEC_PATCH"])
        assert patch == ({"podMetadata": {"labels": {"kueue.x-k8s.io/queue-name": name}}} if name else {})
    (queue,) = own(rendered["standalone"], "LocalQueue")
    assert (queue["metadata"]["name"], queue["spec"]) == ("pipelines", {"clusterQueue": "pipelines"})
    assert not own(rendered["multi-user"], "LocalQueue")


def test_a_runs_pods_have_a_token(rendered: dict[str, list[Object]]) -> None:
    """KFP's driver and launcher and argoexec call the API server, and a Workflow leaves that to its account."""
    runner = named(rendered["standalone"], "ServiceAccount", "pipeline-runner")
    editor = named(rendered["multi-user"], "ServiceAccount", "default-editor", "team-vision")
    for account in (runner, editor):
        assert account["automountServiceAccountToken"] is True


@pytest.mark.parametrize("mode", MODES)
def test_the_chart_has_no_secret(mode: str, rendered: dict[str, list[Object]]) -> None:
    """Credentials never pass through values."""
    assert not own(rendered[mode], "Secret")


def test_a_teams_members_may_use_its_pipelines(rendered: dict[str, list[Object]]) -> None:
    """The API server asks Kubernetes whether the user in the header may."""
    binding = named(rendered["multi-user"], "RoleBinding", "kubeflow-pipelines-edit", "team-vision")
    assert {(each["kind"], each["name"]) for each in binding["subjects"]} == {
        ("User", "ann@example.com"),
        ("ServiceAccount", "default-editor"),
    }


def test_a_database_outside_is_reached_by_tls_alone(rendered: dict[str, list[Object]]) -> None:
    """The API server and ML Metadata check its certificate against what signed it."""
    objects = rendered["outside"]
    server = environment(objects, "ml-pipeline")
    assert json.loads(server["DBCONFIG_MYSQLCONFIG_EXTRAPARAMS"]) == {"tls": "true"}
    assert server["SSL_CERT_DIR"] == "/etc/mysql-ca"
    (metadata,) = named(objects, "Deployment", "metadata-grpc-deployment")["spec"]["template"]["spec"]["containers"]
    assert {
        "--mysql_config_verify_server_cert=true",
        "--mysql_config_sslrootcert=/etc/mysql-ca/ca.crt",
    } <= set(metadata["args"])
    assert named(objects, "ConfigMap", "kfp-mysql-ca")["data"] == {"ca.crt": "PEM"}


def test_stores_outside_are_reached_anywhere_on_their_port(rendered: dict[str, list[Object]]) -> None:
    """No selector finds what is not in the cluster."""
    for policy, port in (("allow-mysql", 3307), ("allow-object-store", 443), ("allow-mlflow", 443)):
        (rule,) = named(rendered["outside"], "NetworkPolicy", policy)["spec"]["egress"]
        assert rule == {"ports": [{"protocol": "TCP", "port": port}]}
        (rule,) = named(rendered["standalone"], "NetworkPolicy", policy)["spec"]["egress"]
        assert rule["to"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kiban-metadata"}}}]


def test_without_cert_manager_there_is_no_webhook(rendered: dict[str, list[Object]]) -> None:
    """Nor its server, which would wait for a certificate for ever."""
    kinds = {each["kind"] for each in rendered["outside"]}
    assert not kinds & {"Certificate", "Issuer", "MutatingWebhookConfiguration"}
    names = {each["metadata"]["name"] for each in own(rendered["outside"], "Deployment")}
    assert "cache-server" not in names
    assert "ml-pipeline" in names


def test_off_there_is_nothing_of_kfp(rendered: dict[str, list[Object]]) -> None:
    """Argo alone, as the chart's defaults are."""
    assert rendered["off"]
    assert not [each for each in rendered["off"] if "application-crd-id" in each["metadata"]["labels"]]


def test_values_outside_the_schema_are_refused_with_their_paths(tmp_path: Path) -> None:
    """Nothing is rendered, and what is wrong is told by where it is."""
    wrong = {
        "kfp": {
            "mode": "both",
            "retention": 1,
            "images": {"driver": "kfp-driver"},
            "mysql": {"port": 0},
            "teams": [{"name": "vision"}],
            "userId": {"header": "a b"},
        }
    }
    with pytest.raises(Refused) as refused:
        render(CHART, {"wrong": wrong}, tmp_path)
    told = str(refused.value)
    assert "at '/kfp': additional properties 'retention' not allowed" in told
    for path in ("/kfp/mode", "/kfp/images/driver", "/kfp/mysql/port", "/kfp/teams/0", "/kfp/userId/header"):
        assert f"at '{path}'" in told


def test_every_value_is_described() -> None:
    """The schema is the documentation: each property says what it is, and no other is accepted."""

    def undescribed(schema: dict[str, Any], path: str) -> list[str]:
        found = [] if "description" in schema or "$ref" in schema else [path]
        if schema.get("type") == "object":
            found += [] if "additionalProperties" in schema else [f"{path}: takes anything"]
        for name, each in schema.get("properties", {}).items():
            found += undescribed(each, f"{path}/{name}")
        return found + (undescribed(schema["items"], f"{path}/items") if "items" in schema else [])

    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["kfp"]
    assert not undescribed(schema, "kfp")
    assert schema["properties"].keys() == yaml.safe_load((CHART / "values.yaml").read_text())["kfp"].keys()
