"""Where charts and kinds are found: Kiban's own in charts/, upstream's at their pins (charts/upstream.yaml).

An upstream chart is the published one where that answers, else the folder in the module that the controller is built
from. That leaves no trace in a stack's state: the provider (4.25) keeps of a chart only the objects. Of a chart that no
module has, there is the published one, or what somebody has put into the cache. Upstream's kinds that Kiban installs
itself are always the module's, whose checksum is in its family's go.sum.
"""

import dataclasses as dc
import functools
import shutil
import string
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import yaml

from components._charts import UpstreamChart
from components._devices import DISCOVERY, OPERATOR, DevicePlugin, GpuOperator
from infra import console, paths, toolchain
from infra.errors import CouldNotRun
from infra.toolchain import cache, network
from stacks._schema import Environment

PIPELINES = ("reference",)
RETRAINING = ("monitor", "retrain")
"""Folders of pipelines/ whose templates every team gets: of pipelines, and of the retraining loop."""
_CHARTS = paths.ROOT / "charts"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dc.dataclass(frozen=True, kw_only=True)
class InModule:
    """A folder of upstream's in a module: its CustomResourceDefinitions, say.

    family: of tools, whose go.mod pins the module. module: PATH@VERSION. folder: in the module.
    """

    name: str
    family: str
    module: str
    folder: str


@dc.dataclass(frozen=True, kw_only=True)
class Pin:
    """A chart's version, and the places that have it.

    published: an OCI address without the tag, or the address of an archive.
    source: None where no module has the chart.
    images: what its objects name.
    placeholders: what is put into values.tmpl.yaml, where the module's folder has no values.yaml.
    """

    name: str
    version: str
    published: str
    source: InModule | None
    images: tuple[str, ...]
    placeholders: Mapping[str, str] = dc.field(default_factory=dict)

    @property
    def probe(self) -> str:
        """What answers 200 if the published chart can be had (OCI distribution 1.1: the manifest of the tag)."""
        address = urlsplit(self.published)
        if address.scheme != "oci":
            return self.published
        return f"https://{address.netloc}/v2{address.path}/manifests/{self.version}"


@functools.cache
def pins() -> Mapping[str, Pin]:
    """Every upstream chart's pin by name."""
    return MappingProxyType({name: _pin(name, **fields) for name, fields in _upstream()["charts"].items()})


def _pin(name: str, *, images: list[str], **fields: Any) -> Pin:  # noqa: ANN401 - fields of charts/upstream.yaml
    module = {field: fields.pop(field) for field in ("family", "module", "folder") if field in fields}
    return Pin(name=name, source=InModule(name=name, **module) if module else None, images=tuple(images), **fields)


@functools.cache
def kinds() -> Mapping[str, InModule]:
    """Where upstream's kinds are, by name."""
    return MappingProxyType({name: InModule(name=name, **fields) for name, fields in _upstream()["crds"].items()})


def _upstream() -> dict[str, dict[str, dict[str, Any]]]:
    read: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load((_CHARTS / "upstream.yaml").read_text())
    return read


def used_by(environment: Environment) -> tuple[str, ...]:
    """The names of the charts that the environment's data asks for."""
    serving = environment.serving
    asked = {
        "cert-manager": environment.certificates,
        "kueue": environment.queueing is not None,
        "jobset": environment.queueing is not None and environment.queueing.jobsets,
        "kserve-resources": serving is not None,
        "kserve-runtime-configs": serving is not None,
        "gateway-helm": serving is not None and serving.gateway is not None,
        OPERATOR: isinstance(environment.devices, GpuOperator),
        DISCOVERY: isinstance(environment.devices, DevicePlugin),
    }
    return tuple(name for name, wanted in asked.items() if wanted)


def images(environment: Environment) -> tuple[str, ...]:
    """The images that the environment's pods name, but for what users run; in the order in which they are needed."""
    named = [image for name in used_by(environment) for image in pins()[name].images]
    if isinstance(environment.devices, GpuOperator):
        named += environment.devices.images
    if isinstance(environment.devices, DevicePlugin):
        named += own_images("devices", "devices")
    if environment.metadata:
        named += environment.metadata.images
    if environment.pipelines:
        named += own_images("pipelines", "argo")
        named += own_images("pipelines", "kfp") if environment.pipelines.kubeflow else ()
        given = teams_templates(environment).values()
        named += [each["value"] for template in given for each in _arguments(template, "image")]
    if environment.serving:
        named += environment.serving.images
    if environment.monitoring:
        named += own_images("monitoring", "stack") if environment.monitoring.existing is None else ()
        named += own_images("monitoring", "grafana") if environment.monitoring.grafana else ()
    return tuple(dict.fromkeys(named))


def upstream(name: str) -> UpstreamChart:
    """The chart of that name. Raises what the toolchain raises where no place has it, or CouldNotRun."""
    pin = pins()[name]
    location = pin.published if _answers(pin) else str(_from_module(pin) if pin.source else _put(pin))
    return UpstreamChart(name=pin.name, version=pin.version, location=location)


def own(name: str) -> Path:
    """The folder of Kiban's own chart of that name."""
    return _CHARTS / name


