"""Where a pool's nodes come from, as data, and which pools a source cannot serve.

What is rendered of it: components/_karpenter.py and components/_cluster_api.py. The cloud's part is a reference always.
"""

import dataclasses as dc
import re
from collections import Counter
from collections.abc import Mapping
from typing import get_args

_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_KIND = re.compile(r"[A-Za-z]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?")
_VERSION = re.compile(r"v\d+\.\d+\.\d+([-+][-+.0-9A-Za-z]+)?")
_DAY = 86400
_OF_KARPENTER = {
    "karpenter.sh/capacity-type": "spot",
    "topology.kubernetes.io/zone": "source.zones",
    "topology.kubernetes.io/region": "the NodeClass",
    "node.kubernetes.io/instance-type": "source.instance_types",
    "kubernetes.io/arch": "source.instance_types",
    "kubernetes.io/os": "the NodeClass",
    "kubernetes.io/hostname": "nothing: it is each node's own",
}
"""Labels that Karpenter (1.14, pkg/apis/v1/labels.go) gives a node itself, and what says them instead."""


@dc.dataclass(frozen=True, kw_only=True)
class Ref:
    """An object that is in the cluster already, by API group, kind and name.

    Raises ValueError for a part that is missing or cannot be one.
    """

    group: str
    kind: str
    name: str

    def __post_init__(self) -> None:
        for field, pattern, accepted in (
            ("group", _DOMAIN, "an API group, without a version"),
            ("kind", _KIND, "a kind"),
            ("name", _DOMAIN, "an object's name"),
        ):
            _require(type(self).__name__, field, getattr(self, field), pattern, accepted)


@dc.dataclass(frozen=True, kw_only=True)
class NodeClass(Ref):
    """What Karpenter's provider of a cloud makes of a node: image, network, rights, disks. Without a namespace."""


@dc.dataclass(frozen=True, kw_only=True)
class Existing:
    """Nodes that somebody has made and labelled. Kiban checks them before it changes anything, and makes none.

    An embedded cluster has made its pools' nodes before Kiban comes to it, so there it is the same as Simulated().
    """


@dc.dataclass(frozen=True, kw_only=True)
class Simulated:
    """Nodes that an embedded cluster has from the pool's own data, at its largest. They run nothing."""


@dc.dataclass(frozen=True, kw_only=True)
class Karpenter:
    """Nodes that Karpenter makes for pods that wait, and ends when they are empty: a NodePool a pool.

    instance_types: those that have the pool's accelerator, gpus_per_node of it, and at least its cpu and memory_gib.
        Karpenter itself knows of no accelerators, and would take any machine that has devices.
    zones: where; none for wherever the NodeClass has a network.
    idle_seconds: how long a node is empty before it is ended, 0 to 86,400.
    Raises ValueError for no instance type, or a bound that is not kept.
    """

    node_class: NodeClass
    instance_types: tuple[str, ...]
    zones: tuple[str, ...] = ()
    idle_seconds: int = 600

    def __post_init__(self) -> None:
        if not isinstance(self.node_class, NodeClass):
            raise ValueError(  # noqa: TRY004 - as every value of an environment
                f"Karpenter: node_class={self.node_class!r}; accepted: NodeClass(group=..., kind=..., name=...)"
            )
        if isinstance(self.instance_types, str) or not self.instance_types:
            raise ValueError(
                f"Karpenter: instance_types={self.instance_types!r}; accepted: a tuple of at least one; "
                "they decide which accelerator a node has"
            )
        _require_idle("Karpenter", self.idle_seconds)


