"""GPU pools as data: what they offer and to whom, and what their nodes look like. Nothing is declared here."""

import dataclasses as dc
import itertools
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction

from components._accelerators import ACCELERATORS
from components._labels import CAPACITY, POOL
from components._sources import Existing, Machines, Simulated, Source

GPU = "nvidia.com/gpu"
HOST = "kubernetes.io/hostname"
SYSTEM_POOL = "system"
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_CONFIGURED = ("nvidia.com/device-plugin.config", "nvidia.com/mig.config")
"""NVIDIA's labels that say what shall be; all others say what GPU feature discovery or the operator have found."""


@dc.dataclass(frozen=True, kw_only=True)
class Taint:
    """A node taint; `effect` as in core/v1."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"

    def __post_init__(self) -> None:
        if self.effect not in _EFFECTS:
            raise ValueError(f"taint {self.key!r}: effect={self.effect!r}; accepted: {', '.join(_EFFECTS)}")


@dc.dataclass(frozen=True, kw_only=True)
class GpuPool:
    """Nodes of one accelerator, tainted and handed out together.

    source: where the nodes come from: Existing(), Simulated(), Karpenter(...) or ClusterApi(...).
    accelerator: value of the node label nvidia.com/gpu.product (GPU feature discovery).
    nodes: a fixed count; or leave it out and give min_nodes and max_nodes. 0 to 5,000.
    gpus_per_node: whole devices on a node, 1 to 16.
    spot: nodes that the provider may take back.
    mig_profile: every device is cut into as many of these as it holds.
    mig: every device is cut into so many MIG instances of each of these profiles.
    time_slices: how many pods share a device in turn, 1 (none) to 48.
    cpu, memory_gib: what pods can have of a node besides: what is allocatable, less what its DaemonSets request.
    hourly_cost: of a node, in whatever currency; `kiban capacity` adds it up.
    topology: node labels from the widest domain to the narrowest, for Kueue to place a workload's pods close together;
        the last is best kubernetes.io/hostname, without which Kueue (0.19) heeds no taints and replaces no lost node.
        Such a pool takes only workloads that say so (annotations kueue.x-k8s.io/podset-*-topology), and needs `nodes`:
        Kueue counts those that are there. What labels there are is the provider's to say (docs/adr/0020).
    domains: of how many nodes a domain of each level is, but for the host's: (8, 4) are blocks of eight and racks of
        four. Simulated nodes are labelled so; left out, the whole pool is one domain.
    Raises ValueError naming the field, the value and what is accepted.
    """

    name: str
    accelerator: str
    gpus_per_node: int
    nodes: int | None = None
    min_nodes: int | None = None
    max_nodes: int | None = None
    spot: bool = False
    mig_profile: str | None = None
    mig: Mapping[str, int] = dc.field(default_factory=dict)
    time_slices: int = 1
    cpu: int = 96
    memory_gib: int = 1024
    labels: Mapping[str, str] = dc.field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    topology: tuple[str, ...] = ()
    source: Source = Existing()  # noqa: RUF009 - frozen
    domains: tuple[int, ...] = ()
    hourly_cost: float | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"pool {self.name!r}: accepted: a name of lower-case letters, digits and '-', at most 40 characters"
            )
        if self.name == SYSTEM_POOL:
            raise ValueError(f"pool {self.name!r}: accepted: another name; this one is of the nodes without GPUs")
        if self.accelerator not in ACCELERATORS:
            self._refuse("accelerator", self.accelerator, ", ".join(ACCELERATORS))
        self._check_counts()
        self._check_slices()
        if self.topology and self.nodes is None:
            self._refuse("topology", self.topology, "none where the pool grows from min_nodes to max_nodes")
        machines(self)
        self._check_levels()
        if self.hourly_cost is not None and self.hourly_cost < 0:
            self._refuse("hourly_cost", self.hourly_cost, "0 or more")

    def _check_counts(self) -> None:
        if self.nodes is not None and (self.min_nodes is not None or self.max_nodes is not None):
            self._refuse("nodes", self.nodes, "either nodes, or min_nodes and max_nodes")
        if self.nodes is None and (self.min_nodes is None or self.max_nodes is None):
            self._refuse("nodes", self.nodes, "a count, or both min_nodes and max_nodes")
        for field in ("nodes", "min_nodes", "max_nodes"):
            value = getattr(self, field)
            if value is not None and not 0 <= value <= 5000:
                self._refuse(field, value, "0 to 5000")
        if self.maximum < self.minimum:
            self._refuse("max_nodes", self.max_nodes, f"min_nodes={self.min_nodes} or more")
        for field, low, high in (
            ("gpus_per_node", 1, 16),
            ("time_slices", 1, 48),
            ("cpu", 1, 1024),
            ("memory_gib", 1, 24576),
        ):
            if not low <= getattr(self, field) <= high:
                self._refuse(field, getattr(self, field), f"{low} to {high}")

    def _check_slices(self) -> None:
        device = ACCELERATORS[self.accelerator]
        profiles = ", ".join(device.mig) or f"none: {self.accelerator} has no MIG"
        if self.mig_profile is not None and self.mig:
            self._refuse("mig_profile", self.mig_profile, "none where mig is set (cut all devices by one of the two)")
        if self.mig_profile is not None and self.mig_profile not in device.mig:
            self._refuse("mig_profile", self.mig_profile, profiles)
        for profile, count in self.mig.items():
            if profile not in device.mig:
                self._refuse(f"mig[{profile!r}]", count, profiles)
            if count < 1:
                self._refuse(f"mig[{profile!r}]", count, f"1 to {device.mig[profile].most}")
        if not device.fits(self.mig):
            near = " or ".join(map(str, device.near(self.mig)[:3]))
            self._refuse("mig", dict(self.mig), f"a mix that a device holds, such as {near}")
        if self.cuts and self.time_slices > 1:
            field = "mig" if self.mig else "mig_profile"
            self._refuse("time_slices", self.time_slices, f"1 where {field} is set (share by one of the two)")

    def _check_levels(self) -> None:
        if len(set(self.topology)) < len(self.topology) or HOST in self.topology[:-1]:
            self._refuse("topology", self.topology, f"each label once, and {HOST} as the last")
        if self.domains and len(self.domains) != len(self.wider_levels):
            accepted = f"a number for each of {', '.join(self.wider_levels)}" if self.wider_levels else "none"
            self._refuse("domains", self.domains, accepted)
        if any(nodes < 1 for nodes in self.domains) or any(
            wide % narrow for wide, narrow in itertools.pairwise(self.domains)
        ):
            self._refuse("domains", self.domains, "1 or more, each a multiple of the next")

    def _refuse(self, field: str, value: object, accepted: str) -> None:
        raise ValueError(f"pool {self.name!r}: {field}={value!r}; accepted: {accepted}")

    def standing_in(self) -> "GpuPool":
        """The same on a cluster of this machine, whose nodes are simulated."""
        return dc.replace(self, source=Simulated())

    @property
    def minimum(self) -> int:
        """Nodes that the pool always has."""
        return self.nodes if self.nodes is not None else self.min_nodes or 0

    @property
    def maximum(self) -> int:
        """Nodes that the pool has at its largest."""
        return self.nodes if self.nodes is not None else self.max_nodes or 0

    @property
    def cuts(self) -> dict[str, int]:
        """How many MIG instances of each profile every device is cut into; none where devices are whole."""
        if self.mig_profile is None:
            return dict(self.mig)
        return {self.mig_profile: ACCELERATORS[self.accelerator].mig[self.mig_profile].most}

    @property
    def wider_levels(self) -> tuple[str, ...]:
        """The levels of `topology` whose domains are of several nodes."""
        return tuple(level for level in self.topology if level != HOST)

    @property
    def shares(self) -> "tuple[Share, ...]":
        """What the nodes offer: one share, or of a mix of MIG profiles one a profile."""
        if not self.cuts:
            units = self.gpus_per_node * self.time_slices
            resource = f"{GPU}.shared" if self.time_slices > 1 else GPU
            return (Share(pool=self, name=self.name, resource=resource, units_per_node=units, part=Fraction(1, units)),)
        of = ACCELERATORS[self.accelerator].mig
        compute = self.gpus_per_node * sum(of[profile].compute * count for profile, count in self.cuts.items())
        return tuple(
            Share(
                pool=self,
                name=self.name if len(self.cuts) == 1 else f"{self.name}/{profile}",
                resource=_mig_resource(profile),
                units_per_node=self.gpus_per_node * count,
                part=Fraction(of[profile].compute, compute),
            )
            for profile, count in self.cuts.items()
        )


@dc.dataclass(frozen=True, kw_only=True)
class Share:
    """What a pool's nodes offer as one extended resource: devices, time slices, or MIG instances of one profile.

    name: what teams and models call it: the pool's name; in a pool that offers several, POOL/PROFILE.
    resource: what a pod asks for to get of it. units_per_node: how much of that a node has.
    part: of a node's cores and memory, what belongs to a unit. MIG instances have theirs by their compute slices.
    """

    pool: GpuPool
    name: str
    resource: str
    units_per_node: int
    part: Fraction

    @property
    def units(self) -> int:
        """How much of `resource` the pool has at its largest."""
        return self.units_per_node * self.pool.maximum


def shares(pools: Iterable[GpuPool]) -> dict[str, Share]:
    """What the pools offer, by name."""
    return {share.name: share for pool in pools for share in pool.shares}


def _mig_resource(profile: str) -> str:
    """The device plugin's name (0.20) for instances of a profile, which also its labels begin with."""
    return f"nvidia.com/mig-{profile.replace('+', '.')}"