def own_images(name: str, part: str) -> tuple[str, ...]:
    """The images that a part of an own chart names: `PART.images` of its values.yaml, which names each image once."""
    values = yaml.safe_load((own(name) / "values.yaml").read_text())
    return tuple(values[part]["images"].values())


def crds(name: str) -> dict[str, dict[str, Any]]:
    """Upstream's kinds at the pin of that name: a CustomResourceDefinition's name to its manifest."""
    return _definitions(_kinds_of(name))


def webhooks(name: str) -> list[dict[str, Any]]:
    """Upstream's webhook configurations, that of what changes objects first, at the pin NAME-webhooks."""
    read = yaml.safe_load_all((_kinds_of(f"{name}-webhooks") / "manifests.yaml").read_text())
    return sorted(read, key=lambda each: str(each["kind"]))


def own_crds(name: str, folder: str) -> dict[str, dict[str, Any]]:
    """The kinds in a folder of an own chart that is neither `crds` nor `templates`: Helm installs those itself."""
    return _definitions(own(name) / folder)


def templates(*folders: str) -> dict[str, dict[str, Any]]:
    """The WorkflowTemplates of folders of pipelines/, by name."""
    files = [paths.ROOT / "pipelines" / folder / "workflow.yaml" for folder in folders]
    return {each["metadata"]["name"]: each for each in (yaml.safe_load(file.read_text()) for file in files)}


def teams_templates(environment: Environment) -> dict[str, dict[str, Any]]:
    """The WorkflowTemplates that every team of an environment with pipelines gets, by name."""
    return templates(*PIPELINES, *(RETRAINING if environment.retraining else ()))


def _arguments(template: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    return [each for each in template["spec"]["arguments"]["parameters"] if each["name"] == name]


def _kinds_of(name: str) -> Path:
    pin = kinds()[name]
    _, _, version = pin.module.partition("@")
    return _copied(pin, f"{name}-crds-{version}")


class _Loader(yaml.CSafeLoader):
    """Takes `=` for a string, as Kubernetes does: PyYAML has a type of its own for it, which it cannot construct.

    libyaml's: what only Python reads takes 9 s for the Prometheus operator's kinds.
    """


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: str(node.value))


def _definitions(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(folder.glob("*.yaml"))
    read = (each for file in files for each in yaml.load_all(file.read_text(), Loader=_Loader))
    return {each["metadata"]["name"]: each for each in read if each and each["kind"] == "CustomResourceDefinition"}


def _answers(pin: Pin) -> bool:
    if not network.reachable([pin.probe]):
        return False
    import httpx  # noqa: PLC0415 - 0.2 s that only a network is worth

    # who gets a manifest is counted by some registries; an archive's address may be signed for getting it alone
    method = "HEAD" if pin.published.startswith("oci:") else "GET"
    headers = {"Accept": _MANIFEST}
    try:
        with httpx.stream(
            method, pin.probe, headers=headers, follow_redirects=True, timeout=network.PATIENCE
        ) as answer:
            status = answer.status_code
    except httpx.HTTPError:
        return False
    if status != httpx.codes.OK:
        network.forget(urlsplit(pin.probe).netloc)  # a proxy that refuses, say: not asked again for a while
        return False
    return True


def _put(pin: Pin) -> Path:
    """The folder of a chart that is in no module, where somebody has put it."""
    target = paths.cache() / "charts" / f"{pin.name}-{pin.version}"
    if not (target / "Chart.yaml").is_file():
        raise CouldNotRun(
            f"chart {pin.name} {pin.version} cannot be had: {pin.published} does not answer, and no Go module has it; "
            f"accepted: a network that reaches {urlsplit(pin.published).netloc}, or the archive's folder {pin.name} "
            f"as {target}; nothing was changed"
        )
    return target


def _from_module(pin: Pin) -> Path:
    """The chart's folder, packaged as upstream's release does it: with `helm package --version --app-version`."""
    assert pin.source is not None  # noqa: S101 - asked by the caller
    _, _, version = pin.source.module.partition("@")

    def package(made: Path) -> None:
        about = made / "Chart.yaml"
        fields = yaml.safe_load(about.read_text()) | {"version": pin.version, "appVersion": version}
        about.write_text(yaml.safe_dump(fields))
        if pin.placeholders:
            text = made.joinpath("values.tmpl.yaml").read_text()
            made.joinpath("values.yaml").write_text(string.Template(text).substitute(pin.placeholders))

    return _copied(pin.source, f"{pin.name}-{pin.version}", package)


def _copied(pin: InModule, name: str, package: Callable[[Path], None] | None = None) -> Path:
    """A copy of the folder in the cache, so that only the first run asks Go; `package` finishes it."""
    target = paths.cache() / "charts" / name
    if target.exists():
        return target
    path, _, _ = pin.module.partition("@")
    source = toolchain.module_folder(pin.family, path) / pin.folder
    with cache.claimed(target, f"charts/{name}", console.say) as scratch:
        if not target.exists():
            made = scratch / pin.name
            shutil.copytree(source, made, copy_function=shutil.copyfile)
            for folder in (made, *made.glob("**/")):
                folder.chmod(0o755)  # Go's module cache is read-only by default, and so are copies of its folders
            if package:
                package(made)
            cache.place(made, target)
    return target
