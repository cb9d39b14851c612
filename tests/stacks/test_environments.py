"""The environments that ship: they load, and say of themselves what the rest relies on."""

import dataclasses as dc
import importlib
from pathlib import Path
from typing import Any

import pytest

from components._devices import DevicePlugin, GpuOperator
from components._pools import shares
from components.foundation import FoundationArgs
from components.gpu_node_pools import ClusterApi, Existing, GpuPool, Karpenter, Simulated, Source
from components.pipeline_engine import KubeflowPipelines
from components.serving_stack import Model
from components.tenancy import Queueing, Team
from stacks._schema import THROWAWAY, Cluster, EmbeddedCluster, Environment, KubeconfigCluster, SystemNodes
from tests.components import any_pools

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
    assert len({(share.pool.accelerator, share.resource) for share in shares(pools).values()}) > 1
    assert any(pool.cuts for pool in pools)


def test_what_staging_passes_production_has() -> None:
    """Staging rehearses production's accelerators, so each of its pools' kinds is one of production's."""
    staging, prod = (shares(environment(env).gpu_pools).values() for env in ("staging", "prod"))
    assert {(each.pool.accelerator, each.resource) for each in staging} <= {
        (each.pool.accelerator, each.resource) for each in prod
    }


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
    assert prod.devices
    assert moved.devices is None
    assert moved.gpu_pools == tuple(pool.standing_in() for pool in prod.gpu_pools)
    assert {pool.source for pool in moved.gpu_pools} == {Simulated()}
    own = ("cluster", "state", "gpu_pools", "devices", "metadata", "serving", "monitoring")
    kept = {field: getattr(prod, field) for field in own}
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
    assert not any(getattr(without, part) for part in (*parts, "devices"))
    assert dc.replace(without, certificates=True, devices=env.devices, **parts) == env


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
    for offered, share in shares(env.gpu_pools).items():
        assert sum(team.gpus.get(offered, 0) for team in env.teams) <= share.units
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


@pytest.mark.parametrize("name", NAMES)
def test_device_software_is_for_real_nodes_only(name: str) -> None:
    """Where devices are simulated nothing could find them: refused there, and left out by `--on`."""
    env = environment(name)
    if isinstance(env.cluster, EmbeddedCluster):
        assert env.devices is None
        with pytest.raises(ValueError, match="devices: GpuOperator; accepted: None on an embedded cluster"):
            dc.replace(env, devices=GpuOperator())
    else:
        assert env.on(EmbeddedCluster(name="try")).devices is None


def test_device_software_is_of_the_environments_pools() -> None:
    """Without MIG manager there are no pools with MIG, and without pools there is nothing to do."""
    prod = environment("prod")
    with pytest.raises(ValueError, match=r"DevicePlugin, and pool 'h100-mig' has MIG instances.*accepted: GpuOperator"):
        dc.replace(prod, devices=DevicePlugin())
    with pytest.raises(ValueError, match="devices: there are no gpu_pools"):
        dc.replace(prod, gpu_pools=(), teams=(), serving=None, retraining=None)


HERE, THERE = EmbeddedCluster(name="x"), KubeconfigCluster(context="x", kube_system_uid="1")
KARPENTER, CLUSTER_API = Karpenter(**any_pools.KARPENTER), ClusterApi(**any_pools.CLUSTER_API)


def small(cluster: Cluster, source: Source, **fields: object) -> Environment:
    """Return an environment of one pool."""
    team = Team(name="vision", owner="o", gpus={"l4": 1})
    pool = GpuPool(name="l4", accelerator="NVIDIA-L4", min_nodes=0, max_nodes=2, gpus_per_node=1, source=source)
    given = {"cluster": cluster, "state": THROWAWAY, "teams": (team,), "gpu_pools": (pool,)}
    return Environment(name="x", **{**given, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cluster", "source"),
    [
        (HERE, Existing()),
        (HERE, Simulated()),
        (HERE, KARPENTER),
        (THERE, Existing()),
        (THERE, KARPENTER),
        (THERE, CLUSTER_API),
    ],
)
def test_a_pools_nodes_come_from_where_its_cluster_can_have_them(cluster: Cluster, source: Source) -> None:
    """And on a cluster of this machine any of them stands in as simulated."""
    found = small(cluster, source)
    assert {pool.source for pool in found.on(EmbeddedCluster(name="other")).gpu_pools} == {Simulated()}
    assert found.on(HERE) is found or cluster == THERE


@pytest.mark.parametrize(
    ("cluster", "source", "accepted"),
    [
        (HERE, CLUSTER_API, r"source=ClusterApi\(...\) on EmbeddedCluster\(...\); accepted there: Simulated\(\), Ka"),
        (THERE, Simulated(), r"source=Simulated\(...\) on KubeconfigCluster\(...\); accepted there: Existing\(\), Ka"),
    ],
)
def test_a_source_that_the_cluster_cannot_have_is_refused(cluster: Cluster, source: Source, accepted: str) -> None:
    """Simulated nodes are of clusters that Kiban makes, machines of others."""
    with pytest.raises(ValueError, match=accepted):
        small(cluster, source)


@pytest.mark.parametrize("queueing", [Queueing(), None])
def test_a_pool_that_nobody_may_use_is_refused(queueing: Queueing | None) -> None:
    """Promised or lent, some team has a part of it; a pool without nodes needs none."""
    with pytest.raises(ValueError, match=r"pool 'l4': no team has any of its 2 nvidia.com/gpu.*accepted: a team with"):
        small(THERE, Existing(), teams=(Team(name="vision", owner="o"),), queueing=queueing)
    small(THERE, Existing(), teams=(Team(name="vision", owner="o", borrows={"l4": 1}),), queueing=queueing)
    none = GpuPool(name="l4", accelerator="NVIDIA-L4", nodes=0, gpus_per_node=1)
    small(THERE, Existing(), teams=(), gpu_pools=(none,), queueing=queueing)


def test_karpenter_may_not_take_a_pods_node_for_empty() -> None:
    """Which it does (1.14) where the pod's priority is so low that its eviction costs nothing."""
    low = FoundationArgs(priorities=(("high", 1), ("low", -(2**25))))
    with pytest.raises(ValueError, match=r"priority 'low': value=-33554432; accepted: above -33554432.*pool 'l4'"):
        small(THERE, KARPENTER, foundation=low)
    small(THERE, Existing(), foundation=low)
    small(THERE, KARPENTER, foundation=FoundationArgs(priorities=(("high", 1), ("low", 1 - 2**25))))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cpu": "5"}, "cpu=5; accepted: up to cpu=4, the most that the 2 nodes of pool 'system'"),
        ({"memory": "2048Gi", "gpus": 1, "pool": "a100"}, "memory=2048Gi; accepted: up to memory=1024Gi"),
    ],
)
def test_a_model_of_which_no_node_holds_a_pod_is_refused(fields: dict[str, Any], said: str) -> None:
    """By its cores and memory too; on the nodes without GPUs it may have an equal part of what Jobs may."""
    env = environment("local")
    assert env.serving
    model = Model(
        name="large",
        team="vision",
        version="1",
        uri="s3://vision/models/1/model.pkl",
        digest="a" * 64,
        runtime="kserve-sklearnserver",
        format="sklearn",
        **fields,
    )
    serving = dc.replace(env.serving, models=(model,))
    with pytest.raises(ValueError, match="model 'large'") as refused:
        dc.replace(env, serving=serving)
    assert said in str(refused.value)
