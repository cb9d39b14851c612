"""charts/monitoring, rendered: every pod restricted, the names that others rely on, and what is scraped how."""

import base64
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.monitoring import ExistingPrometheus, MonitoringArgs, Receiver, chart_values
from components.tenancy import Team
from infra import charts
from tests.charts.rendering import NAMESPACE, ROOT, Object, Refused, kind, render

CHART = ROOT / "charts" / "monitoring"
VISION = Team(name="vision", owner="vision-oncall")
OPERATOR = "monitoring.coreos.com"
FULL = MonitoringArgs(
    teams=(VISION,),
    storage_gib=20,
    gateway=True,
    gpus=True,
    retraining=True,
    grafana=True,
    receivers=(Receiver(name="a"),),
)
FORMS = {
    "full": (FULL, True),
    "small": (MonitoringArgs(queueing=False, certificates=False), False),
    "existing": (
        MonitoringArgs(
            teams=(VISION,),
            existing=ExistingPrometheus(namespace="mon", url="http://p.mon.svc", selects={"release": "kps"}),
            gateway=True,
            gpus=True,
        ),
        True,
    ),
}


def chart(scratch: Path) -> Path:
    """Return a copy of the chart with definitions of the operator's kinds, which are not the chart's own."""
    copy = scratch / CHART.name
    shutil.copytree(CHART, copy)
    (copy / "crds").mkdir()
    kinds = {
        "Prometheus": "prometheuses",
        "Alertmanager": "alertmanagers",
        "ServiceMonitor": "servicemonitors",
        "PodMonitor": "podmonitors",
    }
    definitions = [kind(OPERATOR, "v1", name, plural) for name, plural in kinds.items()]
    (copy / "crds" / "operator.yaml").write_text(yaml.safe_dump_all(definitions))
    return copy


def values(args: MonitoringArgs, *, parts: bool) -> dict[str, Any]:
    """Return the chart's values, of a platform with pipelines and serving or without."""
    return chart_values(args, argo=parts, kserve=parts, dashboards=("dashboard-runs",), priority="kiban-platform")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Object]]:
    """Return the objects of each form."""
    scratch = tmp_path_factory.mktemp("render")
    variants = {name: values(args, parts=parts) for name, (args, parts) in FORMS.items()}
    return render(chart(scratch), variants, scratch / "work")


@pytest.fixture(scope="module", params=sorted(FORMS))
def objects(request: pytest.FixtureRequest, rendered: dict[str, list[Object]]) -> list[Object]:
    """Return the objects of a form, each in turn."""
    return rendered[request.param]


def of(objects: list[Object], kind: str) -> dict[str, Object]:
    """Return the objects of a kind by name."""
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def pods(objects: list[Object]) -> dict[str, Object]:
    """Return the pods' specs of the chart's own workloads."""
    return {
        name: each["spec"]["template"]["spec"]
        for kind in ("Deployment", "DaemonSet")
        for name, each in of(objects, kind).items()
    }


def test_every_own_pod_is_restricted(objects: list[Object]) -> None:
    """Pod Security `restricted`, no folder of the node's, a read-only root, requests and limits."""
    for name, spec in pods(objects).items():
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert not [volume for volume in spec.get("volumes", ()) if "hostPath" in volume]
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
            assert "readinessProbe" in container
            assert not [port for port in container["ports"] if "hostPort" in port]


