"""Production: training on H100 and A100, notebooks and small jobs on MIG slices, serving on L4, batch on spot."""

from components._devices import Driver, GpuOperator
from components.gpu_node_pools import GpuPool, Karpenter, NodeClass
from components.metadata_store import ExternalDatabase, ExternalObjectStore, MetadataStoreArgs
from components.monitoring import MonitoringArgs, Receiver
from components.pipeline_engine import KubeflowPipelines, PipelineEngineArgs
from components.serving_stack import Gateway, ServingStackArgs
from components.tenancy import Queueing, Team
from stacks._models import models
from stacks._schema import Environment, KubeconfigCluster, State, SystemNodes

environment = Environment(
    name="prod",
    cluster=KubeconfigCluster(context="ml-prod", kube_system_uid="00000000-0000-0000-0000-000000000000"),
    state=State(
        durable=True,
        backend="s3://example-kiban-prod?region=eu-west-1",
        secrets_provider="awskms://alias/kiban-prod?region=eu-west-1",
    ),
    system_nodes=SystemNodes(count=6, cpu=32, memory_gib=128),
    devices=GpuOperator(driver=Driver(version="595.91.07", system="ubuntu24.04")),
    queueing=Queueing(
        cpu=96, memory_gib=384, reclaim="Any", within_team="LowerPriority", jobsets=True, requeue_minutes=60
    ),
    metadata=MetadataStoreArgs(
        postgres=ExternalDatabase(host="postgres.ml-prod.example.com", port=5432, name="mlflow", user="kiban"),
        mysql=ExternalDatabase(host="mysql.ml-prod.example.com", port=3306, name="kubeflow", user="kiban"),
        object_store=ExternalObjectStore(
            endpoint="https://s3.eu-west-1.amazonaws.com", region="eu-west-1", prefix="example-ml-prod-"
        ),
        expire_days=365,
    ),
    pipelines=PipelineEngineArgs(parallelism_per_team=50, kubeflow=KubeflowPipelines(mode="multi-user")),
    serving=ServingStackArgs(gateway=Gateway(domain="models.example.com"), models=models("prod")),
    monitoring=MonitoringArgs(
        retention_days=90,
        storage_gib=500,
        grafana=True,
        receivers=(
            Receiver(name="oncall", kind="pagerduty", severities=("critical",)),
            Receiver(name="chat", severities=("critical", "warning")),
        ),
    ),
    retraining="dev",
    teams=(
        Team(
            name="vision",
            owner="vision-oncall",
            gpus={"a100": 64, "a100-mig": 84, "l4-serving": 16},
            borrows={"a100": 64, "a100-mig": 84},
        ),
        Team(
            name="language",
            owner="language-oncall",
            gpus={"h100": 112, "a100-mig": 42, "l4-serving": 16},
            borrows={"h100": 16, "a100": 64, "a100-mig": 42},
        ),
        Team(
            name="ranking",
            owner="ranking-oncall",
            gpus={"a100": 32, "a100-mig": 42, "l4-serving": 32, "a10g-spot": 32},
            borrows={"a100": 32, "a10g-spot": 16},
        ),
        Team(
            name="research",
            owner="research-oncall",
            gpus={"h100": 16, "a100": 32, "h100-mig": 28, "a10g-spot": 16},
            borrows={"h100": 64, "a100": 96, "h100-mig": 4, "a10g-spot": 32},
        ),
    ),
    gpu_pools=(
        GpuPool(
            name="h100",
            accelerator="NVIDIA-H100-80GB-HBM3",
            nodes=16,
            gpus_per_node=8,
            cpu=192,
            memory_gib=2048,
            topology=(
                "topology.k8s.aws/network-node-layer-2",
                "topology.k8s.aws/network-node-layer-3",
                "kubernetes.io/hostname",
            ),
            domains=(8, 4),
        ),
        GpuPool(
            name="h100-mig",
            accelerator="NVIDIA-H100-80GB-HBM3",
            nodes=2,
            gpus_per_node=8,
            mig_profile="3g.40gb",
            cpu=192,
            memory_gib=2048,
        ),
        GpuPool(name="a100", accelerator="NVIDIA-A100-SXM4-80GB", min_nodes=8, max_nodes=16, gpus_per_node=8),
        GpuPool(name="a100-mig", accelerator="NVIDIA-A100-SXM4-80GB", nodes=3, gpus_per_node=8, mig_profile="1g.10gb"),
        GpuPool(
            name="l4-serving",
            accelerator="NVIDIA-L4",
            min_nodes=4,
            max_nodes=16,
            gpus_per_node=4,
            cpu=48,
            memory_gib=192,
        ),
        GpuPool(
            name="a10g-spot",
            accelerator="NVIDIA-A10G",
            min_nodes=0,
            max_nodes=48,
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
