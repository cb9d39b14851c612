"""What the cluster has to have for a pool's nodes to come from where its data says: looked at before anything changes.

Pure functions over what `check` has fetched; each raises BadInput in one line, with what mends it. Of Karpenter and of
Cluster API Kiban installs nothing: they hold a cloud's credentials, and are there before the platform is.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from components import _cluster_api, _karpenter
from components._labels import POOL
from components._pools import machines
from components._provisioning import manifests
from components._sources import ClusterApi, Existing, Karpenter, Machines, Ref
from infra.errors import BadInput
from infra.kubectl import Kubectl, Object
from stacks._schema import EmbeddedCluster, Environment

Served = Mapping[str, Mapping[str, str]]
"""`group/version` to the kinds that are served there, each with its plural."""
_NODE_POOL = "karpenter.sh/nodepool"
_MACHINE = "cluster.x-k8s.io/machine"
_LOOKED_AT = ("nvidia.com/gpu.product", "nvidia.com/gpu.count")
_SYNC, _TAINTS = "--additional-sync-machine-labels", "MachineTaintPropagation"
_UNTOUCHED = "nothing was changed"


def check(environment: Environment, kubectl: Kubectl) -> None:
    """Raise BadInput for a pool whose nodes are not as its source says, or could not be made.

    The nodes that an embedded cluster has are made from the pools' data by who starts it, and not looked at.
    """
    made_here = isinstance(environment.cluster, EmbeddedCluster)
    looked_at = (Karpenter, ClusterApi) if made_here else (Existing, Karpenter, ClusterApi)
    pools = [machines(pool) for pool in environment.gpu_pools if isinstance(pool.source, looked_at)]
    if not pools:
        return
    levels = {pool.name: pool.topology for pool in environment.gpu_pools}
    served = _served(kubectl, {ref.group for pool in pools for ref in _kinds(pool)})
    nodes = kubectl.get("nodes", selector=POOL)
    for pool in pools:
        of_pool = [node for node in nodes if _labels(node).get(POOL) == pool.pool]
        refuse_two_sources(pool, of_pool)
        match pool.source:
            case Existing():
                refuse_existing(pool, of_pool)
                refuse_unplaced(pool.pool, levels[pool.pool], of_pool)
            case Karpenter() as source:
                refuse_unserved(pool, served)
                refuse_missing(pool, source.node_class, _objects(kubectl, source.node_class, served))
                refuse_ungated(pool, _deployments(kubectl, "app.kubernetes.io/name=karpenter"))
            case ClusterApi(namespace=namespace) as source:
                refuse_unserved(pool, served)
                for ref in (_cluster(source), source.infrastructure, source.bootstrap):
                    refuse_missing(pool, ref, _objects(kubectl, ref, served, namespace))
                template = _named(_objects(kubectl, source.bootstrap, served, namespace), source.bootstrap.name)
                refuse_unmarked(pool, template, _deployments(kubectl, "cluster.x-k8s.io/provider=cluster-api"))


def refuse_two_sources(pool: Machines, nodes: Iterable[Object]) -> None:
    """Raise BadInput for a node under the pool's label that something else than the pool's source has made."""
    for node in nodes:
        maker = _maker(node)
        match pool.source:
            case Karpenter():
                fits = maker == f"Karpenter's NodePool {pool.pool!r}"
            case ClusterApi():
                fits = maker.startswith("Cluster API")
            case _:
                fits = maker == "somebody"
        if not fits:
            raise BadInput(
                f"pool {pool.pool!r}: node {_name(node)} was made by {maker}, and the pool's source is "
                f"{type(pool.source).__name__}(...); accepted: one source a pool; take the node out of it "
                f"(`kubectl label node {_name(node)} {POOL}-`; what runs there stays), or say its source; {_UNTOUCHED}"
            )


def _maker(node: Object) -> str:
    if _NODE_POOL in _labels(node):
        return f"Karpenter's NodePool {_labels(node)[_NODE_POOL]!r}"
    machine = node["metadata"].get("annotations", {}).get(_MACHINE)
    return f"Cluster API's Machine {machine!r}" if machine else "somebody"


def refuse_existing(pool: Machines, nodes: Sequence[Object]) -> None:
    """Raise BadInput for too few or too many nodes, or one without the labels and taints that Kiban does not bring.

    What GPU feature discovery has found out must not be otherwise; that it has not been there yet is no fault.
    """
    if not pool.least <= len(nodes) <= pool.most:
        accepted = f"{pool.least} to {pool.most}" if pool.elastic else str(pool.least)
        raise BadInput(
            f"pool {pool.pool!r}: {len(nodes)} nodes have the label {POOL}={pool.pool}; accepted: {accepted}; "
            f"`{_label('NODE', pool.given)}` puts one into the pool, `kubectl label node NODE {POOL}-` takes it out; "
            f"{_UNTOUCHED}"
        )
    for node in nodes:
        labels, name = _labels(node), _name(node)
        missing = {key: value for key, value in pool.given.items() if labels.get(key) != value}
        if missing:
            raise BadInput(
                f"pool {pool.pool!r}: node {name} lacks the labels {_joined(missing)}; "
                f"`{_label(name, missing)}` sets them; {_UNTOUCHED}"
            )
        there = [{key: taint.get(key, "") for key in _TAINT} for taint in node["spec"].get("taints", [])]
        bare = [taint for taint in pool.taints if {key: taint.get(key, "") for key in _TAINT} not in there]
        if bare:
            spelled = " ".join(f"{taint['key']}={taint.get('value', '')}:{taint['effect']}" for taint in bare)
            raise BadInput(
                f"pool {pool.pool!r}: node {name} lacks the taints {spelled}; "
                f"`kubectl taint node {name} --overwrite {spelled}` sets them; {_UNTOUCHED}"
            )
        _refuse_other_devices(pool, node)


def refuse_unplaced(pool: str, levels: Iterable[str], nodes: Iterable[Object]) -> None:
    """Raise BadInput for a node that does not say where in the network it is: Kueue (0.19) would not see it.

    levels: the labels of the pool's topology.
    """
    for node in nodes:
        missing = [level for level in levels if level not in _labels(node)]
        if missing:
            raise BadInput(
                f"pool {pool!r}: node {_name(node)} lacks the labels {', '.join(missing)} of the pool's topology; "
                f"accepted: nodes that have them, or a topology of levels that all nodes have; {_UNTOUCHED}"
            )


_TAINT = ("key", "value", "effect")


def _refuse_other_devices(pool: Machines, node: Object) -> None:
    for key in _LOOKED_AT[: 1 if pool.cut else None]:  # of sliced devices only those left whole are counted
        found = _labels(node).get(key, pool.labels[key])
        if found != pool.labels[key]:
            raise BadInput(
                f"pool {pool.pool!r}: node {_name(node)} has {key}={found}; accepted: {pool.labels[key]}, by the data; "
                f"`kubectl label node {_name(node)} {POOL}-` takes it out of the pool; {_UNTOUCHED}"
            )


def refuse_unserved(pool: Machines, served: Served) -> None:
    """Raise BadInput where a kind is not there in the version that Kiban writes, or that the data refers to."""
    wanted = [(manifest["apiVersion"], manifest["kind"]) for manifest in manifests(pool)]
    missing = [f"{kind} of {version}" for version, kind in wanted if kind not in served.get(version, {})]
    missing += [f"{ref.kind} of {ref.group}" for ref in _kinds(pool) if _plural(ref, served) is None]
    if missing:
        controller = {Karpenter: "Karpenter", ClusterApi: "Cluster API"}[type(pool.source)]
        raise BadInput(
            f"pool {pool.pool!r}: the cluster has no {missing[0]}; accepted: a cluster with {controller} and the "
            f"provider that the pool's data names, in versions that have it; {_UNTOUCHED}"
        )


def refuse_missing(pool: Machines, ref: Ref, objects: Iterable[Object]) -> None:
    """Raise BadInput for an object that the pool's data refers to and that is not among those of its kind."""
    names = sorted(_name(each) for each in objects)
    if ref.name not in names:
        raise BadInput(
            f"pool {pool.pool!r}: the cluster has no {ref.kind} {ref.name!r}; accepted: "
            f"{', '.join(names) or f'one that is made first, there is no {ref.kind} at all'}; {_UNTOUCHED}"
        )