def test_only_who_calls_the_api_has_a_token(rendered: dict[str, list[Object]]) -> None:
    """The operator and kube-state-metrics do, of the chart's own pods; Alertmanager has one for Argo in a volume."""
    specs = pods(rendered["full"])
    assert {name for name, spec in specs.items() if spec.get("automountServiceAccountToken", True)} == {
        "prometheus-operator",
        "kube-state-metrics",
    }
    alertmanager = of(rendered["full"], "Alertmanager")["kiban"]["spec"]
    assert alertmanager["automountServiceAccountToken"] is False
    assert alertmanager["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] == 3600


def test_services_have_the_names_that_others_rely_on(rendered: dict[str, list[Object]]) -> None:
    """Workflows of canaries ask `prometheus`; the rest is in the runbooks."""
    services = {name: each["spec"]["ports"][0]["port"] for name, each in of(rendered["small"], "Service").items()}
    assert services == {"prometheus": 9090, "alertmanager": 9093, "kube-state-metrics": 8080, "node-exporter": 9100}


def test_the_operator_starts_when_its_kinds_are_known_to_be_served(rendered: dict[str, list[Object]]) -> None:
    """Started before, it lets those alone for good that the API server does not list yet."""
    made = {each["kind"]: each for each in rendered["full"] if each["apiVersion"].startswith(OPERATOR)}
    (operator,) = (
        each for each in rendered["full"] if each["kind"] == "Deployment" and "operator" in each["metadata"]["name"]
    )
    after = operator["metadata"]["annotations"]["config.kubernetes.io/depends-on"].split(",")
    names = [f"{OPERATOR}/namespaces/{NAMESPACE}/{kind}/kiban" for kind in ("Prometheus", "Alertmanager")]
    assert after == names
    assert {made[kind]["metadata"]["name"] for kind in ("Prometheus", "Alertmanager")} == {"kiban"}


def test_what_the_operator_makes_is_restricted_and_bounded(rendered: dict[str, list[Object]]) -> None:
    """It drops capabilities itself (0.93); users, limits and how long samples stay are said."""
    for name in ("Prometheus", "Alertmanager"):
        spec = of(rendered["full"], name)["kiban"]["spec"]
        assert spec["securityContext"]["runAsUser"] == 65534
        assert spec["resources"]["limits"]["memory"]
        assert spec["priorityClassName"] == "kiban-platform"
    spec = of(rendered["full"], "Prometheus")["kiban"]["spec"]
    assert (spec["version"], spec["retention"], spec["retentionSize"]) == ("v3.14.0", "15d", "18432MiB")
    claim = spec["storage"]["volumeClaimTemplate"]["spec"]
    assert claim["resources"]["requests"]["storage"] == "20Gi"
    assert of(rendered["small"], "Prometheus")["kiban"]["spec"]["storage"] == {"emptyDir": {}}


def test_a_targets_certificate_that_nobody_signed_is_taken_only_where_it_is_so(
    rendered: dict[str, list[Object]],
) -> None:
    """The API server is verified; Kueue, Argo and KServe sign for themselves at every start."""
    objects = rendered["full"]
    classes = {each["name"]: each for each in of(objects, "Prometheus")["kiban"]["spec"]["scrapeClasses"]}
    assert "insecureSkipVerify" not in classes["api-server"]["tlsConfig"]
    monitors = of(objects, "PodMonitor") | of(objects, "ServiceMonitor")
    secured = {name for name, each in monitors.items() if each["spec"].get("scrapeClass") == "self-signed"}
    assert secured == {"kueue", "workflow-controller", "argo-server", "kserve"}
    assert monitors["api-server"]["spec"]["scrapeClass"] == "api-server"


def test_nothing_on_a_simulated_node_is_a_target(rendered: dict[str, list[Object]]) -> None:
    """Nothing runs there, so nothing could answer; every way to find a target leaves them out."""
    spec = of(rendered["full"], "Prometheus")["kiban"]["spec"]
    for each in spec["scrapeClasses"]:
        assert each["attachMetadata"] == {"node": True}
        assert each["relabelings"][0]["sourceLabels"] == ["__meta_kubernetes_node_label_kiban_dev_simulated"]
    kubelets = yaml.safe_load(base64.b64decode(of(rendered["full"], "Secret")["kubelets"]["data"]["kubelets.yaml"]))
    assert {job["job_name"] for job in kubelets} == {"kubelet", "cadvisor"}
    for job in kubelets:
        assert job["relabel_configs"][0]["action"] == "drop"


def test_names_of_an_exporter_that_speaks_of_others_are_kept(rendered: dict[str, list[Object]]) -> None:
    """Else a workflow's namespace would be the controller's, and the rules would find none of a team's."""
    objects = rendered["full"]
    monitors = of(objects, "PodMonitor") | of(objects, "ServiceMonitor")
    for name in ("kueue", "cert-manager", "workflow-controller", "dcgm-exporter", "kube-state-metrics"):
        spec = monitors[name]["spec"]
        assert (spec.get("podMetricsEndpoints") or spec.get("endpoints"))[0]["honorLabels"] is True, name


def test_a_part_that_is_not_there_is_not_scraped(rendered: dict[str, list[Object]]) -> None:
    """A target that is never there would be an alert that never ends."""
    assert of(rendered["small"], "PodMonitor").keys() == {"prometheus-operator"}


def test_an_existing_prometheus_finds_what_is_there_for_it(rendered: dict[str, list[Object]]) -> None:
    """By its labels, with a token in a Secret: the scrape classes are Kiban's Prometheus'."""
    objects = rendered["existing"]
    assert not {"Deployment", "DaemonSet", "Prometheus", "Alertmanager"} & {each["kind"] for each in objects}
    for name, each in of(objects, "PodMonitor").items():
        assert each["metadata"]["labels"]["release"] == "kps", name
        assert "scrapeClass" not in each["spec"]
    endpoint = of(objects, "PodMonitor")["kueue"]["spec"]["podMetricsEndpoints"][0]
    assert endpoint["authorization"]["credentials"] == {"name": "scraper", "key": "token"}
    assert of(objects, "Secret")["scraper"]["type"] == "kubernetes.io/service-account-token"


def test_kube_state_metrics_reads_no_secret(rendered: dict[str, list[Object]]) -> None:
    """What it may list is what it is told to list."""
    objects = rendered["full"]
    rules = of(objects, "ClusterRole")["kiban-kube-state-metrics"]["rules"]
    granted = {resource for rule in rules for resource in rule["resources"]}
    args = pods(objects)["kube-state-metrics"]["containers"][0]["args"]
    listed = next(arg for arg in args if arg.startswith("--resources=")).removeprefix("--resources=").split(",")
    assert granted == set(listed)
    assert not granted & {"secrets", "configmaps"}
    assert {tuple(rule["verbs"]) for rule in rules} == {("list", "watch")}


def test_the_operator_sees_secrets_of_its_namespace_only(rendered: dict[str, list[Object]]) -> None:
    """Its rights in the cluster are to read the names of namespaces and storage classes."""
    objects = rendered["full"]
    rules = of(objects, "ClusterRole")["kiban-prometheus-operator"]["rules"]
    assert {resource for rule in rules for resource in rule["resources"]} == {"namespaces", "storageclasses"}
    assert f"--namespaces={NAMESPACE}" in pods(objects)["prometheus-operator"]["containers"][0]["args"]


def test_every_service_finds_a_pod(rendered: dict[str, list[Object]]) -> None:
    """By labels that the chart's workloads have, or that the operator gives (0.93)."""
    objects = rendered["full"]
    made = [each["spec"]["template"]["metadata"]["labels"] for each in objects if "template" in each.get("spec", {})]
    made += [
        {"app.kubernetes.io/name": "prometheus", "prometheus": "kiban"},
        {"app.kubernetes.io/name": "alertmanager", "alertmanager": "kiban"},
    ]
    for name, service in of(objects, "Service").items():
        selector = service["spec"]["selector"].items()
        assert any(selector <= labels.items() for labels in made), name


def test_the_images_are_those_that_the_values_name(rendered: dict[str, list[Object]]) -> None:
    """One list says which there are, also of those in flags."""
    objects = rendered["full"]
    text = yaml.safe_dump_all(objects)
    for image in (*charts.own_images("monitoring", "stack"), *charts.own_images("monitoring", "grafana")):
        assert image in text, image


def test_a_value_that_the_chart_does_not_know_is_refused(tmp_path: Path) -> None:
    """A setting that was misspelt would else be without effect."""
    given = values(FULL, parts=True)
    given["stack"]["retentions"] = "1d"
    with pytest.raises(Refused, match="retentions"):
        render(chart(tmp_path), {"typo": given}, tmp_path / "work")


def test_every_value_is_described() -> None:
    """The schema is the documentation: no property without a text, no object that takes others."""

    def check(schema: dict[str, Any], path: str) -> None:
        for name, each in schema.get("properties", {}).items():
            assert each.get("description"), f"{path}.{name}"
            check(each, f"{path}.{name}")
        if "properties" in schema:
            assert schema["additionalProperties"] is False, path

    check(yaml.safe_load((CHART / "values.schema.json").read_text()), "")
