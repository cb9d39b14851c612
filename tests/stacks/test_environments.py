"""The environments that ship: they load, and say of themselves what the rest relies on."""

import dataclasses as dc
import importlib
from pathlib import Path

import pytest

from components.pipeline_engine import KubeflowPipelines
from components.tenancy import Queueing, Team
from stacks._schema import THROWAWAY, EmbeddedCluster, Environment, SystemNodes

STACKS = Path(__file__).resolve().parents[2] / "stacks"
NAMES = sorted(path.stem for path in STACKS.glob("[a-z]*.py"))


def environment(name: str) -> Environment:
    """Return the environment of a file."""
    loaded = importlib.import_module(f"stacks.{name}").environment
    assert isinstance(loaded, Environment)
    return loaded


@pytest.mark.parametrize("name", NAMES)
def test_an_environment_bears_its_files_name(name: str) -> None:
    """The stack's name finds the file, so the two must be one."""
    assert environment(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_only_throwaway_clusters_have_throwaway_state(name: str) -> None:
    """An environment that matters keeps a durable state in a backend of its own; an embedded one needs neither."""
    env = environment(name)
    embedded = isinstance(env.cluster, EmbeddedCluster)
    assert env.state.durable is not embedded
    assert (env.state.backend is None) is embedded


@pytest.mark.parametrize("name", NAMES)
def test_pools_are_realistic(name: str) -> None:
    """Every environment has several accelerators or ways to share one, MIG slices among them."""
    pools = environment(name).gpu_pools
    assert len({(pool.accelerator, pool.resource) for pool in pools}) > 1
    assert any(pool.mig_profile for pool in pools)


def test_what_staging_passes_production_has() -> None:
    """Staging rehearses production's accelerators, so each of its pools' kinds is one of production's."""
    kinds = {env: {(p.accelerator, p.resource) for p in environment(env).gpu_pools} for env in ("staging", "prod")}
    assert kinds["staging"] <= kinds["prod"]


def test_on_another_cluster_the_state_is_its_own() -> None:
    """`--on` replaces the cluster, the state, and what is outside the cluster by stand-ins, and nothing else."""
    prod = environment("prod")
    moved = prod.on(EmbeddedCluster(name="try"))
    assert (moved.cluster, moved.state) == (EmbeddedCluster(name="try"), THROWAWAY)
    assert prod.metadata
    assert moved.metadata == prod.metadata.standing_in()
    assert set(moved.metadata.claims) == {"postgres", "mysql", "object-store"}
    assert prod.serving
    assert moved.serving == prod.serving.standing_in()
    assert prod.monitoring
    assert moved.monitoring == prod.monitoring.standing_in()
    kept = {field: getattr(prod, field) for field in ("cluster", "state", "metadata", "serving", "monitoring")}
    assert dc.replace(moved, **kept) == prod


def test_an_environment_checks_its_parts_against_each_other() -> None:
    """A team's quota names a pool of the same environment, or the environment cannot be made."""
    team = Team(name="vision", owner="o", gpus={"h100": 1})
    with pytest.raises(ValueError, match="accepted: no pool"):
        Environment(name="x", cluster=EmbeddedCluster(name="x"), state=THROWAWAY, teams=(team,))


@pytest.mark.parametrize("change", [{"count": -1}, {"cpu": 0}, {"memory_gib": 0}])
def test_bad_system_nodes_are_refused(change: dict[str, int]) -> None:
    """Bounds of the nodes without GPUs."""
    with pytest.raises(ValueError, match=r"system_nodes: .*accepted"):
        SystemNodes(**change)


@pytest.mark.parametrize("name", NAMES)
def test_every_environment_has_its_controllers_unless_told_otherwise(name: str) -> None:
    """Everywhere there is all of them; without real pods there is none, and all the rest."""
    env = environment(name)
    assert env.certificates
    parts = {
        part: getattr(env, part)
        for part in ("queueing", "metadata", "pipelines", "serving", "monitoring", "retraining")
    }
    assert all(parts.values())
    without = env.without_controllers()
    assert not without.certificates
    assert not any(getattr(without, part) for part in parts)
    assert dc.replace(without, certificates=True, **parts) == env


@pytest.mark.parametrize("name", NAMES)
def test_volumes_outlive_an_environment_that_matters(name: str) -> None:
    """`destroy` leaves the records of runs, but on a throwaway cluster."""
    env = environment(name)
    assert env.metadata
    assert env.metadata.protect is not isinstance(env.cluster, EmbeddedCluster)


def test_pipelines_need_where_to_keep_records() -> None:
    """No engine without metadata, no Kubeflow Pipelines without MySQL, no members of a team that is not there."""
    env = environment("ci")
    assert env.metadata
    assert env.pipelines
    with pytest.raises(ValueError, match="pipelines: there is no metadata"):
        dc.replace(env, metadata=None)
    with pytest.raises(ValueError, match="kubeflow needs MySQL"):
        dc.replace(env, metadata=dc.replace(env.metadata, mysql=None))
    kubeflow = KubeflowPipelines(mode="multi-user", members={"visoin": ("ann@example.com",)})
    with pytest.raises(ValueError, match=r"members\['visoin'\]; accepted: vision, language, ranking"):
        dc.replace(env, pipelines=dc.replace(env.pipelines, kubeflow=kubeflow))


@pytest.mark.parametrize("name", ["admin", "backups", "kfp", "mlpipeline", "session", "ab"])
def test_a_teams_name_is_its_buckets_and_users(name: str) -> None:
    """A name that the store or MLflow has for something else is refused."""
    env = environment("local")
    with pytest.raises(ValueError, match=f"team '{name}'.*accepted: at least 3"):
        dc.replace(env, teams=(Team(name=name, owner="o"),))


@pytest.mark.parametrize("name", NAMES)
def test_teams_borrow_and_no_device_is_promised_twice(name: str) -> None:
    """What is promised adds up to what there is, and some of it can be borrowed."""
    env = environment(name)
    for pool in env.gpu_pools:
        assert sum(team.gpus.get(pool.name, 0) for team in env.teams) <= pool.units
    assert any(team.borrows for team in env.teams)


def test_jobs_cannot_have_more_than_the_nodes_without_devices() -> None:
    """What Jobs may take of them is a part of what they are."""
    with pytest.raises(ValueError, match="queueing: cpu=9; accepted: up to 8, what the system_nodes have together"):
        Environment(
            name="x",
            cluster=EmbeddedCluster(name="x"),
            state=THROWAWAY,
            system_nodes=SystemNodes(count=1, cpu=8, memory_gib=32),
            queueing=Queueing(cpu=9),
        )
