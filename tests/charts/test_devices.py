"""charts/devices, rendered, against what upstream runs on a node; and the values of upstream's charts against theirs.

That a device is found, offered or measured is not tested: nothing here has one.
"""

import copy
import dataclasses as dc
import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from components._devices import DevicePlugin, Driver, GpuOperator, discovery_values, operator_values, plugin_values
from components._labels import POOL
from components._pools import node_labels, node_taints
from components.gpu_node_pools import GpuPool, Taint, device_configuration
from infra import charts
from tests.charts.conformance import differences, faults, flat
from tests.charts.rendering import NAMESPACE, ROOT, Object, Refused, render

CHART = ROOT / "charts" / "devices"
ENVIRONMENTS = sorted(path.stem for path in (ROOT / "stacks").glob("[a-z]*.py"))
HERE = Path(__file__).parent
TABLE: dict[str, Any] = yaml.safe_load((HERE / "device_plugin_0_20_0.yaml").read_text())
VALUES: dict[str, Any] = yaml.safe_load((HERE / "gpu_operator_26_7_0.yaml").read_text())
BUILT = GpuOperator(driver=Driver(version="595.91.07", system="ubuntu24.04"))
EXCEPTIONS = {
    ("device-plugin", "pod"): "hostPath",  # the kubelet's socket, which is root's
    ("feature-discovery", "pod"): "hostPath",  # /sys
    ("feature-discovery", "feature-discovery"): "privileged",  # a device's whole PCI configuration
    ("dcgm-exporter", "pod"): "hostPath",  # the kubelet's socket that says whose pod has which device
    ("dcgm-exporter", "exporter"): "SYS_ADMIN",  # profiling
}
"""What keeps the namespace from Pod Security `baseline`, by workload and container. All run as root besides."""


def pools_of(name: str) -> tuple[GpuPool, ...]:
    """Return the pools of an environment."""
    pools: tuple[GpuPool, ...] = importlib.import_module(f"stacks.{name}").environment.gpu_pools
    return pools


def uncut(name: str) -> tuple[GpuPool, ...]:
    """Return the environment's pools that the device plugin alone can serve."""
    return tuple(pool for pool in pools_of(name) if "nvidia.com/mig.config" not in node_labels(pool))


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Object]]:
    """Return the chart's objects for the pools of each environment, and with a RuntimeClass."""
    variants = {name: plugin_values(DevicePlugin(), uncut(name)) for name in ENVIRONMENTS}
    variants["runtime"] = plugin_values(DevicePlugin(runtime_class="nvidia"), uncut("ci"))
    return render(CHART, variants, tmp_path_factory.mktemp("render"))


def of(objects: Iterable[Object], kind: str) -> dict[str, Object]:
    """Return the objects of a kind by name."""
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def pods(objects: Iterable[Object]) -> dict[str, Object]:
    """Return the pods' specs by workload."""
    return {name: each["spec"]["template"]["spec"] for name, each in of(objects, "DaemonSet").items()}


def containers(pod: Object) -> list[Object]:
    """Return all containers of a pod."""
    return [*pod.get("initContainers", ()), *pod["containers"]]


def found(objects: list[Object]) -> dict[str, str]:
    """Return what a rendered chart comes to, by the paths of the table."""
    facts = {name: _workload(pod) for name, pod in pods(objects).items()}
    return flat({"daemonsets": facts, "rights": _rights(objects)})


def _workload(pod: Object) -> dict[str, Any]:
    sources = {each["name"]: _source(each) for each in pod["volumes"]}
    facts = {
        "priority": pod["priorityClassName"],
        "processes": "shared" if pod.get("shareProcessNamespace") else None,
        "token": "yes" if pod["automountServiceAccountToken"] else "no",
        "containers": {each["name"]: _container(each, sources) for each in containers(pod)},
    }
    return {key: value for key, value in facts.items() if value}


def _source(volume: Object) -> str:
    if "hostPath" in volume:
        return f"host:{volume['hostPath']['path']}"
    return f"cm:{volume['configMap']['name']}" if "configMap" in volume else "scratch"


def _container(each: Object, sources: dict[str, str]) -> dict[str, Any]:
    security = each["securityContext"]
    capabilities = security.get("capabilities", {})
    given = {
        "privileged": security.get("privileged"),
        "user": security.get("runAsUser"),
        "escalation": security.get("allowPrivilegeEscalation"),
        "drop": " ".join(capabilities.get("drop", ())) or None,
        "add": " ".join(capabilities.get("add", ())) or None,
    }
    facts = {
        "image": each["image"],
        "command": " ".join(each.get("command", ())),
        "args": " ".join(each.get("args", ())),
        "env": {one["name"]: _value(one) for one in each["env"]},
        "ports": {port["containerPort"]: port["name"] for port in each.get("ports", ())},
        "mounts": {
            one["mountPath"]: sources[one["name"]] + (":ro" if one.get("readOnly") else "")
            for one in each["volumeMounts"]
        },
        "readiness": _probe(each.get("readinessProbe")),
        "liveness": _probe(each.get("livenessProbe")),
        "security": {key: value for key, value in given.items() if value is not None},
    }
    return {key: value for key, value in facts.items() if value}


