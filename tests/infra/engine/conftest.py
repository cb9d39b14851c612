"""An environment of one team and one pool, and a cluster that is only named: nothing here is started."""

from pathlib import Path

import pytest

from components.gpu_node_pools import GpuPool
from components.tenancy import Team
from infra.clusters import Cluster
from stacks._schema import THROWAWAY, EmbeddedCluster, Environment


@pytest.fixture
def environment() -> Environment:
    """Return an environment on an embedded cluster."""
    return Environment(
        name="small",
        cluster=EmbeddedCluster(name="box"),
        state=THROWAWAY,
        teams=(Team(name="vision", owner="vision-oncall", gpus={"l4": 2}),),
        gpu_pools=(GpuPool(name="l4", accelerator="NVIDIA-L4", nodes=1, gpus_per_node=4),),
    )


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """Return a cluster whose folder is the test's own."""
    folder = tmp_path / "clusters" / "box"
    folder.mkdir(parents=True)
    (folder / "kubeconfig").write_text("apiVersion: v1\nkind: Config\n")
    return Cluster(name="box", kubeconfig=folder / "kubeconfig", context="kiban-box", uid="11111111")
