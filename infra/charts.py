"""Upstream's charts at their pins (charts/upstream.yaml), each from where it can be had.

The published chart where it answers, else the folder in the module that the controller is built from. That leaves no
trace in a stack's state: the provider (4.25) keeps of a chart only the objects.
"""

import dataclasses as dc
import functools
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

import yaml

from components._charts import UpstreamChart
from infra import console, paths, toolchain
from infra.toolchain import cache, network
from stacks._schema import Environment

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dc.dataclass(frozen=True, kw_only=True)
class Pin:
    """A chart's version, and the two places that have it.

    published: an OCI address without the tag, or the address of an archive.
    family: of tools, whose go.mod pins the module. module: PATH@VERSION. folder: in the module.
    images: what its objects name.
    """

    name: str
    version: str
    published: str
    family: str
    module: str
    folder: str
    images: tuple[str, ...]

    @property
    def probe(self) -> str:
        """What answers 200 if the published chart can be had (OCI distribution 1.1: the manifest of the tag)."""
        address = urlsplit(self.published)
        if address.scheme != "oci":
            return self.published
        return f"https://{address.netloc}/v2{address.path}/manifests/{self.version}"


@functools.cache
def pins() -> Mapping[str, Pin]:
    """Every pin by name."""
    read = yaml.safe_load((paths.ROOT / "charts" / "upstream.yaml").read_text())
    return MappingProxyType(
        {name: Pin(name=name, **fields | {"images": tuple(fields["images"])}) for name, fields in read.items()}
    )


def used_by(environment: Environment) -> tuple[str, ...]:
    """The names of the charts that the environment's data asks for."""
    asked = {"cert-manager": environment.certificates, "kueue": environment.queueing is not None}
    return tuple(name for name, wanted in asked.items() if wanted)


def images(environment: Environment) -> tuple[str, ...]:
    """The images that those charts' objects name."""
    return tuple(image for name in used_by(environment) for image in pins()[name].images)


def upstream(name: str) -> UpstreamChart:
    """The chart of that name. Raises what the toolchain raises where neither place has it."""
    pin = pins()[name]
    location = pin.published if _answers(pin) else str(_from_module(pin))
    return UpstreamChart(name=pin.name, version=pin.version, location=location)


def _answers(pin: Pin) -> bool:
    if not network.reachable([pin.probe]):
        return False
    import httpx  # noqa: PLC0415 - 0.2 s that only a network is worth

    try:
        answer = httpx.head(pin.probe, headers={"Accept": _MANIFEST}, follow_redirects=True, timeout=network.PATIENCE)
    except httpx.HTTPError:
        return False
    if answer.status_code != httpx.codes.OK:
        network.forget(urlsplit(pin.probe).netloc)  # a proxy that refuses, say: not asked again for a while
        return False
    return True


def _from_module(pin: Pin) -> Path:
    """The chart's folder, packaged as upstream's release does it: with `helm package --version --app-version`."""
    target = paths.cache() / "charts" / f"{pin.name}-{pin.version}"
    if target.exists():
        return target
    path, _, version = pin.module.partition("@")
    source = toolchain.module_folder(pin.family, path) / pin.folder
    with cache.claimed(target, f"chart {pin.name} {pin.version}", console.say) as scratch:
        if not target.exists():
            made = scratch / pin.name
            shutil.copytree(source, made, copy_function=shutil.copyfile)
            for folder in (made, *made.glob("**/")):
                folder.chmod(0o755)  # Go's module cache is read-only by default, and so are copies of its folders
            about = made / "Chart.yaml"
            fields = yaml.safe_load(about.read_text()) | {"version": pin.version, "appVersion": version}
            about.write_text(yaml.safe_dump(fields))
            cache.place(made, target)
    return target
