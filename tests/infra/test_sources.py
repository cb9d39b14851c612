"""What a cluster has to have for its pools' nodes: each check alone, over objects as the API server gives them."""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import pytest

from components._pools import machines
from components._sources import Machines
from components.gpu_node_pools import ClusterApi, Existing, GpuPool, Karpenter, NodeClass, Ref, Source, Taint
from components.tenancy import Team
from infra import sources
from infra.errors import BadInput
from infra.sources import (
    refuse_existing,
    refuse_missing,
    refuse_two_sources,
    refuse_ungated,
    refuse_unmarked,
    refuse_unplaced,
    refuse_unserved,
)
from stacks._schema import THROWAWAY, EmbeddedCluster, Environment, KubeconfigCluster

if TYPE_CHECKING:
    from infra.kubectl import Kubectl

Object = dict[str, Any]
NODE_CLASS = NodeClass(group="karpenter.k8s.aws", kind="EC2NodeClass", name="gpu")
KARPENTER = Karpenter(node_class=NODE_CLASS, instance_types=("g6.xlarge",))
CLUSTER_API = ClusterApi(
    cluster="prod",
    namespace="clusters",
    infrastructure=Ref(group="infrastructure.cluster.x-k8s.io", kind="Metal3MachineTemplate", name="gpu"),
    bootstrap=Ref(group="bootstrap.cluster.x-k8s.io", kind="KubeadmConfigTemplate", name="gpu"),
    version="v1.36.1",
)
GIVEN = {"kiban.dev/pool": "l4", "kiban.dev/capacity": "on-demand", "nvidia.com/device-plugin.config": "l4"}
TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
SERVED = {
    "karpenter.sh/v1": {"NodePool": "nodepools", "NodeClaim": "nodeclaims"},
    "karpenter.sh/v1alpha1": {"NodeOverlay": "nodeoverlays"},
    "karpenter.k8s.aws/v1": {"EC2NodeClass": "ec2nodeclasses"},
    "cluster.x-k8s.io/v1beta2": {
        "Cluster": "clusters",
        "MachineDeployment": "machinedeployments",
        "MachineHealthCheck": "machinehealthchecks",
    },
    "infrastructure.cluster.x-k8s.io/v1beta1": {"Metal3MachineTemplate": "metal3machinetemplates"},
    "bootstrap.cluster.x-k8s.io/v1beta2": {"KubeadmConfigTemplate": "kubeadmconfigtemplates"},
}


def pool(source: Source, **change: Any) -> GpuPool:  # noqa: ANN401 - a pool's values
    """Return a pool of no, one or two nodes."""
    given: dict[str, Any] = {"name": "l4", "accelerator": "NVIDIA-L4", "gpus_per_node": 1, "source": source}
    return GpuPool(**given | {"min_nodes": 0, "max_nodes": 2} | change)


def asked(source: Source, **change: Any) -> Machines:  # noqa: ANN401 - as above
    """Return the same as its source sees it."""
    return machines(pool(source, **change))


def node(
    labels: Mapping[str, str] | None = None,
    *,
    name: str = "n1",
    taints: tuple[Object, ...] = (TAINT,),
    annotations: Mapping[str, str] | None = None,
) -> Object:
    """Return a node of the pool as the API server gives it. labels: beside those that it has to have, or over them."""
    return {
        "metadata": {"name": name, "labels": GIVEN | dict(labels or {}), "annotations": dict(annotations or {})},
        "spec": {"taints": [dict(taint) for taint in taints]},
    }


def controller(*arguments: str, **environ: str) -> Object:
    """Return a controller's Deployment as the API server gives it."""
    env = [{"name": name, "value": value} for name, value in environ.items()] + [{"name": "POD", "valueFrom": {}}]
    container = {"name": "manager", "args": list(arguments), "env": env}
    return {"metadata": {"name": "controller"}, "spec": {"template": {"spec": {"containers": [container]}}}}


def line(refused: Callable[[], object]) -> str:
    """Return the one line with which it is refused."""
    with pytest.raises(BadInput) as refusal:
        refused()
    said = str(refusal.value)
    assert said.startswith("pool 'l4': ")
    assert said.endswith("nothing was changed")
    assert "\n" not in said
    return said


def named(*names: str) -> list[Object]:
    """Return objects of which nothing but the name counts."""
    return [{"metadata": {"name": name}} for name in names]


BY_KARPENTER = node({"karpenter.sh/nodepool": "l4"})
BY_ANOTHER = node({"karpenter.sh/nodepool": "spare"})
BY_CLUSTER_API = node(annotations={"cluster.x-k8s.io/machine": "l4-x7k2p"})
BY_HAND = node()


