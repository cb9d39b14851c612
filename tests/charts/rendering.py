"""Charts rendered as Pulumi renders them, without a cluster: the provider writes what it would apply to a folder."""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes as k8s
import yaml
from pulumi.automation import CommandError, LocalWorkspace, ProjectSettings, Stack

from infra import pulumi_home, toolchain
from infra.engine.command import Pulumi

Object = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "kubeflow"
# Of others' kinds that the chart has objects of: without a cluster the provider knows of none where it belongs.
_KINDS = (
    ("cert-manager.io", "v1", "Certificate", "certificates"),
    ("cert-manager.io", "v1", "Issuer", "issuers"),
    ("kueue.x-k8s.io", "v1beta2", "LocalQueue", "localqueues"),
)


class Refused(Exception):
    """What Helm said of the values or of a template."""


def render(chart: Path, variants: Mapping[str, Mapping[str, Any]], scratch: Path) -> dict[str, list[Object]]:
    """The objects of each variant of the chart's values. Raises Refused where one cannot be rendered."""
    copy = _without_cluster(chart, scratch / "chart")
    tools: dict[str, Path] = {}
    for tool in ("pulumi", "kubectl", "pulumi-resource-kubernetes"):
        tools |= toolchain.resolve(tool)
    pulumi_home.lay_out(scratch / "home", tools, os.environ)
    (scratch / "state").mkdir()

    def program() -> None:
        for name, values in variants.items():
            provider = k8s.Provider(name, render_yaml_to_directory=str(scratch / "out" / name), kubeconfig="")
            k8s.helm.v4.Chart(
                name,
                name=chart.name,
                chart=str(copy),
                namespace=NAMESPACE,
                skip_crds=False,
                values=dict(values),
                opts=pulumi.ResourceOptions(provider=provider),
            )

    environ = {
        "PULUMI_HOME": str(scratch / "home"),
        "PULUMI_BACKEND_URL": (scratch / "state").as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_SKIP_CHECKPOINTS": "true",
    }
    version = toolchain.TOOLS["pulumi"].version.removeprefix("v")
    workspace = LocalWorkspace(
        work_dir=str(scratch),
        project_settings=ProjectSettings("render", "python"),
        program=program,
        pulumi_command=Pulumi(tools["pulumi"], version, environ),
    )
    stack = Stack.create("render", workspace)
    try:
        stack.up(suppress_progress=True)
    except CommandError as error:
        said = str(error)
        raise Refused(said[said.find("Diagnostics:") :].partition("Traceback")[0]) from None
    return {name: _read(scratch / "out" / name) for name in variants}


def _without_cluster(chart: Path, target: Path) -> Path:
    """A copy of the chart that asks for no version of the cluster (without one Helm takes 1.20), and has all kinds."""
    shutil.copytree(chart, target)
    about = target / "Chart.yaml"
    about.write_text(re.sub(r"^kubeVersion:.*\n", "", about.read_text(), flags=re.MULTILINE))
    (target / "crds").mkdir(exist_ok=True)
    (target / "crds" / "kinds.yaml").write_text(yaml.safe_dump_all([kind(*each) for each in _KINDS]))
    return target


def kind(group: str, version: str, name: str, plural: str) -> Object:
    """A CustomResourceDefinition of a namespaced kind that takes anything."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": name, "plural": plural, "singular": name.lower(), "listKind": f"{name}List"},
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }


def kinds() -> list[Object]:
    """Definitions of others' kinds that the chart has objects of."""
    return [kind(*each) for each in _KINDS]


def _read(folder: Path) -> list[Object]:
    files = sorted(folder.glob("1-manifest/*.yaml"))
    return [document for file in files for document in yaml.safe_load_all(file.read_text()) if document]
