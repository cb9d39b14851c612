"""The tests' environment: all parts on, every way to share a device, spot and on-demand."""

from components.gpu_node_pools import GpuPool, Taint
from components.metadata_store import InCluster, MetadataStoreArgs
from components.monitoring import MonitoringArgs
from components.pipeline_engine import KubeflowPipelines, PipelineEngineArgs
from components.serving_stack import Gateway, ServingStackArgs
from components.tenancy import Queueing, Team
from stacks._models import models
from stacks._schema import THROWAWAY, EmbeddedCluster, Environment, SystemNodes

environment = Environment(
    name="ci",
    cluster=EmbeddedCluster(name="ci"),
    state=THROWAWAY,
    system_nodes=SystemNodes(count=3, cpu=8, memory_gib=32),
    queueing=Queueing(cpu=12, memory_gib=48, reclaim="Any", within_team="LowerPriority", jobsets=True),
    metadata=MetadataStoreArgs(
        postgres=InCluster(storage_gib=2),
        mysql=InCluster(storage_gib=2),
        object_store=InCluster(storage_gib=5),
        expire_days=30,
        protect=False,
    ),
    pipelines=PipelineEngineArgs(
        parallelism_per_team=10,
        kubeflow=KubeflowPipelines(mode="multi-user", members={"vision": ("ann@example.com",)}),
    ),
    serving=ServingStackArgs(gateway=Gateway(domain="ci.example", service="ClusterIP"), models=models("ci")),
    monitoring=MonitoringArgs(),
    retraining="ci",
    teams=(
        Team(name="vision", owner="vision-oncall", gpus={"a100": 8, "a100-mig": 28, "t4-spot": 4}, borrows={"a100": 8}),
        Team(
            name="language", owner="language-oncall", gpus={"h100": 16, "a100": 8}, borrows={"a100": 8, "a100-mig": 14}
        ),
        Team(name="ranking", owner="ranking-oncall", gpus={"l4-shared": 16}, borrows={"l4-shared": 16}),
    ),
    gpu_pools=(
        GpuPool(
            name="h100",
            accelerator="NVIDIA-H100-80GB-HBM3",
            nodes=2,
            gpus_per_node=8,
            cpu=192,
            memory_gib=2048,
            topology=("kubernetes.io/hostname",),
        ),
        GpuPool(name="a100", accelerator="NVIDIA-A100-SXM4-80GB", nodes=2, gpus_per_node=8),
        GpuPool(name="a100-mig", accelerator="NVIDIA-A100-SXM4-80GB", nodes=1, gpus_per_node=8, mig_profile="1g.10gb"),
        GpuPool(
            name="l4-shared",
            accelerator="NVIDIA-L4",
            nodes=2,
            gpus_per_node=4,
            time_slices=4,
            cpu=48,
            memory_gib=192,
        ),
        GpuPool(
            name="t4-spot",
            accelerator="Tesla-T4",
            min_nodes=0,
            max_nodes=4,
            gpus_per_node=1,
            spot=True,
            cpu=8,
            memory_gib=30,
            labels={"kiban.dev/purpose": "batch"},
            taints=(Taint(key="kiban.dev/batch", value="true"),),
        ),
    ),
)
