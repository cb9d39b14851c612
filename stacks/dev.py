"""Development: small pools, most of them spot, for trying changes of the platform itself."""

from components.gpu_node_pools import GpuPool
from components.metadata_store import InCluster, MetadataStoreArgs
from components.monitoring import MonitoringArgs
from components.pipeline_engine import KubeflowPipelines, PipelineEngineArgs
from components.serving_stack import Gateway, ServingStackArgs
from components.tenancy import Queueing, Team
from stacks._models import models
from stacks._schema import Environment, KubeconfigCluster, State, SystemNodes

environment = Environment(
    name="dev",
    cluster=KubeconfigCluster(context="ml-dev", kube_system_uid="00000000-0000-0000-0000-000000000000"),
    state=State(
        durable=True,
        backend="s3://example-kiban-dev?region=eu-west-1",
        secrets_provider="awskms://alias/kiban-dev?region=eu-west-1",
    ),
    system_nodes=SystemNodes(count=3),
    queueing=Queueing(cpu=24, memory_gib=96, reclaim="Any", within_team="Never"),
    metadata=MetadataStoreArgs(
        postgres=InCluster(storage_gib=50),
        mysql=InCluster(storage_gib=50),
        object_store=InCluster(storage_gib=1000),
        expire_days=30,
    ),
    pipelines=PipelineEngineArgs(parallelism_per_team=10, kubeflow=KubeflowPipelines(mode="multi-user")),
    serving=ServingStackArgs(gateway=Gateway(domain="models.dev.example.com"), models=models("dev")),
    monitoring=MonitoringArgs(retention_days=15, storage_gib=50, grafana=True),
    retraining="dev",
    teams=(
        Team(
            name="platform", owner="platform-oncall", gpus={"l4": 2, "a100-mig": 14}, borrows={"l4": 2, "a100-mig": 42}
        ),
        Team(name="vision", owner="vision-oncall", gpus={"l4": 1, "a100-mig": 14}, borrows={"l4": 1, "a100-mig": 14}),
        Team(
            name="language", owner="language-oncall", gpus={"l4": 1, "a100-mig": 14}, borrows={"l4": 1, "a100-mig": 14}
        ),
    ),
    gpu_pools=(
        GpuPool(
            name="l4",
            accelerator="NVIDIA-L4",
            min_nodes=0,
            max_nodes=4,
            gpus_per_node=1,
            spot=True,
            cpu=16,
            memory_gib=64,
        ),
        GpuPool(name="a100-mig", accelerator="NVIDIA-A100-SXM4-40GB", nodes=1, gpus_per_node=8, mig_profile="1g.5gb"),
    ),
)
