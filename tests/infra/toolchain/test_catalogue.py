"""The tools as data: pins that stand in more than one file agree, and each family can be built from what it pins."""

import re
import tomllib

import pytest

from infra import charts, paths
from infra.toolchain import catalogue
from infra.toolchain.catalogue import SPACE, TOOLS, Tool

MODULES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kwok": "sigs.k8s.io/kwok",
    "pulumi": "github.com/pulumi/pulumi/pkg/v3",
    "pulumi-resource-kubernetes": "github.com/pulumi/pulumi-kubernetes/sdk/v4",
    "kind": "sigs.k8s.io/kind",
    "containerd": "github.com/containerd/containerd/v2",
    "containerd-shim-runc-v2": "github.com/containerd/containerd/v2",
    "ctr": "github.com/containerd/containerd/v2",
    "kube-router": "github.com/k3s-io/kube-router/v2",
    "local-path": "sigs.k8s.io/sig-storage-lib-external-provisioner/v13",
    "umoci": "github.com/opencontainers/umoci",
    "crane": "github.com/google/go-containerregistry",
    "coredns": "github.com/coredns/coredns",
    "cert-manager": "github.com/cert-manager/cert-manager",
    "kueue": "sigs.k8s.io/kueue",
    "jobset": "sigs.k8s.io/jobset",
    "workflow-controller": "github.com/argoproj/argo-workflows/v3",
    "argoexec": "github.com/argoproj/argo-workflows/v3",
    "argo": "github.com/argoproj/argo-workflows/v3",
    "versitygw": "github.com/versity/versitygw",
    "promtool": "github.com/prometheus/prometheus",
    "prometheus": "github.com/prometheus/prometheus",
    "amtool": "github.com/prometheus/alertmanager",
    "alertmanager": "github.com/prometheus/alertmanager",
    "prometheus-operator": "github.com/prometheus-operator/prometheus-operator",
    "prometheus-config-reloader": "github.com/prometheus-operator/prometheus-operator",
    "kube-state-metrics": "k8s.io/kube-state-metrics/v2",
    "node-exporter": "github.com/prometheus/node_exporter",
    "kserve-controller": "github.com/kserve/kserve",
    "kserve-agent": "github.com/kserve/kserve",
    "kube-rbac-proxy": "github.com/brancz/kube-rbac-proxy",
    "envoy-gateway": "github.com/envoyproxy/gateway",
    "karpenter-kwok": "sigs.k8s.io/karpenter",
    "cluster-api": "sigs.k8s.io/cluster-api",
    "clusterctl": "sigs.k8s.io/cluster-api",
}
"""The module that gives a tool its version; k8s.io/kubernetes where it is not here."""
every = pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
of_modules = pytest.mark.parametrize(
    "tool", [pytest.param(tool, id=name) for name, tool in TOOLS.items() if name != "pause"]
)
"""All but the one that needs nothing besides Go."""


@of_modules
def test_go_mod_pins_the_version(tool: Tool) -> None:
    """A tool's version is the one that its family's go.mod builds."""
    module = MODULES.get(tool.name, "k8s.io/kubernetes")
    version = tool.version
    if tool.family == "prometheus":  # 3.14.0 is v0.314.0 to Go, which would want /v3 in the module's name
        version = re.sub(r"^(\d+)\.(\d+)", lambda match: f"0.{match[1]}{int(match[2]):02}", version)
    text = (tool.folder / "go.mod").read_text()
    assert re.search(rf"(?:^|\s){re.escape(module)} v{re.escape(version)}(?:\s|$)", text, re.MULTILINE)


@of_modules
def test_go_sum_pins_the_sources(tool: Tool) -> None:
    """The checksum of every module that go.mod requires, or replaces one by, is pinned."""
    mod, sums = ((tool.folder / name).read_text() for name in ("go.mod", "go.sum"))
    replaced = {old: (new, version) for old, new, version in re.findall(r"(\S+) => (\S+) (v\S+)", mod)}
    required = re.findall(r"^(?:require )?\t?(\S+\.\S+/\S+|\S+\.\S+) (v\S+)(?: // indirect)?$", mod, re.MULTILINE)
    assert required
    for module, version in (replaced.get(module, (module, version)) for module, version in required):
        assert f"{module} {version}/go.mod h1:" in sums


@every
def test_each_tool_is_built_by_its_family(tool: Tool) -> None:
    """The package is a tool of the family's go.mod, so that tidying keeps its pins, or the family's own main."""
    package = tool.package
    assert package == "." or package in (tool.folder / "go.mod").read_text()
    assert (package == "." or "main.go" in _added(tool)) == (tool.folder / "main.go").exists()
    assert tool.family in SPACE


@every
def test_what_is_added_to_modules_is_there(tool: Tool) -> None:
    """Files are added to modules that the family pins, and every file beside go.mod is used."""
    mod = (tool.folder / "go.mod").read_text()
    assert all(f"{module} v" in mod for module in tool.additions)
    own = {"main.go"} if tool.package == "." else set()
    assert {file.name for file in tool.folder.iterdir()} - {"go.mod", "go.sum"} == _added(tool) | own


def test_no_family_is_left_over() -> None:
    """Every folder of pins builds a tool, or has a chart."""
    charted = {pin.source.family for pin in charts.pins().values() if pin.source}
    assert {tool.family for tool in TOOLS.values()} | charted == {each.name for each in catalogue.MODULES.iterdir()}


def test_pulumi_and_its_python_packages_are_of_one_version() -> None:
    """The engine and the provider are the ones that the locked Python packages were made for."""
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
    assert f"pulumi=={TOOLS['pulumi'].version}" in project["dependencies"]
    assert f"pulumi-kubernetes=={TOOLS['pulumi-resource-kubernetes'].version}" in project["dependencies"]


@every
def test_versions_reach_the_binary(tool: Tool) -> None:
    """Where the linker sets the version, it is the pinned one."""
    stamped = re.findall(r"[vV]ersion=v?(\S+)", tool.ldflags)
    assert all(version == tool.version for version in stamped)


def test_a_workflows_pods_get_the_executor_of_the_controllers_version() -> None:
    """What the controller calls its executor's image by is the tag that upstream has for this version."""
    flags = TOOLS["workflow-controller"].ldflags
    assert f"-X {MODULES['argoexec']}.version=v{TOOLS['argoexec'].version} " in flags


def _added(tool: Tool) -> set[str]:
    return {name for files in tool.additions.values() for name in files.values()}
