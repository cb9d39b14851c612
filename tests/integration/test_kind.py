"""kind itself on the configuration that Kiban renders, as far as that goes without Docker."""

import subprocess
from pathlib import Path

import pytest

from infra import console, toolchain
from infra.clusters import kind
from infra.clusters.nodes import Nodes
from infra.errors import CouldNotRun
from stacks import load, names


@pytest.fixture(scope="module")
def binary() -> Path:
    """Return kind."""
    return toolchain.resolve("kind")["kind"]


def said_of(binary: Path, config: Path) -> str:
    """What kind says of a configuration where no daemon can be: it loads the file first, then looks for Docker."""
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "DOCKER_HOST": "unix:///nowhere", "HOME": str(config.parent)}
    command = [str(binary), "create", "cluster", f"--config={config}", f"--kubeconfig={config.parent / 'kubeconfig'}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    return done.stderr


def rendered(environment: str) -> str:
    """The configuration of an environment's kind cluster."""
    env = load(environment)
    return kind.render(environment, Nodes(system=env.system_nodes, gpu_pools=env.gpu_pools))


@pytest.mark.parametrize("environment", names())
def test_kind_loads_every_environment(binary: Path, tmp_path: Path, environment: str) -> None:
    """Kind's strict loader takes the file of every environment: what it then misses is Docker."""
    config = tmp_path / "kind.yaml"
    config.write_text(rendered(environment))
    said = said_of(binary, config)
    assert "docker" in said
    assert "config" not in said.partition("Command Output")[0].replace("docker", "")


@pytest.mark.parametrize(
    ("good", "broken"),
    [("role: worker", "roll: worker"), ("kubeadmConfigPatches:", "kubeadmPatches:"), ("v1alpha4", "v1alpha9")],
)
def test_kind_refuses_a_broken_one(binary: Path, tmp_path: Path, good: str, broken: str) -> None:
    """The same loader refuses a field or version that it does not know, before it looks for Docker."""
    config = tmp_path / "kind.yaml"
    config.write_text(rendered("local").replace(good, broken))
    said = said_of(binary, config)
    assert broken.split(":", maxsplit=1)[0].strip() in said
    assert "docker info" not in said


def test_without_docker_it_says_so(monkeypatch: pytest.MonkeyPatch, cluster_home: Path) -> None:
    """Where no daemon answers, `--kind` could not run: one line says why and what to do, and nothing is made."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    with pytest.raises(CouldNotRun, match=r"needs a Docker daemon.*leave out --kind") as refused:
        kind.up("nodocker", Nodes(), say=console.say)
    assert "\n" not in str(refused.value)
    assert not (cluster_home / "kind").exists()
