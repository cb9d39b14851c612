"""Credentials: which an environment needs, how they come from one secret, and what a rotation changes."""

import dataclasses as dc
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime.mocks import MockCallArgs, MockResourceArgs, Mocks, set_mocks

from components.metadata_store import ExternalDatabase, ExternalObjectStore, MetadataStoreArgs
from components.tenancy import Team
from infra import credentials, engine, toolchain
from infra.clusters import Cluster
from infra.errors import BadInput
from infra.target import Target
from stacks._schema import THROWAWAY, EmbeddedCluster, Environment

TEAMS = (Team(name="vision", owner="vision-oncall"), Team(name="language", owner="language-oncall"))
IN_CLUSTER = MetadataStoreArgs()
PLATFORM = {"postgres", "object-store", "object-store-backup", "mlflow-admin", "mlflow-session"}


def environment(metadata: MetadataStoreArgs | None = IN_CLUSTER, teams: tuple[Team, ...] = TEAMS) -> Environment:
    """Return an environment on an embedded cluster."""
    return Environment(
        name="small", cluster=EmbeddedCluster(name="box"), state=THROWAWAY, teams=teams, metadata=metadata
    )


DATABASE = ExternalDatabase(host="db.example.org", port=5432, name="mlflow", user="mlflow")
STORE = ExternalObjectStore(endpoint="https://s3.example.org", region="eu-central-1")
EXTERNAL = MetadataStoreArgs(postgres=DATABASE, object_store=STORE)


class Stack:
    """A stack's configuration in memory."""

    committed = "stacks/Pulumi.small.yaml"
    command = "small"

    def __init__(self, **kept: Any) -> None:  # noqa: ANN401
        self.kept: dict[str, Any] = kept
        self.secrets: set[str] = set()

    def configuration(self) -> Mapping[str, Any]:
        """Return all keys."""
        return self.kept

    def configure(self, key: str, value: str, *, secret: bool = False) -> None:
        """Set a key, or a property of one."""
        where, _, name = key.partition(".")
        if name:
            self.kept.setdefault(where, {})[name] = value
        else:
            self.kept[key] = value
        self.secrets |= {key} if secret else set()


@pytest.fixture
def said() -> list[str]:
    """Return the lines that are said."""
    return []


def generated(said: list[str]) -> Stack:
    """Return a stack that has its credentials."""
    stack = Stack()
    credentials.ensure(stack, environment(), asked=True, in_use=lambda: False, say=said.append)
    return stack


def test_what_an_environment_needs_follows_from_its_parts() -> None:
    """The platform's own, three a team, four of Kubeflow Pipelines; nothing without a metadata store."""
    team = {"object-store-vision-a", "object-store-vision-b", "mlflow-vision"}
    assert set(credentials.needed(environment(teams=TEAMS[:1]))) == PLATFORM | team
    with_mysql = dc.replace(EXTERNAL, mysql=DATABASE)
    kubeflow = {"mysql", "object-store-kfp-a", "object-store-kfp-b", "mlflow-kfp"}
    assert set(credentials.needed(environment(with_mysql, ()))) == PLATFORM - {"object-store"} | kubeflow
    assert credentials.needed(environment(None)) == ()


def test_a_credential_depends_on_everything_that_names_it() -> None:
    """The same seed and name give the same value, and another seed, environment, name or generation another one."""
    values = {
        credentials.derive("seed", "prod", "postgres", 1),
        credentials.derive("Seed", "prod", "postgres", 1),
        credentials.derive("seed", "dev", "postgres", 1),
        credentials.derive("seed", "prod", "mysql", 1),
        credentials.derive("seed", "prod", "postgres", 2),
    }
    assert credentials.derive("seed", "prod", "postgres", 1) in values
    assert len(values) == 5
    assert all(len(value) == 43 and value.replace("-", "").replace("_", "").isalnum() for value in values)