@pytest.mark.parametrize(
    ("source", "made", "maker"),
    [
        (Existing(), BY_KARPENTER, "Karpenter's NodePool 'l4'"),
        (Existing(), BY_CLUSTER_API, "Cluster API's Machine 'l4-x7k2p'"),
        (KARPENTER, BY_ANOTHER, "Karpenter's NodePool 'spare'"),
        (KARPENTER, BY_CLUSTER_API, "Cluster API's Machine 'l4-x7k2p'"),
        (KARPENTER, BY_HAND, "somebody"),
        (CLUSTER_API, BY_HAND, "somebody"),
        (CLUSTER_API, BY_KARPENTER, "Karpenter's NodePool 'l4'"),
    ],
)
def test_two_sources_of_one_pool_are_refused(source: Source, made: Object, maker: str) -> None:
    """A node under the pool's label that something else made: who, and how to take it out."""
    said = line(lambda: refuse_two_sources(asked(source), [made]))
    assert f"node n1 was made by {maker}, and the pool's source is {type(source).__name__}(...)" in said
    assert "`kubectl label node n1 kiban.dev/pool-`" in said


@pytest.mark.parametrize(
    ("source", "made"), [(Existing(), BY_HAND), (KARPENTER, BY_KARPENTER), (CLUSTER_API, BY_CLUSTER_API)]
)
def test_a_pools_own_nodes_pass(source: Source, made: Object) -> None:
    """Those that its source makes."""
    refuse_two_sources(asked(source), [made])


@pytest.mark.parametrize(("count", "accepted"), [(0, "accepted: 1 to 2"), (3, "accepted: 1 to 2")])
def test_too_few_or_too_many_nodes_are_refused(count: int, accepted: str) -> None:
    """With what puts one into the pool and what takes one out."""
    said = line(
        lambda: refuse_existing(asked(Existing(), min_nodes=1), [node(name=f"n{each}") for each in range(count)])
    )
    assert f"{count} nodes have the label kiban.dev/pool=l4; {accepted}" in said
    assert "`kubectl label node NODE --overwrite kiban.dev/pool=l4 " in said
    fixed = asked(Existing(), min_nodes=None, max_nodes=None, nodes=2)
    assert "accepted: 2;" in line(lambda: refuse_existing(fixed, [node()]))


def test_a_node_without_a_label_is_refused_with_what_sets_it() -> None:
    """A value that is another counts as missing."""
    of = asked(Existing(), labels={"example.com/purpose": "batch"})
    said = line(lambda: refuse_existing(of, [node({"kiban.dev/capacity": "spot"})]))
    assert "node n1 lacks the labels example.com/purpose=batch kiban.dev/capacity=on-demand" in said
    assert "`kubectl label node n1 --overwrite example.com/purpose=batch kiban.dev/capacity=on-demand`" in said


@pytest.mark.parametrize("taints", [(), ({"key": "nvidia.com/gpu", "value": "present", "effect": "NoExecute"},)])
def test_a_node_without_a_taint_is_refused_with_what_sets_it(taints: tuple[Object, ...]) -> None:
    """Of the pool's own one without a value too, which the API server leaves out."""
    of = asked(Existing(), taints=(Taint(key="kiban.dev/batch"),))
    batch = {"key": "kiban.dev/batch", "effect": "NoSchedule"}
    said = line(lambda: refuse_existing(of, [node(taints=(*taints, batch))]))
    assert "node n1 lacks the taints nvidia.com/gpu=present:NoSchedule;" in said
    assert "`kubectl taint node n1 --overwrite nvidia.com/gpu=present:NoSchedule`" in said
    refuse_existing(of, [node(taints=(TAINT, batch))])


@pytest.mark.parametrize(("key", "found"), [("nvidia.com/gpu.product", "Tesla-T4"), ("nvidia.com/gpu.count", "2")])
def test_other_devices_than_the_data_says_are_refused(key: str, found: str) -> None:
    """Where GPU feature discovery has looked; where it has not been yet, the node passes."""
    of = asked(Existing())
    said = line(lambda: refuse_existing(of, [node({key: found})]))
    assert f"node n1 has {key}={found}; accepted: {of.labels[key]}" in said
    refuse_existing(of, [node({key: of.labels[key]})])
    refuse_existing(of, [node()])