def refuse_ungated(pool: Machines, deployments: Iterable[Object]) -> None:
    """Raise BadInput for slices where Karpenter does not look at NodeOverlays, without which it never makes a node.

    deployments: of Karpenter. Where the cloud runs it out of sight there is none, and nothing is said.
    """
    said = [_said(each) for each in deployments]
    gate = f"{_karpenter.OVERLAY_GATE}=true"
    if pool.cut and said and not any(gate in each for each in said):
        raise BadInput(
            f"pool {pool.pool!r}: Karpenter does not know what sliced devices come to; accepted: with its feature gate "
            f"{gate} (its chart's settings.featureGates.nodeOverlay), or source=Existing(); {_UNTOUCHED}"
        )


def refuse_unmarked(pool: Machines, template: Object, deployments: Iterable[Object]) -> None:
    """Raise BadInput where a node would come up without a label or a taint of the pool.

    Cluster API passes neither on by itself: its controller is told to, or the bootstrap template tells the kubelet.
    deployments: of Cluster API's core controller.
    """
    said = " ".join(_said(each) for each in deployments)
    patterns = [pattern for words in re.findall(rf"{_SYNC}[= ](\S+)", said) for pattern in words.split(",")]
    labels = [
        key
        for key in _cluster_api.given_labels(pool)
        if not _names(template, key) and not any(re.search(pattern, key) for pattern in patterns)
    ]
    gated = f"{_TAINTS}=true" in said
    taints = [taint["key"] for taint in pool.taints if not gated and not _names(template, taint["key"])]
    if labels or taints:
        what = f"label {labels[0]}" if labels else f"taint {taints[0]}"
        told = f"{_SYNC}=^kiban\\.dev/,^nvidia\\.com/,^cluster-api/" if labels else f"feature gate {_TAINTS}=true"
        raise BadInput(
            f"pool {pool.pool!r}: its nodes would lack the {what}; accepted: Cluster API's core controller with {told} "
            f"or {_name(template)} with the {what} for the kubelet; {_UNTOUCHED}"
        )