def test_one_secret_is_generated_once(said: list[str]) -> None:
    """However many credentials there are, the configuration gets one encrypted value, and later runs leave it."""
    stack = generated(said)
    assert stack.secrets == {credentials.SEED}
    assert said == ["small: generated the credentials; stacks/Pulumi.small.yaml changed: commit it"]
    assert len(stack.kept[credentials.SEED]) == 43
    assert stack.kept[credentials.SEED] not in said[0]
    before = dict(stack.kept)
    assert not credentials.ensure(stack, environment(), asked=True, in_use=lambda: True, say=said.append)
    assert (stack.kept, len(said)) == (before, 1)


def test_a_lost_configuration_makes_no_new_passwords_for_old_volumes(said: list[str]) -> None:
    """Where the cluster has databases and the configuration no seed, nothing is generated."""
    stack = Stack()
    with pytest.raises(BadInput, match="has no kiban:credentials-seed, but the cluster has databases"):
        credentials.ensure(stack, environment(), asked=True, in_use=lambda: True, say=said.append)
    assert stack.kept == {}


def test_what_has_to_be_committed_is_generated_when_asked_only(said: list[str]) -> None:
    """A seed that a job made in its own checkout would be lost with it, so `up` refuses and says what to run."""
    stack = Stack()
    with pytest.raises(BadInput, match=r"run `kiban credentials generate small` and commit stacks/Pulumi\.small\.yaml"):
        credentials.ensure(stack, environment(), asked=False, in_use=lambda: False, say=said.append)
    assert stack.kept == {}


def test_what_is_outside_has_to_be_given(said: list[str]) -> None:
    """An external database's password is asked for before anything is generated or applied."""
    stack = Stack()
    with pytest.raises(BadInput, match="'postgres' is not Kiban's to generate; run `kiban credentials set small"):
        credentials.ensure(stack, environment(EXTERNAL), asked=True, in_use=lambda: False, say=said.append)
    assert stack.kept == {}
    for name in credentials.outside(environment(EXTERNAL)):
        credentials.give(stack, environment(EXTERNAL), name, "access:secret", say=said.append)
    assert credentials.ensure(stack, environment(EXTERNAL), asked=True, in_use=lambda: False, say=said.append)
    assert not [line for line in said if "access:secret" in line]


def test_a_rotation_leaves_running_pods_their_key(said: list[str]) -> None:
    """The account that pods do not have gets a new key and is handed out next; the one that they have stays."""
    stack = generated(said)
    renewed = [credentials.rotate_team(stack, environment(), "vision", say=said.append)["credential"] for _ in range(3)]
    assert renewed == ["object-store-vision-b", "object-store-vision-a", "object-store-vision-b"]
    assert stack.kept[credentials.SLOTS] == {"vision": "b"}
    assert stack.kept[credentials.GENERATIONS] == {"object-store-vision-b": "3", "object-store-vision-a": "2"}
    assert "pods that run keep object-store-vision-a, which stays valid until the next rotation" in said[-1]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("object-store-vision-b", "run `kiban credentials rotate small --team vision`"),
        ("nobody", "accepted: postgres, object-store, "),
        ("mlflow-admin", "it was given; run `kiban credentials set small mlflow-admin`"),
    ],
)
def test_what_cannot_be_rotated_by_name_says_how(name: str, why: str, said: list[str]) -> None:
    """A key that pods hold, an unknown name, and a value that the user chose are refused, and nothing is changed."""
    stack = generated(said)
    credentials.give(stack, environment(), "mlflow-admin", "chosen", say=said.append)
    before = json.dumps(stack.kept)
    with pytest.raises(BadInput) as refused:
        credentials.rotate(stack, environment(), name, say=said.append)
    assert why in str(refused.value)
    assert json.dumps(stack.kept) == before


def test_a_list_has_no_values(said: list[str]) -> None:
    """Names, where they come from, and whether pods are handed them: nothing of the secret itself."""
    stack = generated(said)
    credentials.rotate_team(stack, environment(), "vision", say=said.append)
    found = {item["credential"]: item for item in credentials.items(stack, environment())}
    assert set(found) == set(credentials.needed(environment()))
    assert (found["object-store-vision-a"]["handed_out"], found["object-store-vision-b"]["handed_out"]) == (False, True)
    assert found["object-store-vision-b"]["generation"] == 2
    assert stack.kept[credentials.SEED] not in json.dumps(list(found.values()))