def node_labels(pool: GpuPool) -> dict[str, str]:
    """The labels that every node of the pool carries: GPU feature discovery's, and the pool's name.

    GPU feature discovery 0.20, internal/lm: time slices under a name of their own leave the product's name as it is;
    of a device that is cut no replicas are counted, and each profile has labels of its own. What depends on the driver
    (versions, an instance's memory and engines) is left out.
    """
    accelerator = ACCELERATORS[pool.accelerator]
    own = {
        POOL: pool.name,
        "nvidia.com/gpu.product": pool.accelerator,
        "nvidia.com/gpu.family": accelerator.family,
        "nvidia.com/gpu.memory": str(accelerator.memory_mib),
        "nvidia.com/gpu.count": str(pool.gpus_per_node),
        "nvidia.com/gpu.replicas": "0" if pool.cuts else str(pool.time_slices),
        "nvidia.com/gpu.sharing-strategy": "time-slicing" if pool.time_slices > 1 else "none",
        "nvidia.com/gpu.present": "true",
        "nvidia.com/mig.capable": str(bool(accelerator.mig)).lower(),
        "nvidia.com/mps.capable": "false",
        "nvidia.com/device-plugin.config": pool.name,
    }
    if pool.cuts:
        own |= {"nvidia.com/mig.strategy": "mixed", "nvidia.com/mig.config": pool.name}
    for profile, count in pool.cuts.items():
        own |= _mig_labels(pool, profile, count)
    return dict(pool.labels) | own | {CAPACITY: "spot" if pool.spot else "on-demand"}


