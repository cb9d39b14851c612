"""Monitoring as data: what is refused, who is told what, which ways are open, and what is declared in which order."""

import dataclasses as dc
import json
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from pulumi.runtime.mocks import MockCallArgs, MockMonitor, MockResourceArgs, Mocks, set_mocks

from components._alerting import alertmanager
from components._databases import InCluster
from components._scraping import own_policies, ways, ways_in
from components.foundation import Foundation, FoundationArgs
from components.gpu_node_pools import GpuNodePools, GpuNodePoolsArgs
from components.metadata_store import MetadataStore, MetadataStoreArgs
from components.monitoring import (
    KINDS,
    NAMESPACE,
    ExistingPrometheus,
    Monitoring,
    MonitoringArgs,
    Receiver,
    chart_values,
    own_kinds,
)
from components.pipeline_engine import PipelineEngine, PipelineEngineArgs
from components.tenancy import Team, Tenancy, TenancyArgs
from infra import toolchain
from tests.charts.policies import reaches
from tests.charts.rendering import Object

VISION = Team(name="vision", owner="vision-oncall")
EXISTING = ExistingPrometheus(namespace="mon", url="http://prometheus.mon.svc:9091", selects={"release": "kps"})
ONCALL = Receiver(name="oncall", kind="pagerduty")
CHAT = Receiver(name="chat", severities=("critical", "warning"), port=8443)
ALL = MonitoringArgs(
    teams=(VISION,), receivers=(ONCALL, CHAT), gateway=True, gpus=True, devices="gpu-operator", retraining=True
)
PROMETHEUS = (NAMESPACE, {"app.kubernetes.io/name": "prometheus", "prometheus": "kiban"})
ALERTMANAGER = (NAMESPACE, {"app.kubernetes.io/name": "alertmanager", "alertmanager": "kiban"})
CANARIES = {"app.kubernetes.io/name": "canary-controller"}


@pytest.mark.parametrize(
    ("build", "given", "accepted"),
    [
        (lambda: MonitoringArgs(retention_days=0), "retention_days=0", "1 to 3650"),
        (lambda: MonitoringArgs(storage_gib=0), "storage_gib=0", "None for none"),
        (lambda: MonitoringArgs(storage_class="fast"), "storage_class='fast'", "with storage_gib"),
        (lambda: MonitoringArgs(storage_gib=1, storage_class=""), "storage_class=''", "a name"),
        (lambda: MonitoringArgs(existing=EXISTING, receivers=(CHAT,)), "existing with receivers", "its own to have"),
        (lambda: MonitoringArgs(existing=EXISTING, storage_gib=1), "or storage_gib", "its own to have"),
        (lambda: MonitoringArgs(receivers=(CHAT, CHAT)), "'chat' twice", "each name once"),
        (lambda: Receiver(name="On call"), "'On call'", "lower-case letters"),
        (lambda: Receiver(name="retrain-vision"), "'retrain-vision'", "neither 'retrain-' nor"),
        (lambda: Receiver(name="x", kind="email"), "kind='email'", "webhook, pagerduty"),
        (lambda: Receiver(name="x", severities=()), "severities=()", "critical, warning, info"),
        (lambda: Receiver(name="x", severities=("page",)), "severities=('page',)", "critical, warning, info"),
        (lambda: Receiver(name="x", port=0), "port=0", "1 to 65535"),
        (lambda: dc.replace(EXISTING, namespace=NAMESPACE), "namespace='kiban-monitoring'", "another than"),
        (lambda: dc.replace(EXISTING, url="prometheus:9090"), "url='prometheus:9090'", "http[s]://HOST[:PORT]"),
    ],
)
def test_a_bad_value_is_refused_with_what_was_given_and_what_is_accepted(build: Any, given: str, accepted: str) -> None:  # noqa: ANN401 - any constructor
    """Every bound is checked, and the one-line message names the value and the bound."""
    with pytest.raises(ValueError, match="accepted") as refusal:
        build()
    message = str(refusal.value)
    assert given in message
    assert accepted in message
    assert "\n" not in message


def routed(configuration: dict[str, Any], scratch: Path, **alert: str) -> list[str]:
    """Return the receivers to which Alertmanager's own amtool says that an alert goes."""
    file = scratch / "alertmanager.yaml"
    file.write_text(yaml.safe_dump(configuration))
    amtool = toolchain.resolve("amtool")["amtool"]
    tags = [f"{name}={value}" for name, value in alert.items()]
    command = [str(amtool), "config", "routes", "test", f"--config.file={file}", *tags]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return str(done.stdout).strip().split(",")


