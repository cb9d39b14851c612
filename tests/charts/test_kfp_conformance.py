"""charts/pipelines against what KFP 2.17.0's manifests install, path by path, and that this comparison can fail."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.charts import conformance
from tests.charts.rendering import Object

MODES = ("standalone", "multi-user")
SERVER = "deployments/ml-pipeline/containers/ml-pipeline-api-server"


@pytest.fixture(scope="module")
def table() -> dict[str, Any]:
    """Return the facts and the deviations."""
    return dict(yaml.safe_load(conformance.TABLE.read_text()))


@pytest.fixture(scope="module")
def faults(table: dict[str, Any], crds: list[Object]) -> Callable[[str, list[Object]], list[str]]:
    """Return what tells, of a mode, what in the chart's objects does not conform."""

    def tell(mode: str, objects: list[Object]) -> list[str]:
        different = conformance.differences(conformance.expected(table, mode), conformance.found(objects, crds))
        return conformance.faults(table["deviations"], different, mode)

    return tell


@pytest.mark.parametrize("mode", MODES)
def test_the_chart_is_upstreams_but_for_what_is_listed(
    mode: str, rendered: dict[str, list[Object]], faults: Callable[[str, list[Object]], list[str]]
) -> None:
    """Each difference is a listed deviation, and each listed deviation is a difference."""
    told = faults(mode, rendered[mode])
    assert not told, "\n".join(told)


def test_every_deviation_has_a_reason(table: dict[str, Any]) -> None:
    """A list without reasons would only be a way to make the comparison pass."""
    for deviation in table["deviations"]:
        assert deviation.keys() <= {"at", "modes", "reason"}
        assert len(deviation["reason"]) > 8


def named(objects: list[Object], kind: str, name: str) -> Object:
    """Return the one object."""
    (one,) = (each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return one


def container(objects: list[Object], deployment: str) -> Object:
    """Return the first container of the Deployment."""
    first: Object = named(objects, "Deployment", deployment)["spec"]["template"]["spec"]["containers"][0]
    return first


def another_image(objects: list[Object]) -> None:
    """Break the chart."""
    container(objects, "ml-pipeline")["image"] = "ghcr.io/kubeflow/kfp-api-server:2.16.0"


def no_driver_image(objects: list[Object]) -> None:
    """Break the chart."""
    server = container(objects, "ml-pipeline")
    server["env"] = [one for one in server["env"] if one["name"] != "V2_DRIVER_IMAGE"]


def another_source(objects: list[Object]) -> None:
    """Break the chart."""
    for one in container(objects, "ml-pipeline")["env"]:
        if one["name"] == "DBCONFIG_HOST":
            one["valueFrom"]["configMapKeyRef"]["key"] = "dbHost"


def one_more_variable(objects: list[Object]) -> None:
    """Break the chart."""
    container(objects, "ml-pipeline")["env"].append({"name": "NEW", "value": "1"})


def another_argument(objects: list[Object]) -> None:
    """Break the chart."""
    container(objects, "metadata-grpc-deployment")["args"][0] = "--grpc_port=8081"


def no_key(objects: list[Object]) -> None:
    """Break the chart."""
    del named(objects, "ConfigMap", "pipeline-install-config")["data"]["mlmdDb"]


def another_service_port(objects: list[Object]) -> None:
    """Break the chart."""
    named(objects, "Service", "ml-pipeline-ui")["spec"]["ports"][0]["port"] = 8080


def one_more_right(objects: list[Object]) -> None:
    """Break the chart."""
    named(objects, "Role", "ml-pipeline-persistenceagent-role")["rules"][0]["verbs"].append("delete")


def another_audience(objects: list[Object]) -> None:
    """Break the chart."""
    pod = named(objects, "Deployment", "ml-pipeline-persistenceagent")["spec"]["template"]["spec"]
    for volume in pod["volumes"]:
        if "projected" in volume:
            volume["projected"]["sources"][0]["serviceAccountToken"]["audience"] = "kubeflow"


def no_viewer(objects: list[Object]) -> None:
    """Break the chart."""
    objects.remove(named(objects, "Deployment", "ml-pipeline-viewer-crd"))


@pytest.mark.parametrize(
    ("broken", "path"),
    [
        (another_image, f"{SERVER}/image"),
        (no_driver_image, f"{SERVER}/env/V2_DRIVER_IMAGE"),
        (another_source, f"{SERVER}/env/DBCONFIG_HOST"),
        (one_more_variable, f"{SERVER}/env/NEW"),
        (another_argument, "deployments/metadata-grpc-deployment/containers/container/args/--grpc_port=8081"),
        (no_key, "configmaps/pipeline-install-config/mlmdDb"),
        (another_service_port, "services/ml-pipeline-ui/ports/8080"),
        (one_more_right, "roles/ml-pipeline-persistenceagent-role/delete workflows of argoproj.io"),
        (another_audience, "containers/ml-pipeline-persistenceagent/mounts//var/run/secrets/kubeflow/tokens"),
        (no_viewer, "deployments/ml-pipeline-viewer-crd/account"),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_what_is_not_listed_is_a_fault(
    mode: str,
    broken: Callable[[list[Object]], None],
    path: str,
    rendered: dict[str, list[Object]],
    faults: Callable[[str, list[Object]], list[str]],
) -> None:
    """Each kind of fact, changed in the chart, is told by its path."""
    objects = copy.deepcopy(rendered[mode])
    broken(objects)
    told = faults(mode, objects)
    assert any(path in fault and "not among the deviations" in fault for fault in told), told


def test_a_deviation_that_is_none_any_more_is_a_fault(
    rendered: dict[str, list[Object]], faults: Callable[[str, list[Object]], list[str]]
) -> None:
    """Were the chart like upstream again there, the list would have to say so."""
    objects = copy.deepcopy(rendered["standalone"])
    named(objects, "ConfigMap", "pipeline-install-config")["data"]["warning"] = "about kustomize"
    assert faults("standalone", objects) == [
        "configmaps/pipeline-install-config/warning: listed as a deviation, and there is none"
    ]


def test_an_object_of_a_kind_that_is_not_read_is_an_error(rendered: dict[str, list[Object]]) -> None:
    """What is not compared must not pass for what conforms."""
    labels = {"application-crd-id": "kubeflow-pipelines"}
    more = {"kind": "CronJob", "metadata": {"name": "x", "namespace": "kubeflow", "labels": labels}}
    with pytest.raises(KeyError, match="CronJob"):
        conformance.found([*rendered["standalone"], more], [])


@pytest.mark.parametrize("mode", MODES)
def test_no_part_of_kfp_passes_for_argos(mode: str, rendered: dict[str, list[Object]]) -> None:
    """What has no label of KFP is not compared: of workloads, Services, accounts those there without it."""

    def names(objects: list[Object]) -> set[tuple[str, str]]:
        kinds = {"Deployment", "Service", "ServiceAccount"}
        return {(each["kind"], each["metadata"]["name"]) for each in objects if each["kind"] in kinds}

    unmarked = [each for each in rendered[mode] if "application-crd-id" not in each["metadata"]["labels"]]
    assert names(unmarked) == names(rendered["off"])
