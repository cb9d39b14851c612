"""The same platform on Docker: a kind cluster whose workers carry the labels and taints of an environment's pools.

Each node is a container, so a pool has few of them here; what they offer of GPUs is a number in their status.
Rendered and loaded by kind in the tests; the rest needs a Docker daemon and was not run where this was written.
"""

import contextlib
import dataclasses as dc
import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import jinja2

from components._labels import POOL
from components._pools import SYSTEM_POOL, node_labels, node_taints
from components.gpu_node_pools import Taint
from infra import paths, toolchain
from infra.clusters import Cluster, files
from infra.clusters.embedded.record import check_name
from infra.clusters.nodes import Nodes, capacity
from infra.errors import CouldNotRun, RunFailed
from infra.kubectl import Kubectl

Say = Callable[[str], None]
MOST = 2  # containers a pool; one takes about 0.5 GB


@dc.dataclass(frozen=True, kw_only=True)
class Worker:
    """One node: what it is labelled and tainted with, and the devices that it says it has."""

    labels: Mapping[str, str]
    taints: tuple[Taint, ...] = ()
    devices: Mapping[str, str] = dc.field(default_factory=dict)


def workers(nodes: Nodes) -> list[Worker]:
    """As many workers a pool as it has at least, but one to MOST of them."""
    found = [Worker(labels={POOL: SYSTEM_POOL})] * _few(nodes.system.count)
    for pool in nodes.gpu_pools:
        worker = Worker(labels=node_labels(pool), taints=node_taints(pool), devices=capacity(pool))
        found += [worker] * _few(pool.minimum)
    return found


def render(name: str, nodes: Nodes) -> str:
    """The configuration of the kind cluster, as YAML."""
    environment = jinja2.Environment(
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - YAML, not HTML: every value goes through tojson
    )
    template = environment.from_string(Path(__file__).with_name("kind.yaml.j2").read_text())
    return template.render(name=_kind_name(name), workers=workers(nodes))


def up(name: str, nodes: Nodes, *, say: Say) -> Cluster:
    """Make the cluster unless it exists, and give its nodes their devices. Raises CouldNotRun without Docker."""
    check_name(name)
    _need_docker()
    where = _folder(name)
    where.mkdir(mode=0o700, parents=True, exist_ok=True)
    kubeconfig, config = where / "kubeconfig", where / "kind.yaml"
    if _kind_name(name) not in _kind("get", "clusters").split():
        files.replace(config, render(name, nodes))
        say(f"cluster {name}: {len(workers(nodes)) + 1} containers, at most {MOST} a pool; kind takes a minute or two")
        _kind("create", "cluster", f"--config={config}", f"--kubeconfig={kubeconfig}", "--wait=120s")
    else:
        _kind("export", "kubeconfig", f"--name={_kind_name(name)}", f"--kubeconfig={kubeconfig}")
    _give_devices(_kubectl(name), nodes)
    return get(name)


def get(name: str) -> Cluster:
    """The cluster, if it is there. Raises CouldNotRun where it is not or does not answer."""
    check_name(name)
    kubectl = _kubectl(name)
    try:
        uid = kubectl.get("namespace", "kube-system")[0]["metadata"]["uid"]
    except RunFailed as failed:
        raise CouldNotRun(
            f"kind cluster {name!r} does not answer ({failed}); run: kiban cluster up {name} --kind"
        ) from failed
    return Cluster(name=name, kubeconfig=_folder(name) / "kubeconfig", context=f"kind-{_kind_name(name)}", uid=uid)


def names() -> tuple[str, ...]:
    """The kind clusters that were made here."""
    return tuple(sorted(path.parent.name for path in paths.home().glob("kind/*/kubeconfig")))


def down(name: str, *, say: Say) -> None:
    """Delete the cluster with its containers and its folder; one that is not is no error."""
    check_name(name)
    _need_docker()
    say(f"cluster {name}: deleting its containers")
    _kind("delete", "cluster", f"--name={_kind_name(name)}", f"--kubeconfig={_folder(name) / 'kubeconfig'}")
    shutil.rmtree(_folder(name), ignore_errors=True)
    with contextlib.suppress(OSError):  # other clusters are there
        _folder(name).parent.rmdir()


def _give_devices(kubectl: Kubectl, nodes: Nodes) -> None:
    """Write what each node offers into its status; the kubelet keeps what it does not know."""
    for pool in nodes.gpu_pools:
        patch = json.dumps({"status": {"capacity": capacity(pool)}})
        for node in kubectl.get("nodes", selector=f"{POOL}={pool.name}"):
            kubectl.run(
                "patch", "node", node["metadata"]["name"], "--subresource=status", "--type=merge", f"--patch={patch}"
            )


def _kubectl(name: str) -> Kubectl:
    return Kubectl(_folder(name) / "kubeconfig", f"kind-{_kind_name(name)}")


def _few(count: int) -> int:
    return min(max(count, 1), MOST)


def _kind_name(name: str) -> str:
    return f"kiban-{name}"


def _folder(name: str) -> Path:
    return paths.home() / "kind" / name


def _need_docker() -> None:
    remedy = "start it, or leave out --kind for an embedded cluster, which needs none"
    docker = shutil.which("docker")
    if docker is None:
        raise CouldNotRun(f"kind needs a Docker daemon and there is no docker on PATH; {remedy}")
    done = subprocess.run([docker, "info"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["docker info failed"]
        raise CouldNotRun(f"kind needs a Docker daemon and none answers ({said[-1]}); {remedy}")


def _kind(*arguments: str) -> str:
    command = [str(toolchain.resolve("kind")["kind"]), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise RunFailed(f"kind {' '.join(arguments[:2])}: {(said or ['no word'])[0]}")
    return done.stdout
