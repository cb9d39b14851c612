"""Images: none floats, wherever it is named, and those of the platform's pods are in `kiban images ENV`."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from components._labels import ENVIRONMENT, TEAM
from infra.rehearsal.look import Check, Finding, Look, Outcome, outcome
from infra.rehearsal.pods import Pod, pods
from infra.rehearsal.snapshot import Object, Snapshot, name

_DEFINITION = "CustomResourceDefinition.apiextensions.k8s.io"
_REGISTRIES = (
    r"(?:[\w-]+\.)*(?:docker\.io|gcr\.io|ghcr\.io|quay\.io|registry\.k8s\.io|nvcr\.io|pkg\.dev|mcr\.microsoft\.com)"
)
"""Of images, and of nothing else."""
_NAME = rf"(?<![\w./-]){_REGISTRIES}/[\w./-]*\w"
_TAGGED_IN_TEXT = re.compile(rf"{_NAME}:[\w.-]*\w(?:@sha256:\w+)?")
_OF_A_REGISTRY = re.compile(rf"{_NAME}(?::[\w.-]+)?(?:@sha256:\w+)?")
_IMAGE = re.compile(r"[\w.-]+(?::\d+)?(?:/[\w.-]+)*(?::[\w.-]+)?(?:@sha256:\w+)?")
_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")
_TAG = re.compile(r":([^:/]+)$")
_MOVING = re.compile(r"(?i)latest.*|release-\d.*|\D*")
"""A tag without a digit names no version; `release-0.19` is a branch's, as staging registries have."""
_EXAMPLE = "_example"
"""The key of what is there to be read only (Knative's convention, which KServe's ConfigMap follows)."""
_FALLS_BACK = {"kfp-api-server": ("V2_DRIVER_IMAGE", "V2_LAUNCHER_IMAGE")}
"""Programs that take `latest` of what a variable does not name (KFP 2.17.0)."""
_KUBES_OWN = "kube-system"
_PART_OF_A_RUN = "workflows.argoproj.io/workflow"
_OF_ITSELF = {"apiVersion", "kind", "metadata", "status"}
_PIN = "name a version or a digest"


def _pinned(look: Look) -> Outcome:
    now = look.now
    seen = [pod for pod in pods(now) if pod.namespace != _KUBES_OWN]
    named = {(name(pod.of), image) for pod in seen for image in _of_pod(pod)}
    named |= {(name(each), image) for each in _platforms(now) for image in _of_object(each)}
    found = [Finding(object=of, message=message, remedy=_PIN) for of, image in named if (message := _floats(image))]
    found += [
        Finding(
            object=name(pod.of),
            message=f"{variable} is not set for {container['image']}, which then takes the tag latest",
            remedy=f"set {variable} to an image with a version",
        )
        for pod in seen
        for container in pod.containers
        for variable in _unset(container)
    ]
    return outcome("simulated", named, found)


def _of_pod(pod: Pod) -> Iterator[str]:
    yield from images(pod.spec)
    for container in pod.containers:
        for word in (*(container.get("command") or ()), *(container.get("args") or ())):
            _, _, value = word.rpartition("=")
            if _OF_A_REGISTRY.fullmatch(value):
                yield value


def _platforms(now: Snapshot) -> Iterator[Object]:
    """The platform's ConfigMaps and custom resources, without those that are switched off (KServe's runtimes)."""
    custom = {f"{each['spec']['names']['kind']}.{each['spec']['group']}" for each in now.all(_DEFINITION)}
    for each in now.all("ConfigMap", *sorted(custom)):
        off = each.get("spec", {}).get("disabled") is True
        if ENVIRONMENT in (each["metadata"].get("labels") or {}) and not off:
            yield each


def _of_object(each: Object) -> Iterator[str]:
    if each["kind"] == "ConfigMap":
        data = (each.get("data") or {}).items()
        return images({key: _parsed(text) for key, text in data if key != _EXAMPLE})
    return images({field: each[field] for field in each.keys() - _OF_ITSELF})


def _parsed(text: str) -> Any:  # noqa: ANN401 - what JSON or YAML has
    """What a text says that may name an image in a field; the text itself where it is neither JSON nor YAML."""
    if "image" not in text.lower():
        return text
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError:
        return text


def images(value: Any) -> Iterator[str]:  # noqa: ANN401 - any part of a manifest
    """The images in a part of a manifest: in fields and variables that are named so, and tagged ones in any text.

    The tag may be in a field beside it (KServe's `defaultImageVersion`).
    """
    if isinstance(value, Mapping):
        fields = dict(value)
        if isinstance(value.get("name"), str) and isinstance(value.get("value"), str):
            fields |= {value["name"]: value["value"]}  # a variable or a parameter
        for field, of in fields.items():
            if isinstance(of, str) and str(field).lower().endswith("image"):
                yield from [_with_tag(of, value)] if _IMAGE.fullmatch(of) else ()
            else:
                yield from images(of)
    elif isinstance(value, list):
        for each in value:
            yield from images(each)
    elif isinstance(value, str):
        yield from _TAGGED_IN_TEXT.findall(value)


def _with_tag(image: str, beside: Mapping[str, Any]) -> str:
    if _TAG.search(image):
        return image
    tags = [str(of) for field, of in beside.items() if str(field).lower().endswith(("tag", "version"))]
    return f"{image}:{tags[0]}" if tags else image


def _floats(image: str) -> str | None:
    """Why an image's name may be another image tomorrow."""
    if _DIGEST.fullmatch(image):
        return None
    tag = _TAG.search(image)
    if tag is None:
        return f"{image} has no tag: it is the latest"
    return f"the tag of {image} names no version, and moves" if _MOVING.fullmatch(tag[1]) else None


def _unset(container: Object) -> list[str]:
    given = {each["name"] for each in container.get("env") or () if each.get("value") or each.get("valueFrom")}
    needed = next((names for part, names in _FALLS_BACK.items() if part in container.get("image", "")), ())
    return [variable for variable in needed if variable not in given]


def _listed(look: Look) -> Outcome:
    known = {_full(image) for image in look.images}
    platform = {
        space["metadata"]["name"]
        for space in look.now.all("Namespace")
        if ENVIRONMENT in (labels := space["metadata"].get("labels") or {}) and TEAM not in labels
    }
    named = {
        (name(pod.of), container["image"])
        for pod in pods(look.now)
        if pod.namespace in platform or ENVIRONMENT in (pod.of["metadata"].get("labels") or {})
        if _PART_OF_A_RUN not in pod.labels
        for container in pod.containers
    }
    found = [
        Finding(
            object=of,
            message=f"{image} is not in the list of images that the environment needs",
            remedy="add it to the `images` of the pin or the component that makes the pod",
        )
        for of, image in named
        if _full(image) not in known
    ]
    return outcome("simulated", named, found)


def _full(image: str) -> str:
    """A reference with what Docker Hub lets one leave out."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return image
    return f"docker.io/{image}" if slash else f"docker.io/library/{image}"


CHECKS: tuple[Check, ...] = (
    Check(
        id="images-pinned",
        title="no image floats, neither a pod's nor one in an argument, a variable or a ConfigMap",
        look=_pinned,
    ),
    Check(id="images-listed", title="each image of the platform's pods is in `kiban images ENV`", look=_listed),
)
