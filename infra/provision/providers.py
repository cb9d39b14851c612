"""Cluster API's providers on a management cluster: what is there, what is missing, and clusterctl, which fetches it.

The simulated provider is none of these: it runs beside an embedded cluster (infra/clusters/embedded/clusterapi.py).
"""

import os
import re
import subprocess
from collections.abc import Callable, Mapping

from infra import toolchain
from infra.clusters import Cluster
from infra.errors import BadInput, CouldNotRun, KibanError, RunFailed
from infra.kubectl import Kubectl
from infra.toolchain.catalogue import CLUSTER_API
from stacks._schema import ProvisionedCluster

Say = Callable[[str], None]
SIMULATED = "simulated"
_FLAGS = {
    "CoreProvider": "core",
    "BootstrapProvider": "bootstrap",
    "ControlPlaneProvider": "control-plane",
    "InfrastructureProvider": "infrastructure",
}
_INVENTORY = "providers.clusterctl.cluster.x-k8s.io"
_NO_NETWORK = re.compile(r"dial tcp|no such host|i/o timeout|connection refused|rate limit|TLS handshake|proxyconnect")


def asked(made: ProvisionedCluster) -> dict[str, str]:
    """Type of provider, as in clusterctl's inventory, to NAME or NAME:VERSION; the core is of Kiban's own pin."""
    return {
        "CoreProvider": f"cluster-api:v{CLUSTER_API}",
        "BootstrapProvider": made.bootstrap,
        "ControlPlaneProvider": made.control_plane,
        "InfrastructureProvider": made.infrastructure,
    }


def install(made: ProvisionedCluster, cluster: Cluster, *, say: Say) -> None:
    """Have clusterctl install what is missing, and wait until it runs. Raises BadInput for another version there."""
    there = installed(cluster)
    missing = {kind: wanted for kind, wanted in asked(made).items() if not _has(there, kind, wanted)}
    if missing:
        say(f"cluster {cluster.name}: installing {', '.join(missing.values())}")
        clusterctl("init", *_on(cluster), *_options(missing), "--wait-providers")


def installed(cluster: Cluster) -> dict[tuple[str, str], str]:
    """Type and name of each provider that is there, to its version."""
    kubectl = Kubectl(cluster.kubeconfig, cluster.context)
    if not kubectl.run("get", "customresourcedefinition", _INVENTORY, "--ignore-not-found", "--output=name"):
        return {}
    found = kubectl.get(_INVENTORY, everywhere=True)
    return {(each["type"], each["providerName"]): each["version"] for each in found}


def move(source: Cluster, target: Cluster, namespace: str) -> None:
    """Move every Cluster of the namespace, with all that belongs to it, to another management cluster.

    One that was cut off is done by the next: clusterctl takes what is there already for moved.
    """
    to = (f"--to-kubeconfig={target.kubeconfig}", f"--to-kubeconfig-context={target.context}")
    clusterctl("move", *_on(source), *to, f"--namespace={namespace}")


def clusterctl(*arguments: str) -> str:
    """What the pinned clusterctl prints; the user's environment and files are its configuration, as ever."""
    program = toolchain.resolve("clusterctl")["clusterctl"]
    environ = {**os.environ, "CLUSTERCTL_DISABLE_VERSIONCHECK": "true"}
    done = subprocess.run([program, *arguments], env=environ, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise failure(arguments[0], done.stderr)
    return done.stdout


def failure(verb: str, output: str) -> KibanError:
    """Why clusterctl failed, from what it printed."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["no word"]
    last = lines[-1].removeprefix("Error: ")
    if unset := re.search(r"value for variables? \[?\"?([^\]\"]+)\"?\]? is not set", output):
        return BadInput(
            f"a provider needs {unset[1]}, which nothing sets; accepted: with these in the environment (credentials "
            "say), and named in cluster.variables"
        )
    if unknown := re.search(r"configuration for the (\w+) with name (\S+?)\. ", output):
        return BadInput(
            f"{unknown[1]} {unknown[2]!r} is not known; accepted: a name of `clusterctl config repositories`, or one "
            "that clusterctl's own configuration file has"
        )
    if "release not found" in output:
        return BadInput(f"a provider has no such version ({last}); accepted: one that its project has released")
    if _NO_NETWORK.search(output):
        return CouldNotRun(f"clusterctl {verb}: no network ({last}); run the same command again with one")
    return RunFailed(f"clusterctl {verb}: {last}")


def _has(there: Mapping[tuple[str, str], str], kind: str, wanted: str) -> bool:
    """Whether the provider is there. Raises BadInput for another version of it."""
    name, _, version = wanted.partition(":")
    found = there.get((kind, name))
    if found and version and found != version:
        raise BadInput(
            f"provider {name} is there in {found}, the environment asks for {version}; accepted: {found}, or "
            "`clusterctl upgrade apply` on the management cluster before"
        )
    return found is not None


def _options(wanted: Mapping[str, str]) -> list[str]:
    return [f"--{_FLAGS[kind]}={provider}" for kind, provider in wanted.items()]


def _on(cluster: Cluster) -> tuple[str, str]:
    return f"--kubeconfig={cluster.kubeconfig}", f"--kubeconfig-context={cluster.context}"