class Nothing(Mocks):
    """A program without resources."""

    def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        """Take none."""
        raise NotImplementedError(args.name)

    def call(self, args: MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        """Answer no function."""
        raise NotImplementedError(args.token)


@pytest.fixture
def program() -> Iterator[Callable[..., dict[str, str]]]:
    """Return what runs `credentials.read` in a program with a configuration, and returns the values."""

    def run(config: dict[str, str], *, preview: bool = False, given: Environment | None = None) -> dict[str, str]:
        set_mocks(Nothing(), project="kiban", stack="small", preview=preview)
        pulumi.runtime.set_all_config({f"kiban:{key}": value for key, value in config.items()})
        values: dict[str, str] = {}

        @pulumi.runtime.test  # type: ignore[untyped-decorator]
        def read() -> pulumi.Output[None]:
            return pulumi.Output.all(**credentials.read(given or environment())).apply(values.update)

        read()
        return values

    yield run
    pulumi.runtime.set_all_config({})


def test_the_program_gets_what_the_seed_gives(program: Callable[..., dict[str, str]]) -> None:
    """Generations count, and what the user gave comes before what would be generated."""
    config = {
        credentials.SEED: "seed",
        credentials.GENERATIONS: '{"mlflow-vision": 3}',
        f"{credentials.GIVEN}postgres": "chosen",
    }
    values = program(config)
    assert set(values) == set(credentials.needed(environment()))
    assert values["mlflow-vision"] == credentials.derive("seed", "small", "mlflow-vision", 3)
    assert values["postgres"] == "chosen"


def test_a_stack_without_credentials_is_refused_in_one_line(program: Callable[..., dict[str, str]]) -> None:
    """Plain `pulumi up` says which command makes them; a preview shows what would be made with placeholders."""
    with pytest.raises(pulumi.RunError, match="run `kiban credentials generate small`"):
        program({})
    assert set(program({}, preview=True)) == set(credentials.needed(environment()))
    with pytest.raises(pulumi.RunError, match="run `kiban credentials set small postgres`"):
        program({credentials.SEED: "seed"}, given=environment(EXTERNAL))


@pytest.fixture
def target(tmp_path: Path) -> Target:
    """Return an environment whose stack lives in a folder of the test's own; its cluster is only named."""
    folder = tmp_path / "stack"
    folder.mkdir()
    (folder / "passphrase").write_text("of a test")
    pulumi_command = toolchain.resolve("pulumi")["pulumi"]
    environ = {
        "PATH": os.environ["PATH"],
        "PULUMI_HOME": str(tmp_path / "home"),
        "PULUMI_BACKEND_URL": folder.as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": None,
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(folder / "passphrase"),
        "PULUMI_OPTION_CONFIG_FILE": str(folder / "Pulumi.small.yaml"),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }
    (tmp_path / "home").mkdir()
    return Target(
        environment=environment(),
        on=None,
        cluster=Cluster(name="box", kubeconfig=tmp_path / "kubeconfig", context="kiban-box", uid="1"),
        backend=folder.as_uri(),
        home=tmp_path / "home",
        folder=folder,
        pulumi=pulumi_command,
        environ=environ,
    )


def test_pulumi_keeps_them(target: Target, said: list[str]) -> None:
    """The real engine makes the stack, encrypts the seed and keeps the choices in plain sight, beside the cluster."""
    stack = engine.configuration(target, "credentials rotate", say=said.append)
    assert stack.configuration() == {}
    credentials.ensure(stack, target.environment, asked=True, in_use=lambda: False, say=said.append)
    credentials.rotate_team(stack, target.environment, "vision", say=said.append)
    kept = stack.configuration()
    assert set(kept[credentials.SEED]) == {"secure"}
    assert kept[credentials.GENERATIONS] == {"object-store-vision-b": 2}
    assert kept[credentials.SLOTS] == {"vision": "b"}
    assert stack.committed is None
