"""A laptop: every kind of pool once, small enough to start in seconds."""

from components.gpu_node_pools import GpuPool
from components.metadata_store import InCluster, MetadataStoreArgs
from components.monitoring import MonitoringArgs
from components.pipeline_engine import PipelineEngineArgs
from components.serving_stack import ServingStackArgs
from components.tenancy import Queueing, Team
from stacks._models import models
from stacks._schema import THROWAWAY, EmbeddedCluster, Environment, SystemNodes

environment = Environment(
    name="local",
    cluster=EmbeddedCluster(name="local"),
    state=THROWAWAY,
    system_nodes=SystemNodes(count=2, cpu=8, memory_gib=32),
    queueing=Queueing(cpu=8, memory_gib=32, reclaim="Any", within_team="LowerPriority"),
    metadata=MetadataStoreArgs(
        postgres=InCluster(storage_gib=2), object_store=InCluster(storage_gib=5), expire_days=30, protect=False
    ),
    pipelines=PipelineEngineArgs(parallelism_per_team=10),  # Argo alone: Kubeflow Pipelines cannot be built here
    serving=ServingStackArgs(models=models("local")),  # no gateway: its controller takes long to build
    monitoring=MonitoringArgs(),
    retraining="local",
    teams=(
        Team(name="vision", owner="vision-oncall", gpus={"a100": 8, "a100-mig": 14}, borrows={"a100": 8}),
        Team(name="language", owner="language-oncall", gpus={"a100": 8, "l4-shared": 8}, borrows={"a100": 8}),
    ),
    gpu_pools=(
        GpuPool(name="a100", accelerator="NVIDIA-A100-SXM4-80GB", nodes=2, gpus_per_node=8),
        GpuPool(name="a100-mig", accelerator="NVIDIA-A100-SXM4-80GB", nodes=1, gpus_per_node=8, mig_profile="1g.10gb"),
        GpuPool(
            name="l4-shared",
            accelerator="NVIDIA-L4",
            nodes=1,
            gpus_per_node=4,
            time_slices=4,
            cpu=48,
            memory_gib=192,
        ),
    ),
)
