"""Where one environment is applied: its cluster, the backend of its state, and the shell in which `pulumi` meets both.

Nothing is run here; infra/engine runs pulumi with `Target.environ`, and `kiban env` prints it.
"""

import dataclasses as dc
import gzip
import json
import os
from collections.abc import Mapping
from pathlib import Path

import stacks
from infra import paths, pulumi_home, toolchain
from infra.clusters import Cluster, embedded, kind, kubeconfig
from infra.errors import BadInput
from infra.provision import record
from infra.pulumi_home import PASSPHRASE
from stacks._schema import EmbeddedCluster, Environment, ProvisionedCluster

PROJECT = "kiban"
# What `kiban env` sets; another environment must not take it for what the user wants.
_OURS = (
    "KIBAN_CLUSTER",
    "KUBECACHEDIR",
    "KUBECONFIG",
    "PULUMI_BACKEND_URL",
    "PULUMI_DIY_BACKEND_GZIP",
    "PULUMI_HOME",
    "PULUMI_OPTION_CONFIG_FILE",
    "PULUMI_OPTION_PRESERVE_CONFIG",
    "PULUMI_SKIP_CHECKPOINTS",
    "PULUMI_STACK",
    *PASSPHRASE,
)
_ENGINE = {
    # Most steps of a run wait for pods, and what those wait for needs a place too (Pulumi's default is 4 a core).
    "PULUMI_PARALLEL": "256",
    "PULUMI_PARALLEL_DIFF": "true",
    "PULUMI_SKIP_UPDATE_CHECK": "true",
    # Plugins are those that this module links into PULUMI_HOME: none from PATH, with a warning, and none fetched.
    "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
    "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    # The backend keeps each run's state in its history already; the copy at every step doubles the writes.
    "PULUMI_DIY_BACKEND_DISABLE_CHECKPOINT_BACKUPS": "true",
}


@dc.dataclass(frozen=True, kw_only=True)
class Target:
    """An environment on its live cluster.

    on: the embedded cluster that stands in for the environment's own, or None.
    home: PULUMI_HOME: plugins, logs, the selected stack.
    folder: beside an embedded or kind cluster, where its stack keeps state, configuration and passphrase; None where
        the user or the environment's data names a backend.
    environ: what a pulumi process needs over the user's environment; None: must not be set.
    """

    environment: Environment
    on: str | None
    cluster: Cluster
    backend: str | None
    home: Path
    folder: Path | None
    pulumi: Path
    environ: Mapping[str, str | None]

    @property
    def stack(self) -> str:
        """The stack's name."""
        return self.environment.name

    @property
    def command(self) -> str:
        """What a user types behind `kiban up` to mean this."""
        return f"{self.stack} --on {self.on}" if self.on else self.stack


def data(name: str, on: str | None = None) -> Environment:
    """Load an environment, moved to the embedded cluster `on` if given. Raises BadInput in one line."""
    try:
        found = stacks.load(name)
    except ValueError as error:
        raise BadInput(" ".join(str(error).split())) from None
    return found.on(EmbeddedCluster(name=on)) if on else found


def environment(name: str, on: str | None = None) -> Environment:
    """The same as `up` applies it: without the controllers that need pods, where the cluster runs none for real."""
    found = data(name, on)
    match found.cluster:
        case EmbeddedCluster(name=cluster) if not runs_pods(cluster):
            return found.without_controllers()
    return found


def runs_pods(cluster: str) -> bool:
    """Whether pods run for real on the cluster of that name that Kiban makes, or will once it is there."""
    return cluster in kind.names() or embedded.runs_pods(cluster)


def locate(environment: Environment) -> Cluster:
    """Find the environment's live cluster.

    Raises CouldNotRun where it does not answer, BadInput where another cluster than the one that the data names does.
    """
    match environment.cluster:
        case EmbeddedCluster(name=name):
            return kind.get(name) if name in kind.names() else embedded.get(name)
        case ProvisionedCluster() as made:
            return record.locate(environment.name, made)
        case existing:
            return kubeconfig.locate(existing.context, existing.kube_system_uid)


def refuse_second(environment: Environment, folder: Path) -> None:
    """Raise BadInput where a cluster's stack folder has another environment applied: their objects share names."""
    for name, file in states(folder).items():
        if name != environment.name and _applied(file):
            cluster = folder.parent.name
            raise BadInput(
                f"{environment.name} on {cluster}: that cluster has {name}; accepted: one environment a cluster; "
                f"run `kiban destroy {name} --on {cluster}`, or take another cluster"
            )


def states(folder: Path) -> dict[str, Path]:
    """The files in which a backend that is a folder keeps the states of the project's stacks, by stack."""
    files = sorted((folder / ".pulumi" / "stacks" / PROJECT).glob("*.json*"))
    return {file.name.partition(".")[0]: file for file in files if file.suffix in {".json", ".gz"}}


def _applied(file: Path) -> bool:
    """Whether a state has any Kubernetes object."""
    text = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    resources = json.loads(text)["checkpoint"]["latest"].get("resources") or ()
    return any(resource["type"].startswith("kubernetes:") for resource in resources)