def _value(variable: Object) -> str:
    path = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
    return f"field:{path}" if path else str(variable.get("value", ""))


def _probe(probe: Object | None) -> str | None:
    if probe is None:
        return None
    return f"GET {probe['httpGet']['port']}{probe['httpGet']['path']} after {probe['initialDelaySeconds']}"


def _rights(objects: list[Object]) -> dict[str, list[str]]:
    """Return what each account may do, and where."""
    rights: dict[str, list[str]] = {}
    for kind, where in (("ClusterRole", "everywhere"), ("Role", "here")):
        for binding in of(objects, f"{kind}Binding").values():
            rules = of(objects, kind)[binding["roleRef"]["name"]]["rules"]
            granted = [
                f"{verb} {what} {where}" for rule in rules for what in rule["resources"] for verb in rule["verbs"]
            ]
            for subject in binding["subjects"]:
                assert subject["namespace"] == NAMESPACE
                rights.setdefault(subject["name"], []).extend(granted)
    return rights


@pytest.mark.parametrize("name", [*ENVIRONMENTS, "runtime"])
def test_what_runs_on_a_node_is_upstreams_but_for_what_is_listed(name: str, rendered: dict[str, list[Object]]) -> None:
    """Each difference is a listed deviation, and each listed deviation is a difference."""
    told = faults(TABLE["deviations"], differences(flat(TABLE["facts"]), found(rendered[name])), "standalone")
    assert not told, "\n".join(told)


def test_every_deviation_has_a_reason() -> None:
    """A list without reasons would only be a way to make the comparison pass."""
    assert all(each.keys() == {"at", "reason"} and len(each["reason"]) > 8 for each in TABLE["deviations"])


def another_image(objects: list[Object]) -> None:
    """Break the chart."""
    pods(objects)["device-plugin"]["containers"][0]["image"] = "nvcr.io/nvidia/k8s-device-plugin:v0.19.3"


def another_label(objects: list[Object]) -> None:
    """Break the chart."""
    (each,) = (one for one in pods(objects)["device-plugin"]["initContainers"][0]["env"] if one["name"] == "NODE_LABEL")
    each["value"] = "nvidia.com/config"


def no_socket(objects: list[Object]) -> None:
    """Break the chart."""
    del pods(objects)["device-plugin"]["containers"][0]["volumeMounts"][0]


def no_profiling(objects: list[Object]) -> None:
    """Break the chart."""
    del pods(objects)["dcgm-exporter"]["containers"][0]["securityContext"]["capabilities"]["add"]


def one_more_right(objects: list[Object]) -> None:
    """Break the chart."""
    of(objects, "ClusterRole")["kiban-device-configuration"]["rules"][0]["verbs"].append("patch")


