"""The manifests of a cluster: the files of its folder in stacks/clusters, rendered and checked. Nothing is applied."""

from pathlib import Path
from typing import Any

import jinja2
import yaml

from components._labels import ENVIRONMENT
from infra import paths
from infra.errors import BadInput
from stacks._schema import ProvisionedCluster

Object = dict[str, Any]
GROUP = "cluster.x-k8s.io"
_RENDERED = ".yaml.j2"


def folder(cluster: ProvisionedCluster) -> Path:
    """Where they are."""
    return paths.ROOT / "stacks" / "clusters" / cluster.templates


def render(cluster: ProvisionedCluster, environment: str) -> list[Object]:
    """The objects, in the order of the files' names, each with the environment's label and in the namespace.

    Raises BadInput for a folder without manifests, for what cannot be rendered, and where they are not of this cluster.
    """
    where = folder(cluster)
    files = sorted(file for file in where.glob("*") if file.name.endswith((".yaml", _RENDERED)))
    if not files:
        raise BadInput(
            f"{environment}: templates={cluster.templates!r}; accepted: a folder of stacks/clusters with *.yaml or "
            f"*{_RENDERED}; there is {_there(where.parent)}; nothing was changed"
        )
    objects = [
        _of(each, cluster, environment, file.name) for file in files for each in _read(file, cluster, environment)
    ]
    named = [each["metadata"]["name"] for each in objects if _is_cluster(each)]
    if named != [cluster.name]:
        raise BadInput(
            f"{environment}: templates={cluster.templates!r} have the Clusters {', '.join(named) or 'none'}; accepted: "
            f"one, {cluster.name!r}, as cluster.name says; nothing was changed"
        )
    return objects


def _there(clusters: Path) -> str:
    return ", ".join(sorted(each.name for each in clusters.glob("*") if each.is_dir())) or "none"


def _read(file: Path, cluster: ProvisionedCluster, environment: str) -> list[Object]:
    text = file.read_text()
    try:
        if file.name.endswith(_RENDERED):
            text = (
                _environment()
                .from_string(text)
                .render(**cluster.values, name=cluster.name, namespace=cluster.namespace, kubernetes=cluster.kubernetes)
            )
        read = [each for each in yaml.safe_load_all(text) if each is not None]
    except (jinja2.TemplateError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        accepted = "name, namespace, kubernetes" + "".join(f", {each}" for each in sorted(cluster.values))
        raise BadInput(
            f"{environment}: {file.name} of templates={cluster.templates!r} cannot be rendered ({said}); accepted: "
            f"YAML, with the values {accepted}; nothing was changed"
        ) from error
    return read


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - YAML, not HTML
    )


def _of(each: Object, cluster: ProvisionedCluster, environment: str, file: str) -> Object:
    meta = each.get("metadata") if isinstance(each, dict) else None
    if not (isinstance(meta, dict) and meta.get("name") and each.get("kind") and each.get("apiVersion")):
        raise BadInput(
            f"{environment}: {file}: an object without apiVersion, kind or metadata.name; nothing was changed"
        )
    if meta.get("namespace", cluster.namespace) != cluster.namespace:
        raise BadInput(
            f"{environment}: {file}: {each['kind']} {meta['name']} is in namespace {meta['namespace']!r}; accepted: "
            f"{cluster.namespace!r}, as cluster.namespace says; nothing was changed"
        )
    labels = {**meta.get("labels", {}), ENVIRONMENT: environment}
    return {**each, "metadata": {**meta, "namespace": cluster.namespace, "labels": labels}}


def _is_cluster(each: Object) -> bool:
    return bool(each["kind"] == "Cluster" and each["apiVersion"].startswith(f"{GROUP}/"))
