"""The tools, each at its one pinned version, and where a binary of it comes from.

Data only. Versions stand here, in the family's go.mod (modules/<family>) and, for Pulumi, in pyproject.toml; a test
holds the three together.
"""

import dataclasses as dc
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

MODULES = Path(__file__).resolve().parent / "modules"

GB = 1000**3
SPARE = GB
"""Bytes to have free before a build whose family is compiled: the binary, and what the linker writes."""
SPACE: Mapping[str, int] = MappingProxyType(
    {
        "kubernetes": 11 * GB // 2,
        "pulumi": 7 * GB // 2,
        "provider": 6 * GB,
        "kind": GB // 2,
        "containerd": GB,
        "networkpolicy": 2 * GB,
        "local-path": 3 * GB // 2,
        "images": GB // 2,
        "pause": GB // 4,
        "coredns": 3 * GB // 2,
        "cert-manager": 3 * GB,
        "kueue": 7 * GB // 2,
        "jobset": 5 * GB // 2,
        "argo": 11 * GB // 2,
        "versitygw": GB,
        "prometheus": 3 * GB,
        "prometheus-operator": 5 * GB // 2,
        "kube-state-metrics": 2 * GB,
        "node-exporter": GB // 2,
        "kserve": 9 * GB // 2,
        "kube-rbac-proxy": 2 * GB,
        "envoy-gateway": 7 * GB // 2,
        "alertmanager": GB,
        "karpenter": 5 * GB // 2,
        "cluster-api": 3 * GB,
    },
)
"""Bytes that a family's first build takes: modules, compiled packages, binaries (measured with Go 1.26.8)."""


@dc.dataclass(frozen=True, kw_only=True)
class Release:
    """The archive that a project publishes of a tool, and the project's own checksums of it.

    All but `base` may hold {version}, {os} and {arch} (Go's names); `base` may hold {version}.
    checksums: a file of lines `HEX  NAME`, or one HEX alone; SHA-256 or SHA-512, told apart by length.
    member: the binary's path in a .tar.gz; empty where the file is the binary.
    beside: more members that the binary looks for in its own folder; one that the archive lacks is no error.
    architectures: the project's names where they differ from Go's.
    """

    base: str
    archive: str
    checksums: str
    member: str = ""
    beside: tuple[str, ...] = ()
    architectures: Mapping[str, str] = dc.field(default_factory=dict)


@dc.dataclass(frozen=True, kw_only=True)
class Tool:
    """A program that Kiban runs.

    family: folder in modules/ with the go.mod and go.sum that it is built from.
    package: what `go build` is given, in that folder.
    version: without a leading v.
    tags: Go's build tags, by which upstream lets parts be left out.
    version_args: what makes it print its version; empty for a Pulumi plugin, which answers over gRPC only; None for a
        Go program that has no such flag: what Go has written into it is read instead.
    additions: modules that are built from a copy, checked against go.sum before, with files of the family put into it:
        module -> path in it -> name beside go.mod.
    release: None where the project publishes no checksum of its binaries.
    systems: where it runs (Go's names); empty for everywhere.
    """

    name: str
    family: str
    package: str
    version: str
    ldflags: str = "-s -w"
    tags: tuple[str, ...] = ()
    version_args: tuple[str, ...] | None = ("--version",)
    additions: Mapping[str, Mapping[str, str]] = dc.field(default_factory=dict)
    release: Release | None = None
    systems: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder with the go.mod that pins it."""
        return MODULES / self.family


def _github(project: str) -> str:
    return f"https://github.com/{project}/releases/download/v{{version}}"


def _stamped(*values: str) -> str:
    """Linker flags: no symbol tables, and the version that upstream's own release build sets."""
    return " ".join(["-s -w", *(f"-X {value}" for value in values)])


_LINUX = ("linux",)
KUBERNETES = "1.36.3"


def _kubernetes(name: str, *version_args: str, systems: tuple[str, ...] = ()) -> Tool:
    major, minor, _ = KUBERNETES.split(".")
    version = "k8s.io/component-base/version"
    return Tool(
        name=name,
        family="kubernetes",
        package=f"k8s.io/kubernetes/cmd/{name}",
        version=KUBERNETES,
        ldflags=_stamped(
            f"{version}.gitVersion=v{KUBERNETES}",
            f"{version}.gitMajor={major}",
            f"{version}.gitMinor={minor}",
        ),
        version_args=version_args or ("--version",),
        release=Release(
            base="https://dl.k8s.io/release/v{version}/bin",
            archive=f"{{os}}/{{arch}}/{name}",
            checksums=f"{{os}}/{{arch}}/{name}.sha256",
        ),
        systems=systems,
    )