@dc.dataclass(frozen=True, kw_only=True)
class ClusterApi:
    """Nodes of a cluster that Cluster API keeps, and that is its own management cluster.

    A MachineDeployment a failure domain, and one MachineHealthCheck. Where min_nodes is below max_nodes the cluster
    autoscaler says how many there are; Kiban does not install it.
    cluster, namespace: of the Cluster object. infrastructure, bootstrap: templates in the same namespace.
    version: of the nodes' Kubernetes, as v1.36.1.
    failure_domains: names as the Cluster's status has them; the nodes are spread over them. None: the provider chooses.
    idle_seconds: how long a node is unneeded before the autoscaler ends it, 0 to 86,400.
    """

    cluster: str
    namespace: str
    infrastructure: Ref
    bootstrap: Ref
    version: str
    failure_domains: tuple[str, ...] = ()
    idle_seconds: int = 600

    def __post_init__(self) -> None:
        for field in ("cluster", "namespace"):
            _require("ClusterApi", field, getattr(self, field), _LABEL, "an object's name")
        _require("ClusterApi", "version", self.version, _VERSION, "a version as v1.36.1")
        for field in ("infrastructure", "bootstrap"):
            if not isinstance(getattr(self, field), Ref):
                raise ValueError(  # noqa: TRY004 - as every value of an environment
                    f"ClusterApi: {field}={getattr(self, field)!r}; accepted: Ref(group=..., kind=..., name=...)"
                )
        if isinstance(self.failure_domains, str) or len(set(self.failure_domains)) < len(self.failure_domains):
            raise ValueError(f"ClusterApi: failure_domains={self.failure_domains!r}; accepted: a tuple, each once")
        for domain in self.failure_domains:
            _require("ClusterApi", "failure_domains", domain, _LABEL, "lower-case letters, digits and '-'")
        _require_idle("ClusterApi", self.idle_seconds)


Source = Existing | Simulated | Karpenter | ClusterApi
"""Where a pool's nodes come from: one of these."""


@dc.dataclass(frozen=True, kw_only=True)
class Machines:
    """A pool as its source sees it.

    least, most: nodes. labels, taints: of every node (core/v1). given: those of the labels that a node has to be given,
        since nothing finds them out on it.
    devices: extended resource to how much of it a node offers; 0 of the whole devices where they are cut.
    Raises ValueError, naming the pool, where its source cannot be true to it.
    """

    pool: str
    source: Source
    least: int
    most: int
    spot: bool
    labels: Mapping[str, str]
    given: Mapping[str, str]
    taints: tuple[Mapping[str, str], ...]
    devices: Mapping[str, int]
    cpu: int
    memory_gib: int

    def __post_init__(self) -> None:
        if not isinstance(self.source, Source):
            one = ", ".join(f"{each.__name__}(...)" for each in get_args(Source))
            self._refuse("source", self.source, f"one source, of {one}")
        keys = Counter((taint["key"], taint["effect"]) for taint in self.taints)
        twice = [key for (key, _), count in keys.items() if count > 1]
        if twice:
            self._refuse("taints", twice[0], "a key once an effect; nvidia.com/gpu and kiban.dev/spot are Kiban's")
        match self.source:
            case Karpenter():
                self._check_karpenter()
            case ClusterApi(failure_domains=domains):
                self._check_cluster_api(domains)

    @property
    def elastic(self) -> bool:
        """Whether the number of nodes follows what is asked for."""
        return self.least < self.most

    @property
    def cut(self) -> bool:
        """Whether a node offers slices of its devices and not whole ones."""
        return 0 in self.devices.values()

    def _check_karpenter(self) -> None:
        if self.least > 0:
            self._refuse(
                "min_nodes",
                self.least,
                "0 with a max_nodes where Karpenter makes the nodes: it keeps none for pods that are not there yet",
            )
        for key in self.labels:
            domain = key.rpartition("/")[0]
            if key in _OF_KARPENTER or domain == "karpenter.sh" or domain.endswith(".karpenter.sh"):
                self._refuse("labels", key, f"others; this one is Karpenter's (said by {_OF_KARPENTER.get(key, 'it')})")

    def _check_cluster_api(self, domains: tuple[str, ...]) -> None:
        if len(domains) > max(self.most, 1):
            self._refuse("source.failure_domains", domains, f"at most {self.most}, as many as the pool has nodes")
        if self.elastic and self.cut:
            self._refuse(
                "source",
                "ClusterApi(...)",
                "nodes=COUNT for sliced devices: the cluster autoscaler sees whole ones only, and would take a node "
                "whose slices are in use for an idle one",
            )

    def _refuse(self, field: str, value: object, accepted: str) -> None:
        raise ValueError(f"pool {self.pool!r}: {field}={value!r}; accepted: {accepted}")


def _require(what: str, field: str, value: object, pattern: re.Pattern[str], accepted: str) -> None:
    if not (isinstance(value, str) and pattern.fullmatch(value)):
        raise ValueError(f"{what}: {field}={value!r}; accepted: {accepted}")


def _require_idle(what: str, seconds: int) -> None:
    if not 0 <= seconds <= _DAY:
        raise ValueError(f"{what}: idle_seconds={seconds!r}; accepted: 0 to {_DAY}")