def resolve(name: str, on: str | None = None) -> Target:
    """Find an environment, its cluster and the tools, and lay out what pulumi needs on disk."""
    on = meant(name, on)
    user = user_environ(name, on)
    found = environment(name, on)
    cluster = locate(found)
    tools = toolchain.resolve("pulumi", "pulumi-resource-kubernetes", "kubectl")
    backend, folder = _backend(found, cluster, on, user)
    home = (folder or paths.home()) / "pulumi"
    environ: dict[str, str | None] = {
        **_ENGINE,
        "KIBAN_SHELL": f"{name}@{on}" if on else name,
        "KIBAN_CLUSTER": on,
        # The program finds an embedded cluster there, also where the user has set it for one command only.
        "KIBAN_HOME": str(paths.home()) if user.get("KIBAN_HOME") else None,
        "PULUMI_STACK": name,
        "PULUMI_HOME": str(home),
        "PULUMI_BACKEND_URL": backend,
        "PULUMI_SKIP_CHECKPOINTS": None if found.state.durable else "true",
        # Of a state that is written twice a resource: 2 MB, or 40 kB.
        "PULUMI_DIY_BACKEND_GZIP": "true" if found.state.durable else None,
        "PATH": _first(home / "bin", user.get("PATH", os.defpath)),
        **_kubeconfig(found, cluster, home, user),
        **(_own(folder, name, on, user) if folder else _users(found, user)),
    }
    pulumi_home.lay_out(home, tools, user)
    return Target(
        environment=found,
        on=on,
        cluster=cluster,
        backend=backend,
        home=home,
        folder=folder,
        pulumi=tools["pulumi"],
        environ=environ,
    )


def meant(name: str, on: str | None) -> str | None:
    """The cluster that stands in: in the shell of `kiban env NAME --on CLUSTER`, NAME means that one unsaid."""
    return on or user_environ(name, on).get("KIBAN_CLUSTER") or None


def user_environ(name: str, on: str | None, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the user has set, without what `kiban env` has set for another environment or cluster than this."""
    shell = environ.get("KIBAN_SHELL")
    own = {f"{name}@{on}"} if on else {name, f"{name}@{environ.get('KIBAN_CLUSTER')}"}
    foreign = shell is not None and shell not in own
    return {key: value for key, value in environ.items() if not (foreign and key in _OURS)}


def _backend(
    environment: Environment, cluster: Cluster, on: str | None, user: Mapping[str, str]
) -> tuple[str | None, Path | None]:
    """The backend's URL, and the folder that it is if it lies beside the cluster. None: where the user is logged in."""
    named = _whole(user.get("PULUMI_BACKEND_URL") or environment.state.backend)
    if not isinstance(environment.cluster, EmbeddedCluster):
        return named, None
    folder = cluster.kubeconfig.parent / "stack"
    own = _whole(folder.as_uri())
    return (own, folder) if on or named in (None, own) else (named, None)


def _whole(backend: str | None) -> str | None:
    """The backend's URL; of a folder, so that a kill leaves every file whole.

    By default a second file beside each (`.attrs`) is written in place, and one that was cut off there makes the state
    unreadable (gocloud.dev/blob/fileblob, setAttrs). Nothing reads what is in it.
    """
    if backend is None or not backend.startswith("file://") or "metadata=" in backend:
        return backend
    return f"{backend}{'&' if '?' in backend else '?'}metadata=skip"


def _own(folder: Path, name: str, on: str | None, user: Mapping[str, str]) -> dict[str, str | None]:
    """The settings of a stack that lives beside its embedded cluster: nothing of it is written into the checkout."""
    config = folder / f"Pulumi.{name}.yaml"
    settings: dict[str, str | None] = {
        "PULUMI_OPTION_CONFIG_FILE": str(config),
        "PULUMI_OPTION_PRESERVE_CONFIG": "true",  # `pulumi stack rm` would look for the file in the checkout
    }
    file = folder / "passphrase"
    theirs = not on and any(user.get(key) not in (None, str(file)) for key in PASSPHRASE)
    if not theirs or file.exists():
        pulumi_home.make_passphrase(file, needed_by=config)
        settings |= {"PULUMI_CONFIG_PASSPHRASE": None, "PULUMI_CONFIG_PASSPHRASE_FILE": str(file)}
    return settings


def _users(environment: Environment, user: Mapping[str, str]) -> dict[str, str | None]:
    """The settings of a stack whose backend the user keeps: credentials and passphrase are the user's too."""
    if environment.state.secrets_provider == "passphrase" and not any(key in user for key in PASSPHRASE):
        raise BadInput(
            f"{environment.name}: the state is in a backend of yours but no passphrase is set; "
            f"set {PASSPHRASE[1]} to a file that holds it"
        )
    theirs = {key: user.get(key) for key in ("PULUMI_OPTION_CONFIG_FILE", "PULUMI_OPTION_PRESERVE_CONFIG", *PASSPHRASE)}
    login = user.get("PULUMI_CREDENTIALS_PATH") or user.get("PULUMI_HOME") or str(Path.home() / ".pulumi")
    return {**theirs, "PULUMI_CREDENTIALS_PATH": login}


def _kubeconfig(
    environment: Environment, cluster: Cluster, home: Path, user: Mapping[str, str]
) -> dict[str, str | None]:
    """KUBECONFIG such that kubectl's current context is the environment's."""
    if isinstance(environment.cluster, EmbeddedCluster):
        return {"KUBECONFIG": str(cluster.kubeconfig), "KUBECACHEDIR": str(home / "kubectl-cache")}
    # Of several files the first that names a current context decides.
    first = home / f"{environment.name}.kubeconfig"
    pulumi_home.write(first, f"apiVersion: v1\nkind: Config\ncurrent-context: {cluster.context}\n")
    return {"KUBECONFIG": _first(first, user.get("KUBECONFIG") or str(Path.home() / ".kube" / "config"))}


def _first(path: Path, rest: str) -> str:
    """The list of paths with this one at its head."""
    return os.pathsep.join([str(path), *(other for other in rest.split(os.pathsep) if other != str(path))])