CONTAINERD = "2.1.4"


def _containerd(name: str, version_arg: str = "--version") -> Tool:
    return Tool(
        name=name,
        family="containerd",
        package=f"github.com/containerd/containerd/v2/cmd/{name}",
        version=CONTAINERD,
        ldflags=_stamped(f"github.com/containerd/containerd/v2/version.Version=v{CONTAINERD}"),
        version_args=(version_arg,),
        release=Release(
            base=_github("containerd/containerd"),
            archive="containerd-{version}-{os}-{arch}.tar.gz",
            checksums="containerd-{version}-{os}-{arch}.tar.gz.sha256sum",
            member=f"bin/{name}",
        ),
        systems=_LINUX,
    )


_ARGO = "github.com/argoproj/argo-workflows/v3"
ARGO = "3.7.18"


def _argo(name: str) -> Tool:
    return Tool(
        name=name,
        family="argo",
        package=f"{_ARGO}/cmd/{name}",
        version=ARGO,
        ldflags=_stamped(
            f"{_ARGO}.version=v{ARGO}",
            f"{_ARGO}.gitTag=v{ARGO}",
            f"{_ARGO}.gitCommit=66e32e5cc367f223e2ecf4fbe852b95eaed83034",
            f"{_ARGO}.gitTreeState=clean",  # all four, else it is v3.7.18+unknown
        ),
        version_args=("version",),
        additions={
            _ARGO: {
                "workflow/executor/osspecific/signal_linux.go": "signal_linux.go",
                "ui/dist/app/index.html": "index.html",
            },
        },
        systems=_LINUX,
        # no release: upstream's are .gz files of one program, and of the command `argo` only
    )


_COMMON = "github.com/prometheus/common/version"
_PROMETHEUS = "github.com/prometheus/prometheus"
PROMETHEUS = "3.14.0"


def _prometheus(name: str) -> Tool:
    return Tool(
        name=name,
        family="prometheus",
        package=f"{_PROMETHEUS}/cmd/{name}",
        version=PROMETHEUS,
        ldflags=_stamped(f"{_COMMON}.Version={PROMETHEUS}"),
        tags=("remove_all_sd", "enable_kubernetes_sd"),  # without every cloud's SDK
        release=_prometheus_release("prometheus", name),
        # built, it has no page: upstream's is not in the module
    )


_ALERTMANAGER = "github.com/prometheus/alertmanager"
ALERTMANAGER = "0.34.0"


def _alertmanager(name: str) -> Tool:
    return Tool(
        name=name,
        family="alertmanager",
        package=f"{_ALERTMANAGER}/cmd/{name}",
        version=ALERTMANAGER,
        ldflags=_stamped(f"{_COMMON}.Version={ALERTMANAGER}"),
        additions={_ALERTMANAGER: {"ui/app/dist/page.txt": "page.txt"}},  # the folder is embedded, and must have a file
        release=_prometheus_release("alertmanager", name),
    )


def _prometheus_release(project: str, name: str) -> Release:
    folder = f"{project}-{{version}}.{{os}}-{{arch}}"
    return Release(
        base=_github(f"prometheus/{project}"),
        archive=f"{folder}.tar.gz",
        checksums="sha256sums.txt",
        member=f"{folder}/{name}",
    )


def _kserve(name: str, command: str) -> Tool:
    return Tool(
        name=name,
        family="kserve",
        package=f"github.com/kserve/kserve/cmd/{command}",
        version="0.20.0",
        version_args=None,
        systems=_LINUX,
    )


OPERATOR = "0.93.1"


def _operator(name: str, command: str) -> Tool:
    return Tool(
        name=name,
        family="prometheus-operator",
        package=f"github.com/prometheus-operator/prometheus-operator/cmd/{command}",
        version=OPERATOR,
        ldflags=_stamped(f"{_COMMON}.Version={OPERATOR}"),
        systems=_LINUX,
    )


_CLUSTER_API = "sigs.k8s.io/cluster-api"
CLUSTER_API = "1.14.2"
_PROVIDER = "github.com/pulumi/pulumi-kubernetes/provider/v4"
_CONTAINERREGISTRY = "github.com/google/go-containerregistry"