def test_a_node_that_does_not_say_where_it_is_is_refused() -> None:
    """Kueue passes it over without a word, and the pool is smaller than its quota."""
    levels = ("block", "rack", "kubernetes.io/hostname")
    said = line(lambda: refuse_unplaced("l4", levels, [node({"rack": "r1", "kubernetes.io/hostname": "n1"})]))
    assert "node n1 lacks the labels block of the pool's topology" in said
    refuse_unplaced("l4", levels, [node({"block": "b1", "rack": "r1", "kubernetes.io/hostname": "n1"})])
    refuse_unplaced("l4", (), [node()])


@pytest.mark.parametrize(
    ("of", "version", "kind", "said"),
    [
        (
            asked(KARPENTER),
            "karpenter.sh/v1",
            "NodePool",
            "NodePool of karpenter.sh/v1; accepted: a cluster with Karpen",
        ),
        (
            asked(KARPENTER, time_slices=2),
            "karpenter.sh/v1alpha1",
            "NodeOverlay",
            "NodeOverlay of karpenter.sh/v1alpha1;",
        ),
        (asked(KARPENTER), "karpenter.k8s.aws/v1", "EC2NodeClass", "EC2NodeClass of karpenter.k8s.aws;"),
        (
            asked(CLUSTER_API),
            "cluster.x-k8s.io/v1beta2",
            "MachineDeployment",
            "MachineDeployment of cluster.x-k8s.io/v1b",
        ),
        (asked(CLUSTER_API), "cluster.x-k8s.io/v1beta2", "Cluster", "Cluster of cluster.x-k8s.io; accepted: a cluster"),
        (asked(CLUSTER_API), "bootstrap.cluster.x-k8s.io/v1beta2", "KubeadmConfigTemplate", "KubeadmConfigTemplate of"),
    ],
)
def test_kinds_that_the_cluster_lacks_are_refused(of: Machines, version: str, kind: str, said: str) -> None:
    """Those that Kiban writes in their version, and those that the data refers to."""
    refuse_unserved(of, SERVED)
    less = {each: {k: v for k, v in kinds.items() if (each, k) != (version, kind)} for each, kinds in SERVED.items()}
    assert f"the cluster has no {said}" in line(lambda: refuse_unserved(of, less))
    assert "no " in line(lambda: refuse_unserved(of, {}))


def test_a_missing_node_class_is_refused_beside_those_that_are_there() -> None:
    """Karpenter would only say so in a condition of the NodePool, while Jobs wait."""
    of = asked(KARPENTER)
    assert "no EC2NodeClass 'gpu'; accepted: cpu, web;" in line(
        lambda: refuse_missing(of, NODE_CLASS, named("web", "cpu"))
    )
    none = line(lambda: refuse_missing(of, NODE_CLASS, []))
    assert "accepted: one that is made first, there is no EC2NodeClass at all;" in none
    refuse_missing(of, NODE_CLASS, named("gpu"))


def test_slices_need_a_karpenter_that_looks_at_overlays() -> None:
    """Its gate is off by default; where the cloud runs it, nothing can be seen of it."""
    on = controller(FEATURE_GATES="ReservedCapacity=true,NodeOverlay=true")
    off = controller(FEATURE_GATES="ReservedCapacity=true,NodeOverlay=false")
    sliced = asked(KARPENTER, time_slices=2)
    said = line(lambda: refuse_ungated(sliced, [off]))
    assert "NodeOverlay=true (its chart's settings.featureGates.nodeOverlay)" in said
    assert said == line(lambda: refuse_ungated(sliced, [controller()]))
    refuse_ungated(sliced, [on])
    refuse_ungated(sliced, [controller("--feature-gates=NodeOverlay=true")])
    refuse_ungated(sliced, [])
    refuse_ungated(asked(KARPENTER), [off])


SYNCED = r"--additional-sync-machine-labels=^kiban\.dev/,^nvidia\.com/,^cluster-api/"
GATE = "--feature-gates=MachinePool=true,MachineTaintPropagation=true"


def template(*words: str) -> Object:
    """Return a bootstrap template that has these words somewhere."""
    return {"metadata": {"name": "gpu"}, "spec": {"template": {"spec": {"args": list(words)}}}}


