"""Staging: every pool of production at a smaller size, so that what passes here passes there."""

from components._devices import Driver, GpuOperator
from components.gpu_node_pools import GpuPool, Karpenter, NodeClass
from components.metadata_store import InCluster, MetadataStoreArgs
from components.monitoring import MonitoringArgs
from components.pipeline_engine import KubeflowPipelines, PipelineEngineArgs
from components.serving_stack import Gateway, ServingStackArgs
from components.tenancy import Queueing, Team
from stacks._models import models
from stacks._schema import Environment, KubeconfigCluster, State, SystemNodes

environment = Environment(
    name="staging",
    cluster=KubeconfigCluster(context="ml-staging", kube_system_uid="00000000-0000-0000-0000-000000000000"),
    state=State(
        durable=True,
        backend="s3://example-kiban-staging?region=eu-west-1",
        secrets_provider="awskms://alias/kiban-staging?region=eu-west-1",
    ),
    system_nodes=SystemNodes(count=3),
    devices=GpuOperator(driver=Driver(version="595.91.07", system="ubuntu24.04")),
    queueing=Queueing(
        cpu=24, memory_gib=96, reclaim="Any", within_team="LowerPriority", jobsets=True, requeue_minutes=60
    ),
    metadata=MetadataStoreArgs(
        postgres=InCluster(storage_gib=50),
        mysql=InCluster(storage_gib=50),
        object_store=InCluster(storage_gib=1000),
        expire_days=90,
    ),
    pipelines=PipelineEngineArgs(parallelism_per_team=20, kubeflow=KubeflowPipelines(mode="multi-user")),
    serving=ServingStackArgs(gateway=Gateway(domain="models.staging.example.com"), models=models("staging")),
    monitoring=MonitoringArgs(retention_days=30, storage_gib=100, grafana=True),
    retraining="dev",
    teams=(
        Team(
            name="vision",
            owner="vision-oncall",
            gpus={"a100": 8, "a100-mig": 14, "l4-serving": 2},
            borrows={"a100-mig": 14},
        ),
        Team(
            name="language",
            owner="language-oncall",
            gpus={"h100": 16, "a100-mig": 7, "l4-serving": 2},
            borrows={"a100": 8, "a100-mig": 14},
        ),
        Team(
            name="ranking",
            owner="ranking-oncall",
            gpus={"a100-mig": 7, "l4-serving": 4, "a10g-spot": 4},
            borrows={"a10g-spot": 4},
        ),
    ),
    gpu_pools=(
        GpuPool(
            name="h100",
            accelerator="NVIDIA-H100-80GB-HBM3",
            nodes=2,
            gpus_per_node=8,
            cpu=192,
            memory_gib=2048,
            topology=(
                "topology.k8s.aws/network-node-layer-2",
                "topology.k8s.aws/network-node-layer-3",
                "kubernetes.io/hostname",
            ),
            domains=(2, 2),
        ),
        GpuPool(name="a100", accelerator="NVIDIA-A100-SXM4-80GB", nodes=1, gpus_per_node=8),
        GpuPool(name="a100-mig", accelerator="NVIDIA-A100-SXM4-80GB", nodes=1, gpus_per_node=8, mig_profile="1g.10gb"),
        GpuPool(
            name="l4-serving",
            accelerator="NVIDIA-L4",
            min_nodes=1,
            max_nodes=4,
            gpus_per_node=4,
            cpu=48,
            memory_gib=192,
        ),
        GpuPool(
            name="a10g-spot",
            accelerator="NVIDIA-A10G",
            min_nodes=0,
            max_nodes=8,
            gpus_per_node=1,
            spot=True,
            cpu=16,
            memory_gib=64,
            source=Karpenter(
                node_class=NodeClass(group="karpenter.k8s.aws", kind="EC2NodeClass", name="gpu"),
                instance_types=("g5.4xlarge", "g5.8xlarge"),
            ),
        ),
    ),
)