TOOLS: Mapping[str, Tool] = MappingProxyType(
    {
        tool.name: tool
        for tool in (
            Tool(
                name="etcd",
                family="kubernetes",
                package="go.etcd.io/etcd/server/v3",
                version="3.6.8",
                release=Release(
                    base=_github("etcd-io/etcd"),
                    archive="etcd-v{version}-{os}-{arch}.tar.gz",  # macOS has a .zip instead: built there
                    checksums="SHA256SUMS",
                    member="etcd-v{version}-{os}-{arch}/etcd",
                ),
            ),
            _kubernetes("kube-apiserver"),
            _kubernetes("kube-controller-manager"),
            _kubernetes("kube-scheduler"),
            _kubernetes("kubectl", "version", "--client"),
            Tool(
                name="kwok",
                family="kubernetes",
                package="sigs.k8s.io/kwok/cmd/kwok",
                version="0.8.0",
                ldflags=_stamped("sigs.k8s.io/kwok/pkg/consts.Version=v0.8.0"),
                # no release: upstream's hack/releases.sh uploads binaries without checksums
            ),
            Tool(
                name="pulumi",
                family="pulumi",
                package="github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
                version="3.259.0",
                ldflags=_stamped("github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v3.259.0"),
                version_args=("version",),
                release=Release(
                    base=_github("pulumi/pulumi"),
                    archive="pulumi-v{version}-{os}-{arch}.tar.gz",
                    checksums="pulumi-{version}-checksums.txt",
                    member="pulumi/pulumi",
                    beside=("pulumi/pulumi-language-python", "pulumi/pulumi-language-python-exec"),
                    architectures={"amd64": "x64"},
                ),
            ),
            Tool(
                name="pulumi-resource-kubernetes",
                family="provider",
                package=f"{_PROVIDER}/cmd/pulumi-resource-kubernetes",
                version="4.25.0",
                ldflags=_stamped(f"{_PROVIDER}/pkg/version.Version=v4.25.0"),
                version_args=(),
                additions={_PROVIDER: {"cmd/pulumi-resource-kubernetes/main.go": "main.go"}},
                release=Release(
                    base=_github("pulumi/pulumi-kubernetes"),
                    archive="pulumi-resource-kubernetes-v{version}-{os}-{arch}.tar.gz",
                    checksums="pulumi-kubernetes_{version}_checksums.txt",
                    member="pulumi-resource-kubernetes",
                ),
            ),
            Tool(
                name="kind",
                family="kind",
                package="sigs.k8s.io/kind",
                version="0.33.0",
                release=Release(
                    base=_github("kubernetes-sigs/kind"),
                    archive="kind-{os}-{arch}",
                    checksums="kind-{os}-{arch}.sha256sum",
                ),
            ),
            _kubernetes("kubelet", systems=_LINUX),
            _kubernetes("kube-proxy", systems=_LINUX),
            _containerd("containerd"),
            _containerd("containerd-shim-runc-v2", "-v"),
            _containerd("ctr"),
            Tool(
                name="kube-router",
                family="networkpolicy",
                package="github.com/cloudnativelabs/kube-router/v2/cmd/kube-router",
                version="2.2.1",
                ldflags=_stamped("github.com/cloudnativelabs/kube-router/v2/pkg/version.Version=v2.2.1"),
                systems=_LINUX,
                # no release: upstream's own is of another source than the fork that go.mod names
            ),
            Tool(
                name="local-path",
                family="local-path",
                package=".",
                version="13.0.0",
                ldflags=_stamped("main.version=13.0.0"),
                systems=_LINUX,
            ),
            Tool(
                name="umoci",
                family="images",
                package="github.com/opencontainers/umoci/cmd/umoci",
                version="0.6.0",
                systems=_LINUX,
            ),
            Tool(
                name="crane",
                family="images",
                package=f"{_CONTAINERREGISTRY}/cmd/crane",
                version="0.22.1",
                ldflags=_stamped(
                    f"{_CONTAINERREGISTRY}/cmd/crane/cmd.Version=0.22.1",
                    f"{_CONTAINERREGISTRY}/pkg/v1/remote/transport.Version=0.22.1",
                ),
                version_args=("version",),
                release=Release(
                    base=_github("google/go-containerregistry"),
                    archive="go-containerregistry_Linux_{arch}.tar.gz",
                    checksums="checksums.txt",
                    member="crane",
                    architectures={"amd64": "x86_64"},
                ),
                systems=_LINUX,
            ),
            Tool(
                name="pause",
                family="pause",
                package=".",
                version="3.10.0",
                ldflags=_stamped("main.version=3.10.0"),
                systems=_LINUX,
            ),
            Tool(
                name="coredns",
                family="coredns",
                package=".",
                version="1.12.4",
                systems=_LINUX,
                # no release: upstream's has every plugin, and is 40 MB larger
            ),
            Tool(
                name="cert-manager",
                family="cert-manager",
                package=".",
                version="1.21.1",
                ldflags=_stamped("github.com/cert-manager/cert-manager/pkg/util.AppVersion=v1.21.1"),
                systems=_LINUX,
            ),
            Tool(
                name="kueue",
                family="kueue",
                package="sigs.k8s.io/kueue/cmd/kueue",
                version="0.19.2",
                ldflags=_stamped("sigs.k8s.io/kueue/pkg/version.GitVersion=v0.19.2"),
                version_args=None,
                systems=_LINUX,
            ),
            Tool(
                name="jobset",
                family="jobset",
                package="sigs.k8s.io/jobset",
                version="0.12.0",
                ldflags=_stamped("sigs.k8s.io/jobset/pkg/version.GitVersion=v0.12.0"),
                version_args=None,
                systems=_LINUX,
            ),
            _argo("workflow-controller"),
            _argo("argoexec"),
            _argo("argo"),
            Tool(
                name="versitygw",
                family="versitygw",
                package="github.com/versity/versitygw/cmd/versitygw",
                version="1.0.14",
                ldflags=_stamped("main.Version=1.0.14"),
                release=Release(
                    base=_github("versity/versitygw"),
                    archive="versitygw_v{version}_Linux_{arch}.tar.gz",
                    checksums="checksums.txt",
                    member="versitygw_v{version}_Linux_{arch}/versitygw",
                    architectures={"amd64": "x86_64"},
                ),
                systems=_LINUX,
            ),
            _prometheus("promtool"),
            _prometheus("prometheus"),
            _alertmanager("amtool"),
            _alertmanager("alertmanager"),
            _operator("prometheus-operator", "operator"),
            _operator("prometheus-config-reloader", "prometheus-config-reloader"),
            Tool(
                name="kube-state-metrics",
                family="kube-state-metrics",
                package="k8s.io/kube-state-metrics/v2",
                version="2.20.0",
                ldflags=_stamped(f"{_COMMON}.Version=v2.20.0"),
                version_args=("version",),
                systems=_LINUX,
            ),
            Tool(
                name="node-exporter",
                family="node-exporter",
                package="github.com/prometheus/node_exporter",
                version="1.12.1",
                ldflags=_stamped(f"{_COMMON}.Version=1.12.1"),
                release=_prometheus_release("node_exporter", "node_exporter"),
                systems=_LINUX,
            ),
            _kserve("kserve-controller", "manager"),
            _kserve("kserve-agent", "agent"),
            Tool(
                name="kube-rbac-proxy",
                family="kube-rbac-proxy",
                package="github.com/brancz/kube-rbac-proxy/cmd/kube-rbac-proxy",
                version="0.18.0",
                ldflags=_stamped("k8s.io/component-base/version.gitVersion=v0.18.0"),
                systems=_LINUX,
            ),
            Tool(
                name="envoy-gateway",
                family="envoy-gateway",
                package="github.com/envoyproxy/gateway/cmd/envoy-gateway",
                version="1.9.0",
                ldflags=_stamped("github.com/envoyproxy/gateway/internal/cmd/version.envoyGatewayVersion=v1.9.0"),
                version_args=("version",),
                systems=_LINUX,
            ),
            Tool(
                name="karpenter-kwok",
                family="karpenter",
                package="sigs.k8s.io/karpenter/kwok",
                version="1.14.1",
                ldflags=_stamped("sigs.k8s.io/karpenter/pkg/operator.Version=1.14.1"),
                version_args=None,
                # no release: upstream publishes the controllers of clouds, each by its own project
            ),
            Tool(
                name="cluster-api",
                family="cluster-api",
                package=f"{_CLUSTER_API}/core",
                version=CLUSTER_API,
                ldflags=_stamped(f"{_CLUSTER_API}/version.gitVersion=v{CLUSTER_API}"),
                version_args=None,
            ),
            Tool(
                name="clusterctl",
                family="cluster-api",
                package=f"{_CLUSTER_API}/cmd/clusterctl",
                version=CLUSTER_API,
                ldflags=_stamped(f"{_CLUSTER_API}/version.gitVersion=v{CLUSTER_API}"),
                version_args=("version", "-o", "short"),
                # no release: upstream's are binaries without checksums
            ),
        )
    },
)