def _names(template: Object, key: str) -> bool:
    """Whether a template of whatever kind has the key anywhere."""
    return re.search(rf"{re.escape(key)}(?![-.\w])", json.dumps(template)) is not None


def _kinds(pool: Machines) -> list[Ref]:
    match pool.source:
        case Karpenter(node_class=node_class):
            return [Ref(group=_karpenter.GROUP, kind="NodePool", name=pool.pool), node_class]
        case ClusterApi() as source:
            return [_cluster(source), source.infrastructure, source.bootstrap]
        case _:
            return []


def _cluster(source: ClusterApi) -> Ref:
    return Ref(group=_cluster_api.GROUP, kind="Cluster", name=source.cluster)


def _served(kubectl: Kubectl, groups: Iterable[str]) -> Served:
    there = {group["name"]: group for group in json.loads(kubectl.raw("/apis"))["groups"]} if groups else {}
    versions = [each["groupVersion"] for group in groups if group in there for each in there[group]["versions"]]
    resources = {version: json.loads(kubectl.raw(f"/apis/{version}"))["resources"] for version in versions}
    return {
        version: {each["kind"]: each["name"] for each in found if "/" not in each["name"]}
        for version, found in resources.items()
    }


def _plural(ref: Ref, served: Served) -> str | None:
    found = (kinds.get(ref.kind) for version, kinds in served.items() if version.partition("/")[0] == ref.group)
    return next(filter(None, found), None)


def _objects(kubectl: Kubectl, ref: Ref, served: Served, namespace: str | None = None) -> list[Object]:
    return kubectl.get(f"{_plural(ref, served)}.{ref.group}", namespace=namespace)


def _deployments(kubectl: Kubectl, selector: str) -> list[Object]:
    return kubectl.get("deployments", selector=selector, everywhere=True)


def _said(deployment: Object) -> str:
    """What a controller is told by arguments and environment."""
    containers: list[dict[str, Any]] = deployment["spec"]["template"]["spec"]["containers"]
    words = [word for each in containers for word in (*each.get("command", ()), *each.get("args", ()))]
    return " ".join([*words, *(env.get("value", "") for each in containers for env in each.get("env", ()))])


def _named(objects: Iterable[Object], name: str) -> Object:
    return next(each for each in objects if _name(each) == name)


def _name(each: Object) -> str:
    return str(each["metadata"]["name"])


def _labels(node: Object) -> Mapping[str, str]:
    labels: Mapping[str, str] = node["metadata"].get("labels", {})
    return labels


def _label(node: str, labels: Mapping[str, str]) -> str:
    return f"kubectl label node {node} --overwrite {_joined(labels)}"


def _joined(labels: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in labels.items())