def test_alertmanager_takes_the_configuration(tmp_path: Path) -> None:
    """Its own tool reads all of it: every receiver, route and inhibition."""
    file = tmp_path / "alertmanager.yaml"
    file.write_text(yaml.safe_dump(alertmanager(ALL)))
    amtool = toolchain.resolve("amtool")["amtool"]
    done = subprocess.run([amtool, "check-config", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "4 receivers" in done.stdout


@pytest.mark.parametrize(
    ("alert", "receivers"),
    [
        ({"alertname": "A", "severity": "critical"}, ["oncall", "chat"]),
        ({"alertname": "A", "severity": "warning"}, ["chat"]),
        ({"alertname": "A", "severity": "info"}, ["none"]),
        (
            {"alertname": "ModelDrift", "severity": "warning", "team": "vision", "retrain": "true"},
            ["retrain-vision", "chat"],
        ),
        ({"alertname": "ModelDrift", "severity": "info", "team": "vision"}, ["none"]),
        ({"alertname": "ModelDrift", "severity": "info", "team": "ranking", "retrain": "true"}, ["none"]),
    ],
)
def test_an_alert_goes_to_all_whom_it_concerns(alert: dict[str, str], receivers: list[str], tmp_path: Path) -> None:
    """By severity to people, and to the team's retraining only what asks for that."""
    assert routed(alertmanager(ALL), tmp_path, **alert) == receivers


def test_nothing_is_retrained_where_no_loop_is() -> None:
    """A receiver without a workflow behind it would fail at every alert."""
    names = [each["name"] for each in alertmanager(dc.replace(ALL, retraining=False))["receivers"]]
    assert names == ["none", "oncall", "chat"]


def test_the_configuration_names_files_of_secrets_only() -> None:
    """An address is often all that one needs to post, so it is in a Secret; a token is renewed in its file."""
    text = json.dumps(alertmanager(ALL))
    assert '"routing_key_file": "/etc/alertmanager/secrets/alertmanager-receivers/oncall"' in text
    assert '"url_file": "/etc/alertmanager/secrets/alertmanager-receivers/chat"' in text
    assert '"credentials_file": "/var/run/secrets/kiban.dev/argo/token"' in text
    assert ALL.credentials == ("alerts-oncall", "alerts-chat")
    assert dc.replace(ALL, grafana=True).credentials[-1] == "grafana-admin"


def test_only_alerts_that_both_have_a_label_silence_each_other() -> None:
    """Alertmanager takes two alerts that lack a label for equal in it, so each rule asks that it is there."""
    for rule in alertmanager(ALL)["inhibit_rules"]:
        for label in rule["equal"]:
            assert f'{label}=~".+"' in rule["source_matchers"]
            assert f'{label}=~".+"' in rule["target_matchers"]


def test_what_asks_for_a_retraining_is_never_silenced() -> None:
    """A model that answers slowly would else not be retrained."""
    first = alertmanager(ALL)["inhibit_rules"][0]
    assert 'retrain!="true"' in first["target_matchers"]


def policies(args: MonitoringArgs) -> list[Object]:
    """Return the NetworkPolicies of a platform with all parts, as objects."""
    found = ways(args, argo=True, kserve=True)
    each = {NAMESPACE: own_policies(args, found)} | {name: ways_in(args, ports) for name, ports in found.items()}
    return [
        {"kind": "NetworkPolicy", "metadata": {"name": name, "namespace": space}, "spec": spec}
        for space, those in each.items()
        for name, spec in those.items()
    ]


@pytest.mark.parametrize(
    ("namespace", "port"),
    [
        ("kueue-system", 8443),
        ("cert-manager", 9402),
        ("kubeflow", 9090),
        ("kubeflow", 2746),
        ("kserve", 8443),
        ("envoy-gateway-system", 19001),
        ("gpu-operator", 9400),
        ("team-vision", 8080),
    ],
)
def test_what_is_scraped_is_open_on_both_sides_to_prometheus_alone(namespace: str, port: int) -> None:
    """Each side is closed by default; whoever else is in the monitoring namespace is not let in."""
    objects = policies(ALL)
    assert reaches(objects, source=PROMETHEUS, target=(namespace, {}), port=port)
    assert not reaches(objects, source=(NAMESPACE, {}), target=(namespace, {}), port=port)
    assert not reaches(objects, source=PROMETHEUS, target=(namespace, {}), port=port + 1)
    out = own_policies(ALL, ways(ALL, argo=True, kserve=True))["allow-scraping"]
    assert out["podSelector"]["matchLabels"] == PROMETHEUS[1]
    assert [
        each
        for each in out["egress"]
        if "to" in each
        and each["to"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] == namespace
        and port in {one["port"] for one in each["ports"]}
    ]


def test_an_exporter_of_the_clusters_own_is_reached_wherever_it_is() -> None:
    """One of the platform's is reached in its namespace alone."""

    def beyond(args: MonitoringArgs) -> set[int]:
        out = own_policies(args, ways(args, argo=False, kserve=False))["allow-scraping"]
        return {port["port"] for each in out["egress"] if "to" not in each for port in each["ports"]}

    assert 9400 not in beyond(ALL)
    assert 9400 in beyond(dc.replace(ALL, devices=None))
    assert 9400 not in beyond(dc.replace(ALL, devices=None, gpus=False))


def test_alerts_reach_argo_and_their_receivers_and_nothing_else() -> None:
    """The ports are those of the data; without a loop there is no way to Argo."""
    out = own_policies(ALL, ways(ALL, argo=True, kserve=True))["allow-alerting"]
    assert [[port["port"] for port in each["ports"]] for each in out["egress"]] == [[2746], [443, 8443]]
    assert reaches(policies(ALL), source=ALERTMANAGER, target=("kubeflow", {}), port=2746)
    quiet = MonitoringArgs(teams=(VISION,))
    assert "allow-alerting" not in own_policies(quiet, ways(quiet, argo=True, kserve=False))
    assert not reaches(policies(quiet), source=ALERTMANAGER, target=("kubeflow", {}), port=2746)


def test_what_moves_canaries_asks_prometheus_and_no_other_pod_does() -> None:
    """Neither KServe's own, nor a team's."""
    objects = policies(ALL)
    assert reaches(objects, source=("kserve", CANARIES), target=PROMETHEUS, port=9090)
    for other in (("kserve", {}), ("team-vision", {}), ("team-vision", CANARIES)):
        assert not reaches(objects, source=other, target=PROMETHEUS, port=9090)
    assert reaches(objects, source=PROMETHEUS, target=("kserve", CANARIES), port=8080)


def test_an_existing_prometheus_is_let_in_from_its_namespace() -> None:
    """What labels its pods have is not known, its namespace is; and it is asked at its own port."""
    args = MonitoringArgs(teams=(VISION,), existing=EXISTING, gateway=True)
    objects = policies(args)
    assert reaches(objects, source=("mon", {}), target=("kueue-system", {}), port=8443)
    assert not reaches(objects, source=PROMETHEUS, target=("kueue-system", {}), port=8443)
    out = ways_in(args, ways(args, argo=True, kserve=True)["kserve"])["allow-prometheus"]
    assert out["egress"][0]["ports"][0]["port"] == 9091


def test_nothing_is_opened_for_what_is_not_there() -> None:
    """A namespace that does not exist could not have a policy either."""
    args = MonitoringArgs(teams=(VISION,), queueing=False, certificates=False)
    assert ways(args, argo=False, kserve=False) == {}


def test_values_are_what_an_environment_decides() -> None:
    """All else is once, in the chart's own values; a tenth of the volume is left for what Prometheus adds to blocks."""
    args = MonitoringArgs(retention_days=30, storage_gib=100, storage_class="fast", receivers=(CHAT,))
    stack = chart_values(args, argo=True, kserve=False, dashboards=(), priority="first")["stack"]
    assert (stack["retention"], stack["retentionSize"]) == ("30d", "92160MiB")
    assert stack["storage"]["storageClassName"] == "fast"
    assert stack["alertmanager"]["secrets"] == ["alertmanager-receivers"]


def crd(plural: str) -> Object:
    """Return a definition whose schema has a text, and a property that is named like one."""
    schema = {"description": "told", "properties": {"description": {"type": "string", "description": "told"}}}
    return {
        "metadata": {"name": f"{plural}.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": {"kind": plural.title(), "plural": plural},
            "versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}],
        },
    }


def test_kinds_are_those_that_the_operator_needs_without_their_texts() -> None:
    """The texts are three quarters of them; a property that is called description stays."""
    found = own_kinds({crd(plural)["metadata"]["name"]: crd(plural) for plural in (*KINDS, "thanosrulers")})
    assert found.keys() == {f"{plural}.monitoring.coreos.com" for plural in KINDS}
    schema = found["prometheuses.monitoring.coreos.com"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert schema == {"properties": {"description": {"type": "string"}}}


class Monitor(MockMonitor):
    """Remembers of every resource what it waits for."""

    after: dict[str, set[str]]

    def RegisterResource(self, request: Any) -> Any:  # noqa: ANN401, N802  as the base class has it
        """Take a resource."""
        self.after[request.name] = {urn.rsplit("::", 1)[-1] for urn in request.dependencies}
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]


class Recorder(Mocks):
    """Remembers every resource."""

    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {}

    def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        """Take a resource as it is."""
        if args.typ != "kubernetes:helm.sh/v4:Chart":  # it has the component's name
            self.made[args.name] = dict(args.inputs) | {"type": args.typ}
        return f"{args.name}-id", dict(args.inputs)

    def call(self, args: MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        """Answer no function."""
        raise NotImplementedError(args.token)


def declared(args: MonitoringArgs) -> tuple[dict[str, dict[str, Any]], dict[str, set[str]]]:
    """Return what the component declares on a platform with pipelines and serving, and what each waits for."""
    recorder = Recorder()
    monitor = Monitor(recorder)
    monitor.after = {}
    set_mocks(recorder, project="kiban", stack="small", preview=False, monitor=monitor)

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def program() -> None:
        foundation = Foundation("foundation", FoundationArgs())
        pools = GpuNodePools("pools", GpuNodePoolsArgs(pools=()), foundation=foundation)
        tenancy = Tenancy("tenancy", TenancyArgs(teams=(VISION,)), foundation=foundation)
        metadata = MetadataStore(
            "metadata",
            MetadataStoreArgs(teams=(VISION,), postgres=InCluster(storage_gib=1)),
            foundation=foundation,
            tenancy=tenancy,
            credentials=defaultdict(lambda: "secret"),
            slots={},
        )
        pipelines = PipelineEngine(
            "pipelines",
            PipelineEngineArgs(teams=(VISION,)),
            foundation=foundation,
            tenancy=tenancy,
            metadata=metadata,
            chart="/charts/pipelines",
            crds={},
            templates={},
        )
        made = Monitoring(
            "monitoring",
            args,
            foundation=foundation,
            tenancy=tenancy,
            pools=pools,
            metadata=metadata,
            pipelines=pipelines,
            serving=pipelines,  # any resource
            groups=[{"name": "kiban-runs", "rules": []}],
            dashboards={"runs.json": "{}"},
            credentials=defaultdict(lambda: "secret"),
            chart="/charts/monitoring",
            crds={crd(plural)["metadata"]["name"]: crd(plural) for plural in KINDS},
        )
        assert made.prometheus == (
            args.existing.url if args.existing else "http://prometheus.kiban-monitoring.svc:9090"
        )

    program()
    return {name: each for name, each in recorder.made.items() if name.startswith("monitoring")}, monitor.after


def test_the_type_is_the_one_that_states_have() -> None:
    """Renaming it replaces everything under it."""
    made, _ = declared(MonitoringArgs(teams=(VISION,)))
    assert made["monitoring"]["type"] == "kiban:components:Monitoring"


def test_kinds_are_there_before_what_is_of_them() -> None:
    """The chart's objects and the rules are of the operator's kinds."""
    made, after = declared(MonitoringArgs(teams=(VISION,)))
    kind = "monitoring-crd-prometheuses.monitoring.coreos.com"
    assert kind in made
    assert kind in after["monitoring-kiban-runs"]
    assert {kind, "monitoring-alertmanager-configuration"} <= after["monitoring"]


def test_rules_and_dashboards_are_found_by_who_reads_them() -> None:
    """A group is an object of its own; a dashboard has the label by which Grafana's sidecar finds it."""
    made, _ = declared(MonitoringArgs(teams=(VISION,), existing=EXISTING))
    rule = made["monitoring-kiban-runs"]
    assert rule["metadata"]["labels"]["release"] == "kps"
    assert rule["spec"]["groups"][0]["name"] == "kiban-runs"
    board = made["monitoring-dashboard-runs.json"]
    assert (board["metadata"]["labels"]["grafana_dashboard"], board["data"]) == ("1", {"runs.json": "{}"})


def test_no_kind_is_installed_over_those_of_an_existing_operator() -> None:
    """They are its own, maybe of another version."""
    made, _ = declared(MonitoringArgs(teams=(VISION,), existing=EXISTING))
    assert not [name for name in made if name.startswith("monitoring-crd-")]


def test_a_way_in_waits_for_the_namespace_that_it_is_in() -> None:
    """Namespaces are other components' to make."""
    made, after = declared(MonitoringArgs(teams=(VISION,)))
    assert made["monitoring-kubeflow-allow-monitoring"]["metadata"]["namespace"] == "kubeflow"
    assert "metadata-kubeflow" in after["monitoring-kubeflow-allow-monitoring"]
    assert "tenancy-vision" in after["monitoring-team-vision-allow-monitoring"]


def test_a_teams_way_in_waits_for_nothing_of_other_teams() -> None:
    """Two hundred teams that wait for each other's objects are three quarters of a million lines of the state."""
    made, after = declared(MonitoringArgs(teams=(VISION,)))
    assert made["monitoring-team-vision-allow-monitoring"]["metadata"]["namespace"] == "team-vision"
    assert after["monitoring-team-vision-allow-monitoring"] == {"tenancy-vision"}