def _mig_labels(pool: GpuPool, profile: str, count: int) -> dict[str, str]:
    slices = str(ACCELERATORS[pool.accelerator].mig[profile].compute)
    values = {
        "product": f"{pool.accelerator}-MIG-{profile.replace('+', '.')}",
        "count": str(pool.gpus_per_node * count),
        "replicas": "1",
        "sharing-strategy": "none",
        "slices.gi": slices,
        "slices.ci": slices,
    }
    return {f"{_mig_resource(profile)}.{label}": value for label, value in values.items()}


def node_taints(pool: GpuPool) -> tuple[Taint, ...]:
    """The taints of every node of the pool: only pods that want GPUs, and of spot pools those that bear a loss."""
    spot = (Taint(key="kiban.dev/spot", value="true"),) if pool.spot else ()
    return (Taint(key=GPU, value="present"), *spot, *pool.taints)


def given_labels(pool: GpuPool) -> dict[str, str]:
    """Those of the labels that a node comes with; GPU feature discovery and the operator write the others."""
    own = {*pool.labels, *_CONFIGURED}
    return {key: value for key, value in node_labels(pool).items() if key in own or not key.startswith("nvidia.com/")}


def machines(pool: GpuPool) -> Machines:
    """The pool as its source sees it. Raises ValueError where the source cannot be true to it."""
    offered = {share.resource: share.units_per_node for share in pool.shares}
    whole = {} if GPU in offered else {GPU: 0}
    return Machines(
        pool=pool.name,
        source=pool.source,
        least=pool.minimum,
        most=pool.maximum,
        spot=pool.spot,
        labels=node_labels(pool),
        given=given_labels(pool),
        taints=tuple(written(taint) for taint in node_taints(pool)),
        devices=whole | offered,
        cpu=pool.cpu,
        memory_gib=pool.memory_gib,
    )


def written(taint: Taint) -> dict[str, str]:
    """The taint as core/v1 writes it, without what is empty."""
    return {field: value for field, value in dc.asdict(taint).items() if value}
