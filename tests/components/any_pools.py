"""Pools of all shapes and sources, the same ones for the same seed."""

import random
from typing import Any

from components.gpu_node_pools import ClusterApi, GpuPool, Karpenter, NodeClass, Ref

A100 = "NVIDIA-A100-SXM4-80GB"
KARPENTER: dict[str, Any] = {
    "node_class": NodeClass(group="karpenter.k8s.aws", kind="EC2NodeClass", name="gpu"),
    "instance_types": ("p4de.24xlarge",),
}
CLUSTER_API: dict[str, Any] = {
    "cluster": "prod",
    "namespace": "clusters",
    "infrastructure": Ref(group="infrastructure.cluster.x-k8s.io", kind="Metal3MachineTemplate", name="gpu"),
    "bootstrap": Ref(group="bootstrap.cluster.x-k8s.io", kind="KubeadmConfigTemplate", name="gpu"),
    "version": "v1.36.1",
}


def pools(seed: int) -> list[GpuPool]:
    """Return valid pools of all shapes and sources."""
    dice = random.Random(seed)  # noqa: S311 - the same pools each time
    return [_any_pool(f"p{number}", dice) for number in range(200)]


def _any_pool(name: str, dice: random.Random) -> GpuPool:
    """Return a valid pool of any shape and source."""
    given: dict[str, Any] = {"gpus_per_node": dice.choice([1, 2, 8, 16]), "spot": dice.choice([True, False])}
    whole: dict[str, Any] = {"accelerator": dice.choice(["Tesla-T4", "NVIDIA-L4", A100])}
    cut: dict[str, Any] = {"accelerator": A100, "mig_profile": dice.choice(["1g.10gb", "2g.20gb", "3g.40gb"])}
    shape: dict[str, Any] = dice.choice([whole, whole | {"time_slices": 4}, cut])
    least, more = dice.randrange(5), dice.randrange(60)
    if dice.choice([True, False]):
        return GpuPool(name=name, source=Karpenter(**KARPENTER), min_nodes=0, max_nodes=more, **given, **shape)
    domains = tuple("abcde"[: dice.randrange(1 + min(5, least + more))])
    size: dict[str, Any] = (
        {"min_nodes": least, "max_nodes": least + more} if shape is whole else {"nodes": least + more}
    )
    return GpuPool(name=name, source=ClusterApi(**CLUSTER_API, failure_domains=domains), **given, **shape, **size)