@pytest.mark.parametrize(
    ("words", "arguments", "lacking"),
    [
        ((), (GATE,), "label kiban.dev/pool"),
        ((), (SYNCED,), "taint nvidia.com/gpu"),
        ((), (SYNCED, GATE), None),
        (("kiban.dev/pool=l4,kiban.dev/capacity=on-demand",), (GATE,), "label nvidia.com/device-plugin.config"),
        (("nvidia.com/gpu=present:NoSchedule",), (SYNCED,), None),
        (("nvidia.com/gpu.product=x",), (SYNCED,), "taint nvidia.com/gpu"),
        (
            (",".join([*GIVEN, "cluster-api/accelerator=l4"]), "nvidia.com/gpu=present:NoSchedule"),
            (),
            None,
        ),
    ],
)
def test_machines_whose_nodes_would_come_up_bare_are_refused(
    words: tuple[str, ...], arguments: tuple[str, ...], lacking: str | None
) -> None:
    """Without label no Job would ever find them, without taint all others would."""
    of = asked(CLUSTER_API)

    def look() -> None:
        refuse_unmarked(of, template(*words), [controller(*arguments)] if arguments else [])

    if lacking is None:
        look()
    else:
        assert f"its nodes would lack the {lacking}; accepted: Cluster API's core controller with" in line(look)


class Answers:
    """In place of kubectl: what it answers, and what it is asked."""

    def __init__(self, objects: Mapping[str, list[Object]]) -> None:
        self.objects = objects
        self.asked: list[str] = []

    def get(self, kind: str, **_: object) -> list[Object]:
        """Return the objects of a kind."""
        self.asked.append(kind)
        return self.objects.get(kind, [])

    def raw(self, path: str) -> str:
        """Return discovery documents."""
        self.asked.append(path)
        if path != "/apis":
            kinds = SERVED[path.removeprefix("/apis/")]
            plain = [{"kind": kind, "name": plural} for kind, plural in kinds.items()]
            return json.dumps({"resources": [*plain, *({**each, "name": f"{each['name']}/status"} for each in plain)]})
        groups: dict[str, list[Object]] = {}
        for version in SERVED:
            groups.setdefault(version.partition("/")[0], []).append({"groupVersion": version})
        return json.dumps({"groups": [{"name": name, "versions": versions} for name, versions in groups.items()]})


def check(source: Source, objects: Mapping[str, list[Object]], *, embedded: bool = False, **change: Any) -> list[str]:  # noqa: ANN401
    """Look at the cluster for an environment of one pool, and return what was asked for."""
    answers = Answers(objects)
    environment = Environment(
        name="x",
        cluster=EmbeddedCluster(name="x") if embedded else KubeconfigCluster(context="x", kube_system_uid="1"),
        state=THROWAWAY,
        teams=(Team(name="vision", owner="o", gpus={"l4": 1}),),
        gpu_pools=(pool(source, **change),),
    )
    sources.check(environment, cast("Kubectl", answers))
    return answers.asked


def test_a_cluster_is_asked_for_what_its_pools_sources_need() -> None:
    """Each of the checks is made on what it has; nodes that an embedded cluster has itself are not looked at."""
    assert check(Existing(), {}, embedded=True) == []
    assert check(Existing(), {"nodes": [BY_HAND]}) == ["nodes"]
    assert "1 to 2" in line(lambda: check(Existing(), {"nodes": []}, min_nodes=1))
    classes = {"ec2nodeclasses.karpenter.k8s.aws": named("gpu")}
    for embedded in (True, False):
        assert "deployments" in check(KARPENTER, classes, embedded=embedded)
    assert "no EC2NodeClass 'gpu'" in line(lambda: check(KARPENTER, {}))
    assert "was made by somebody" in line(lambda: check(KARPENTER, classes | {"nodes": [BY_HAND]}))
    ungated = classes | {"deployments": [controller()]}
    assert "NodeOverlay=true" in line(lambda: check(KARPENTER, ungated, time_slices=2))
    there = {
        "clusters.cluster.x-k8s.io": named("prod"),
        "metal3machinetemplates.infrastructure.cluster.x-k8s.io": named("gpu"),
        "kubeadmconfigtemplates.bootstrap.cluster.x-k8s.io": [template()],
        "deployments": [controller(SYNCED, GATE)],
    }
    assert set(there) < set(check(CLUSTER_API, there))


@pytest.mark.parametrize("missing", ["clusters", "metal3machinetemplates", "kubeadmconfigtemplates", "deployments"])
def test_cluster_apis_objects_have_to_be_there(missing: str) -> None:
    """The Cluster, both templates, and a controller that passes labels and taints on."""
    there = {
        "clusters.cluster.x-k8s.io": named("prod"),
        "metal3machinetemplates.infrastructure.cluster.x-k8s.io": named("gpu"),
        "kubeadmconfigtemplates.bootstrap.cluster.x-k8s.io": [template()],
        "deployments": [controller(SYNCED, GATE)],
    }
    less = {kind: objects for kind, objects in there.items() if kind.partition(".")[0] != missing}
    assert line(lambda: check(CLUSTER_API, less))
