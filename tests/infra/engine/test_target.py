"""Where an environment is applied: whose backend, whose passphrase, and what the shell of `kiban env` holds."""

import concurrent.futures
import dataclasses as dc
import gzip
import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infra import pulumi_home, target
from infra.clusters import Cluster
from infra.errors import BadInput
from infra.target import Target
from stacks._schema import Environment, KubeconfigCluster, State

Resolve = Callable[..., Target]
REMOTE = State(durable=True, backend="s3://states", secrets_provider="awskms://alias/key")

THEIRS = {"PULUMI_CONFIG_PASSPHRASE": "theirs"}


@pytest.fixture
def resolve(environment: Environment, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Return target.resolve for the named environment, with the user's variables as keywords."""
    tools = {name: tmp_path / "tools" / name for name in ("pulumi", "pulumi-resource-kubernetes", "kubectl")}
    monkeypatch.setattr("infra.toolchain.resolve", lambda *_: tools)
    monkeypatch.setattr(target, "locate", lambda _: cluster)
    for name in [name for name in os.environ if name.startswith(("PULUMI", "KIBAN"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KIBAN_HOME", str(tmp_path))

    def call(on: str | None = None, *, given: Environment = environment, **variables: str) -> Target:
        monkeypatch.setattr("stacks.load", lambda _: given)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return target.resolve(given.name, on)

    return call


def test_an_embedded_cluster_keeps_its_stack_beside_itself(resolve: Resolve, cluster: Cluster) -> None:
    """State, configuration, passphrase and Pulumi's home are in the cluster's folder, so they go when it goes."""
    found = resolve()
    folder = cluster.kubeconfig.parent / "stack"
    assert found.backend == f"{folder.as_uri()}?metadata=skip"
    for name in ("PULUMI_HOME", "PULUMI_CONFIG_PASSPHRASE_FILE", "PULUMI_OPTION_CONFIG_FILE"):
        value = found.environ[name]
        assert value is not None
        assert Path(value).is_relative_to(folder)


def test_the_passphrase_is_for_its_owner_alone(resolve: Resolve) -> None:
    """A generated passphrase is long, readable by the user only, and the same the next time."""
    folder = resolve().folder
    assert folder is not None
    file = folder / "passphrase"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    passphrase = file.read_text()
    assert len(passphrase) >= 32
    assert resolve().folder == folder
    assert file.read_text() == passphrase


def test_two_processes_agree_on_one_passphrase(tmp_path: Path) -> None:
    """Whoever is second takes the passphrase of the first."""
    file = tmp_path / "passphrase"

    def read(_: int) -> str:
        pulumi_home.make_passphrase(file, needed_by=tmp_path / "none")
        return file.read_text()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(read, range(32)))) == 1
    assert list(tmp_path.iterdir()) == [file]


def test_a_backend_that_the_user_names_is_used(resolve: Resolve) -> None:
    """PULUMI_BACKEND_URL and the passphrase beside it are the user's choice, and nothing is made in their place."""
    found = resolve(PULUMI_BACKEND_URL="file:///elsewhere", **THEIRS)
    assert (found.backend, found.folder) == ("file:///elsewhere?metadata=skip", None)
    assert THEIRS.items() <= found.environ.items()
    assert found.environ["PULUMI_OPTION_CONFIG_FILE"] is None


def test_a_backend_of_the_user_needs_a_passphrase_of_the_user(resolve: Resolve) -> None:
    """A state that outlives the cluster must not be locked by a passphrase that does not."""
    with pytest.raises(BadInput, match="no passphrase is set; set PULUMI_CONFIG_PASSPHRASE_FILE"):
        resolve(PULUMI_BACKEND_URL="file:///elsewhere")


def test_a_passphrase_of_the_user_is_respected(resolve: Resolve) -> None:
    """Where none was generated before, the user's passphrase is used and none is."""
    found = resolve(**THEIRS)
    assert "PULUMI_CONFIG_PASSPHRASE_FILE" not in found.environ
    assert found.folder is not None
    assert not (found.folder / "passphrase").exists()


def test_a_generated_passphrase_stays_in_use(resolve: Resolve) -> None:
    """A variable set later does not lock the user out of a stack that was made without it."""
    resolve()
    assert resolve(**THEIRS).environ["PULUMI_CONFIG_PASSPHRASE"] is None


def test_a_missing_passphrase_is_told(resolve: Resolve) -> None:
    """A stack made with the user's passphrase is not given another one."""
    folder = resolve(**THEIRS).folder
    assert folder is not None
    (folder / "Pulumi.small.yaml").write_text("encryptionsalt: v1:x\n")
    os.environ.pop("PULUMI_CONFIG_PASSPHRASE")
    with pytest.raises(BadInput, match="made with a passphrase of yours; set PULUMI_CONFIG_PASSPHRASE or"):
        resolve()


def test_an_environments_own_backend_comes_from_its_data(resolve: Resolve, environment: Environment) -> None:
    """Without a variable the backend and the secrets provider are those of the data, and no passphrase is asked for."""
    remote = dc.replace(environment, cluster=KubeconfigCluster(context="ml", kube_system_uid="1"), state=REMOTE)
    found = resolve(given=remote)
    assert (found.backend, found.folder) == ("s3://states", None)
    assert found.environ["PULUMI_SKIP_CHECKPOINTS"] is None
    assert found.environ["PULUMI_CREDENTIALS_PATH"] == str(Path.home() / ".pulumi")


def test_on_another_cluster_everything_is_its_own(resolve: Resolve, environment: Environment, cluster: Cluster) -> None:
    """With `--on`, neither the user's backend nor a passphrase of theirs is touched."""
    remote = dc.replace(environment, cluster=KubeconfigCluster(context="ml", kube_system_uid="1"), state=REMOTE)
    found = resolve("box", given=remote, PULUMI_BACKEND_URL="s3://mine", **THEIRS)
    assert found.folder == cluster.kubeconfig.parent / "stack"
    assert found.backend == f"{found.folder.as_uri()}?metadata=skip"
    assert found.environ["PULUMI_CONFIG_PASSPHRASE"] is None
    assert (found.environ["KIBAN_CLUSTER"], found.environ["PULUMI_SKIP_CHECKPOINTS"]) == ("box", "true")
    assert found.command == "small --on box"


def test_the_shell_of_an_environment_is_not_taken_for_the_users_wishes(resolve: Resolve) -> None:
    """In the shell of another environment, what `kiban env` set there does not count."""
    found = resolve(KIBAN_SHELL="prod@x", KIBAN_CLUSTER="x", PULUMI_BACKEND_URL="file:///x", PULUMI_STACK="prod")
    assert found.on is None
    assert found.folder is not None
    assert found.backend == f"{found.folder.as_uri()}?metadata=skip"


def test_the_shell_of_the_same_environment_changes_nothing(resolve: Resolve) -> None:
    """Kiban's verbs and `kiban env` itself give in their own shell what they give outside."""
    outside = resolve()
    inside = resolve(**{name: value for name, value in outside.environ.items() if value is not None})
    assert inside == outside


def test_a_shell_on_a_cluster_means_that_cluster(resolve: Resolve) -> None:
    """In the shell of `kiban env small --on box`, plain `kiban up small` stays on box."""
    assert resolve(KIBAN_SHELL="small@box", KIBAN_CLUSTER="box").on == "box"


def test_kubectl_in_the_shell_is_on_the_environments_context(resolve: Resolve, environment: Environment) -> None:
    """Of the user's kubeconfig files none is changed: a file in front of them names the context."""
    remote = dc.replace(environment, cluster=KubeconfigCluster(context="ml", kube_system_uid="1"), state=REMOTE)
    value = resolve(given=remote, KUBECONFIG="/a:/b").environ["KUBECONFIG"]
    assert value is not None
    first, *rest = value.split(os.pathsep)
    assert rest == ["/a", "/b"]
    assert "current-context: kiban-box" in Path(first).read_text()


def test_pulumi_finds_its_plugins_where_it_looks_first(resolve: Resolve) -> None:
    """Both plugins lie in PULUMI_HOME under name and version, so none is taken from PATH with a warning, or fetched."""
    found = resolve()
    links = {link.name: link.readlink() for link in (found.home / "plugins").glob("*/*")}
    assert links["pulumi-language-python"] == Path(sys.executable).with_name("pulumi-language-python")
    assert links["pulumi-resource-kubernetes"].name == "pulumi-resource-kubernetes"
    assert {link.name for link in (found.home / "bin").iterdir()} == {"pulumi", "kubectl"}


def test_the_official_language_host_is_preferred(tmp_path: Path) -> None:
    """A binary on PATH is used; a script of that name is Kiban's own, of this or of another checkout."""
    own = Path(sys.executable).with_name("pulumi-language-python")
    for folder, content in (("another", b"#!/usr/bin/python\n"), ("official", b"\x7fELF")):
        file = tmp_path / folder / own.name
        file.parent.mkdir()
        file.write_bytes(content)
        file.chmod(0o755)
    path = f"{own.parent}:{tmp_path}/another:{tmp_path}/official"
    assert pulumi_home.language_host({"PATH": path}) == tmp_path / "official" / own.name
    assert pulumi_home.language_host({"PATH": f"{own.parent}:{tmp_path}/another"}) == own


def test_a_cluster_carries_one_environment(cluster: Cluster, environment: Environment) -> None:
    """A second environment on a cluster would fight the first over objects of the same names, so it is refused."""
    folder = cluster.kubeconfig.parent / "stack"
    states = folder / ".pulumi" / "stacks" / "kiban"
    states.mkdir(parents=True)
    applied = {"checkpoint": {"latest": {"resources": [{"type": "kubernetes:core/v1:Namespace"}]}}}
    (states / "other.json").write_text(json.dumps(applied))
    with pytest.raises(BadInput, match=r"small on box: that cluster has other; .*`kiban destroy other --on box`"):
        target.refuse_second(environment, folder)
    (states / "other.json").unlink()
    (states / "other.json.gz").write_bytes(gzip.compress(json.dumps(applied).encode()))
    with pytest.raises(BadInput, match="that cluster has other"):
        target.refuse_second(environment, folder)
    (states / "other.json.gz").unlink()
    (states / "other.json").write_text(json.dumps({"checkpoint": {"latest": {"resources": None}}}))
    target.refuse_second(environment, folder)


def test_an_unknown_environment_is_refused() -> None:
    """The message names what was given and those that exist."""
    with pytest.raises(BadInput, match="environment 'nowhere'; accepted: ci, dev, local, prod, staging"):
        target.environment("nowhere")
