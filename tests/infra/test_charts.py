"""Where charts and kinds are taken from; no network, and modules that are a folder of the test's own."""

import contextlib
import re
from pathlib import Path

import httpx
import pytest
import yaml

from infra import charts, toolchain
from infra.errors import CouldNotRun
from infra.toolchain import catalogue, network


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a module that holds a chart whose version its release would write, and definitions."""
    folder = tmp_path / "module"
    chart = folder / "deploy" / "charts" / "cert-manager"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: cert-manager\nversion: v0.0.0\nappVersion: v0.0.0\n")
    (chart / "templates" / "a.yaml").write_text("a: 1\n")
    kinds = folder / "manifests" / "base" / "crds" / "minimal"
    kinds.mkdir(parents=True)
    for name in ("workflows", "cronworkflows"):
        (kinds / f"{name}.yaml").write_text(f"kind: CustomResourceDefinition\nmetadata: {{name: {name}.argoproj.io}}\n")
    (kinds / "kustomization.yaml").write_text("kind: Kustomization\n")
    for each in (chart / "templates", chart, kinds):
        each.chmod(0o555)  # as Go leaves its module cache

    def module_folder(family: str, path: str) -> Path:
        assert (family, path) in {
            ("cert-manager", "github.com/cert-manager/cert-manager"),
            ("argo", "github.com/argoproj/argo-workflows/v3"),
        }
        return folder

    monkeypatch.setattr(toolchain, "module_folder", module_folder)
    monkeypatch.setenv("KIBAN_CACHE", str(tmp_path / "cache"))
    return folder


def answering(monkeypatch: pytest.MonkeyPatch, status: int) -> list[str]:
    """Have every host answer with a status, and return the list of addresses that are asked."""
    asked: list[str] = []

    def stream(method: str, url: str, **_: object) -> contextlib.nullcontext[httpx.Response]:
        asked.append(f"{method} {url}")
        return contextlib.nullcontext(httpx.Response(status))

    monkeypatch.setattr(network, "reachable", set)
    monkeypatch.setattr(httpx, "stream", stream)
    return asked


def pinned(pin: charts.InModule) -> str:
    """Return the version of a pin's module, which must be the one that its family is built from."""
    path, _, version = pin.module.partition("@")
    required = (catalogue.MODULES / pin.family / "go.mod").read_text()
    assert re.search(rf"^\s*(require )?{re.escape(path)} {re.escape(version)}( // indirect)?$", required, re.MULTILINE)
    return version.removeprefix("v")


@pytest.mark.parametrize("pin", charts.pins().values(), ids=lambda pin: pin.name)
def test_a_pin_is_of_the_version_that_the_controller_is_built_from(pin: charts.Pin) -> None:
    """One version in the pin, in the published address and in the family's go.mod, where a module has it."""
    assert pin.source is None or pin.version.removeprefix("v") == pinned(pin.source)
    assert pin.version in pin.probe


@pytest.mark.parametrize("pin", charts.kinds().values(), ids=lambda pin: pin.name)
def test_kinds_are_of_the_version_that_the_controller_is_built_from(pin: charts.InModule) -> None:
    """One version in the pin, in the family's go.mod and in the images of the own chart that reads them."""
    version = pinned(pin)
    assert {tool.version for tool in catalogue.TOOLS.values() if tool.family == pin.family} == {version}
    if pin.name == "argo":
        assert {image.rpartition(":v")[2] for image in charts.own_images("pipelines", "argo")} == {version}


def test_kinds_are_the_modules_definitions_and_are_copied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, without what else is in the folder; the next run asks Go for nothing."""
    first = charts.crds("argo")
    assert first.keys() == {"workflows.argoproj.io", "cronworkflows.argoproj.io"}
    monkeypatch.delattr(toolchain, "module_folder")
    assert charts.crds("argo") == first


def test_the_kinds_of_an_own_chart_are_not_where_helm_would_install_them() -> None:
    """Helm never upgrades what is in `crds`, and Pulumi would delete it with the chart."""
    kinds = charts.own_crds("pipelines", "crds-kfp")
    assert kinds.keys() == {"scheduledworkflows.kubeflow.org", "viewers.kubeflow.org"}
    assert not (charts.own("pipelines") / "crds").exists()


def test_offline_the_chart_is_the_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """KIBAN_OFFLINE=1: nothing is asked, and the folder is packaged with the version that the release has."""
    monkeypatch.setenv("KIBAN_OFFLINE", "1")
    chart = charts.upstream("cert-manager")
    about = yaml.safe_load((Path(chart.location) / "Chart.yaml").read_text())
    assert (about["name"], about["version"], about["appVersion"]) == ("cert-manager", "v1.21.1", "v1.21.1")
    assert (Path(chart.location) / "templates" / "a.yaml").read_text() == "a: 1\n"


def test_a_packaged_chart_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next run finds it and asks Go for nothing."""
    monkeypatch.setenv("KIBAN_OFFLINE", "1")
    first = charts.upstream("cert-manager")
    monkeypatch.delattr(toolchain, "module_folder")
    assert charts.upstream("cert-manager") == first


def test_a_published_chart_is_taken_where_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive is asked for itself, an OCI artifact for its manifest."""
    asked = answering(monkeypatch, 200)
    assert charts.upstream("cert-manager").location == "https://charts.jetstack.io/charts/cert-manager-v1.21.1.tgz"
    assert charts.upstream("kueue").location == "oci://registry.k8s.io/kueue/charts/kueue"
    assert asked == [
        "GET https://charts.jetstack.io/charts/cert-manager-v1.21.1.tgz",
        "HEAD https://registry.k8s.io/v2/kueue/charts/kueue/manifests/0.19.2",
    ]


def test_a_host_that_refuses_is_not_asked_again_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that answers for everyone and lets nothing through is no way to the chart."""
    asked = answering(monkeypatch, 403)
    forgotten: list[str] = []
    monkeypatch.setattr(network, "forget", forgotten.append)
    assert Path(charts.upstream("cert-manager").location).is_dir()
    assert forgotten == ["charts.jetstack.io"]
    assert len(asked) == 1


def test_a_chart_that_no_module_has_is_the_published_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that answers; nothing else is asked."""
    asked = answering(monkeypatch, 200)
    assert charts.upstream("gpu-operator").location == asked[0].removeprefix("GET ")


@pytest.mark.parametrize("status", [None, 403])
def test_without_a_way_to_it_the_message_says_where_it_could_come_from(
    status: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Offline, or behind a proxy that refuses: its address, that no module has it, and where to put it."""
    if status is None:
        monkeypatch.setenv("KIBAN_OFFLINE", "1")
    else:
        answering(monkeypatch, status)
        monkeypatch.setattr(network, "forget", lambda _: None)
    target = tmp_path / "cache" / "charts" / "gpu-operator-v26.7.0"
    with pytest.raises(CouldNotRun, match="no Go module has it") as refused:
        charts.upstream("gpu-operator")
    for said in ("gpu-operator v26.7.0", "https://helm.ngc.nvidia.com/", str(target), "nothing was changed"):
        assert said in str(refused.value)
    target.mkdir(parents=True)
    (target / "Chart.yaml").write_text("name: gpu-operator\n")
    assert charts.upstream("gpu-operator").location == str(target)