@pytest.mark.parametrize(
    ("broken", "path"),
    [
        (another_image, "daemonsets/device-plugin/containers/device-plugin/image"),
        (another_label, "daemonsets/device-plugin/containers/init/env/NODE_LABEL"),
        (no_socket, "device-plugin/mounts//var/lib/kubelet/device-plugins"),
        (no_profiling, "daemonsets/dcgm-exporter/containers/exporter/security/add"),
        (one_more_right, "rights/device-plugin/patch nodes everywhere"),
    ],
)
def test_what_is_not_listed_is_a_fault(
    broken: Callable[[list[Object]], None], path: str, rendered: dict[str, list[Object]]
) -> None:
    """Each kind of fact, changed in the chart, is told by its path."""
    objects = copy.deepcopy(rendered["ci"])
    broken(objects)
    told = faults(TABLE["deviations"], differences(flat(TABLE["facts"]), found(objects)), "standalone")
    assert any(path in fault for fault in told), told


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_what_is_beyond_pod_security_is_listed(name: str, rendered: dict[str, list[Object]]) -> None:
    """By workload and container; the rest of each drops all capabilities and cannot gain any."""
    beyond: dict[tuple[str, str], str] = {}
    for workload, pod in pods(rendered[name]).items():
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert pod["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
        if any("hostPath" in volume for volume in pod["volumes"]):
            beyond[workload, "pod"] = "hostPath"
        for each in containers(pod):
            security = each["securityContext"]
            if security.get("privileged"):
                beyond[workload, each["name"]] = "privileged"
                continue
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"]["drop"] == ["ALL"]
            if added := security["capabilities"].get("add"):
                beyond[workload, each["name"]] = " ".join(added)
    assert beyond == EXCEPTIONS


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_it_runs_on_every_node_of_the_pools_and_on_no_other(name: str, rendered: dict[str, list[Object]]) -> None:
    """Whatever its taints are, or its devices would be nobody's."""
    for pod in pods(rendered[name]).values():
        (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        (expression,) = term["matchExpressions"]
        assert (expression["key"], expression["operator"]) == (POOL, "In")
        assert expression["values"] == [node_labels(pool)[POOL] for pool in uncut(name)]
        borne = {(each["key"], each["effect"]) for each in pod["tolerations"]}
        for pool in uncut(name):
            assert {(taint.key, taint.effect) for taint in node_taints(pool)} <= borne
        assert {each["operator"] for each in pod["tolerations"]} == {"Exists"}


def test_each_container_has_requests_and_limits_and_each_workload_its_labels(
    rendered: dict[str, list[Object]],
) -> None:
    """The three of the selector are frozen; by another label monitoring finds the exporter, with the operator too."""
    for name, each in of(rendered["ci"], "DaemonSet").items():
        selector = each["spec"]["selector"]["matchLabels"]
        assert selector == {
            "app.kubernetes.io/name": name,
            "app.kubernetes.io/instance": "devices",
            "app.kubernetes.io/component": name,
        }
        assert selector.items() <= each["spec"]["template"]["metadata"]["labels"].items()
        for one in containers(each["spec"]["template"]["spec"]):
            assert one["resources"]["requests"].keys() == one["resources"]["limits"].keys() == {"cpu", "memory"}
    monitors = (ROOT / "charts" / "monitoring" / "templates" / "targets.yaml").read_text()
    exporter = of(rendered["ci"], "DaemonSet")["dcgm-exporter"]["spec"]["template"]
    assert f"matchLabels: {{app: {exporter['metadata']['labels']['app']}}}" in monitors
    assert exporter["spec"]["containers"][0]["ports"][0]["name"] == "metrics"


def test_another_configuration_makes_the_pods_that_read_it_again(rendered: dict[str, list[Object]]) -> None:
    """The configuration manager follows the node's label, not the content of the file."""
    annotations = [
        of(rendered[name], "DaemonSet")[workload]["spec"]["template"]["metadata"]["annotations"]
        for name in ("ci", "dev")
        for workload in ("device-plugin", "feature-discovery")
    ]
    assert annotations[0] == annotations[1] != annotations[2] == annotations[3]


def test_the_runtime_class_is_of_every_pod_or_of_none(rendered: dict[str, list[Object]]) -> None:
    """All of them see devices."""
    assert {pod.get("runtimeClassName") for pod in pods(rendered["runtime"]).values()} == {"nvidia"}
    assert {pod.get("runtimeClassName") for pod in pods(rendered["ci"]).values()} == {None}


def test_the_images_are_those_that_the_values_name(rendered: dict[str, list[Object]]) -> None:
    """One list says which there are."""
    named = {each["image"] for pod in pods(rendered["ci"]).values() for each in containers(pod)}
    assert named == set(charts.own_images("devices", "devices"))


def test_a_value_that_the_chart_does_not_know_is_refused(tmp_path: Path) -> None:
    """A setting that was misspelt would else be without effect."""
    given = plugin_values(DevicePlugin(), uncut("ci"))
    given["devices"]["runtimeClass"] = "nvidia"
    with pytest.raises(Refused, match="runtimeClass"):
        render(CHART, {"typo": given}, tmp_path / "work")


def test_every_value_is_described() -> None:
    """The schema is the documentation: no property without a text, no object that takes others."""

    def check(schema: dict[str, Any], path: str) -> None:
        for name, each in schema.get("properties", {}).items():
            assert each.get("description"), f"{path}.{name}"
            check(each, f"{path}.{name}")
        if "properties" in schema:
            assert schema["additionalProperties"] is False, path

    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    check(schema, "")
    for name, each in schema["definitions"].items():
        check(each, name)


def paths_of(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Return the leaves of values by path; a list, and what Kubernetes calls an affinity, is one."""
    leaves: dict[str, Any] = {}
    for key, each in values.items():
        here = f"{path}/{key}" if path else key
        leaves |= paths_of(each, here) if isinstance(each, dict) and key != "affinity" else {here: each}
    return leaves


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_operators_chart_knows_every_value(name: str) -> None:
    """And each that it knows is used by an environment's; what is relied on is not given."""
    every = paths_of(operator_values(BUILT, pools_of(name), priority="kiban-platform"))
    assert every.keys() == VALUES["given"].keys()
    assert not every.keys() & VALUES["relied-on"].keys()
    for least in (GpuOperator(), GpuOperator(toolkit=False)):
        assert paths_of(operator_values(least, uncut(name), priority="")).keys() <= every.keys()


def test_what_the_operator_is_told() -> None:
    """All that decides what is installed on a node, as the chart of 26.7 has it."""
    told = paths_of(operator_values(BUILT, pools_of("ci"), priority="kiban-platform"))
    assert told["driver/version"] == "595.91.07"
    assert told["driver/upgradePolicy/waitForCompletion/podSelector"] == "batch.kubernetes.io/job-name"
    assert told["mig/strategy"] == "mixed"
    assert told["dcgmExporter/serviceMonitor/enabled"] is False
    assert told["operator/priorityClassName"] == "kiban-platform"
    assert all(told[f"{part}/enabled"] for part in ("driver", "toolkit", "cdi", "migManager"))
    maps = device_configuration(pools_of("ci"))
    assert {told["devicePlugin/config/name"], told["migManager/config/name"]} == maps.keys()
    cuts = yaml.safe_load(maps[told["migManager/config/name"]]["config.yaml"])["mig-configs"]
    assert told["migManager/config/default"] in cuts
    for pool in pools_of("ci"):
        labels = node_labels(pool)
        assert labels["nvidia.com/device-plugin.config"] in maps[told["devicePlugin/config/name"]]
        assert labels.get("nvidia.com/mig.config", told["migManager/config/default"]) in cuts


def test_what_is_on_the_nodes_image_is_not_installed() -> None:
    """Driver and toolkit; and no MIG manager where nothing is cut."""
    told = operator_values(GpuOperator(toolkit=False), uncut("ci"), priority="")
    assert told["driver"] == told["toolkit"] == told["migManager"] == {"enabled": False}


def test_the_operators_pods_bear_every_taint_of_the_pools() -> None:
    """Those that look at nodes too: on a node that nothing has looked at, the operator does nothing."""
    taint = Taint(key="example.com/team", value="a", effect="NoExecute")
    spot = GpuPool(name="t4", accelerator="Tesla-T4", gpus_per_node=1, nodes=1, spot=True, taints=(taint,))
    told = operator_values(GpuOperator(), (spot,), priority="")
    borne = told["daemonsets"]["tolerations"]
    assert borne == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "kiban.dev/spot", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "example.com/team", "operator": "Exists", "effect": "NoExecute"},
    ]
    assert told["node-feature-discovery"]["worker"]["tolerations"] == borne


def test_another_configuration_makes_the_operators_pods_that_read_it_again() -> None:
    """By a variable of theirs alone: an annotation would be of the driver's pods too."""
    pool = GpuPool(name="t4", accelerator="Tesla-T4", gpus_per_node=1, nodes=1)
    cut = GpuPool(name="a30", accelerator="NVIDIA-A30", gpus_per_node=1, nodes=1, mig_profile="1g.6gb")

    def variables(*pools: GpuPool) -> dict[str, Any]:
        told = paths_of(operator_values(BUILT, pools, priority=""))
        return {path: value for path, value in told.items() if path.endswith("/env")}

    first, sliced = variables(pool, cut), variables(dc.replace(pool, time_slices=2), cut)
    other = variables(pool, dc.replace(cut, mig_profile="2g.12gb"))
    assert {path for path in first if first[path] != sliced[path]} == {"devicePlugin/env", "gfd/env"}
    assert {path for path in first if first[path] != other[path]} == {"migManager/env"}


@pytest.mark.parametrize("software", [BUILT, GpuOperator(), GpuOperator(toolkit=False)])
def test_the_images_of_the_operator_are_upstreams(software: GpuOperator) -> None:
    """All that its values name, but for what is on the nodes' image; a driver's has the nodes' system behind it."""
    known = dict(VALUES["images"])
    absent = {"driver", "driver/manager"} if software.driver is None else set()
    absent |= set() if software.toolkit else {"toolkit"}
    images = {image.removesuffix("-ubuntu24.04") for image in (*charts.pins()["gpu-operator"].images, *software.images)}
    assert images == {image for part, image in known.items() if part not in absent}


def test_discovery_makes_labels_and_does_not_look() -> None:
    """Of the chart of 0.19: what GPU feature discovery writes is all that there is to make labels of."""
    told = discovery_values(priority="kiban-platform")
    assert told["worker"] == {"enable": False}
    assert told["master"] == {"extraLabelNs": ["nvidia.com"]}
