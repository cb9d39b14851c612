"""What workloads ask for, and which nodes hold it: judged from data, where a queue admits by what a pool has together.

Kueue (0.19) compares a workload with the sum of a flavor's nodes, and a pod's node selector with the flavor's labels
alone (pkg/scheduler/flavorassigner); a node decides by what it has itself.
"""

import dataclasses as dc
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction

from components._labels import CAPACITY, POOL
from components._pools import GPU, SYSTEM_POOL, GpuPool, Taint, node_labels, node_taints
from components.gpu_node_pools import flavor_labels

Amounts = Mapping[str, int]
"""Resource to how much: `cpu` in thousandths of a core, `memory` in MiB, devices one by one."""
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_CPU = re.compile(r"[1-9]\d*m?")
_MEMORY = re.compile(r"[1-9]\d*(Mi|Gi)")


@dc.dataclass(frozen=True, kw_only=True)
class JobShape:
    """A workload's size: so many pods that have to run at once, each as large as the others.

    pods: 1 to 100,000. cpu, memory: what a pod requests, such as 2 or 500m, and 512Mi or 16Gi.
    gpus: how much a pod requests of a pool's resource.
    pool: whose, as `Team.gpus` names it. None: any that offers `resource`; where gpus is 0, the nodes without GPUs.
    resource: of any pool, by default nvidia.com/gpu; with `pool` it is that pool's.
    topology: the node label of the domain that is to hold all pods, one of the pool's; None: they may be anywhere.
    Raises ValueError naming the field, the value and what is accepted.
    """

    name: str
    pods: int = 1
    cpu: str = "1"
    memory: str = "1Gi"
    gpus: int = 0
    pool: str | None = None
    resource: str | None = None
    topology: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"job {self.name!r}: accepted: a name of lower-case letters, digits and '-', at most 40")
        for field, pattern, accepted in (
            ("cpu", _CPU, "cores or thousandths of one, such as 2 or 500m"),
            ("memory", _MEMORY, "Mi or Gi, such as 512Mi"),
        ):
            if not pattern.fullmatch(getattr(self, field)):
                raise ValueError(f"job {self.name!r}: {field}={getattr(self, field)!r}; accepted: {accepted}")
        for field, low in (("pods", 1), ("gpus", 0)):
            if not low <= getattr(self, field) <= 100_000:
                raise ValueError(f"job {self.name!r}: {field}={getattr(self, field)!r}; accepted: {low} to 100000")
        if self.pool and self.resource:
            raise ValueError(f"job {self.name!r}: resource={self.resource!r}; accepted: none where pool is given")

    def asks(self, device: str) -> dict[str, int]:
        """What a pod requests, where its devices are this resource."""
        number, unit = self.memory[:-2], self.memory[-2:]
        cores = int(self.cpu[:-1]) if self.cpu.endswith("m") else int(self.cpu) * 1000
        plain = {"cpu": cores, "memory": int(number) * (1024 if unit == "Gi" else 1)}
        return plain | ({device: self.gpus} if self.gpus else {})


@dc.dataclass(frozen=True, kw_only=True)
class Place:
    """The nodes of one flavor, and what of them one team can have.

    name: the pool's. nodes: how many it has at its largest.
    node: what pods can have on one node. most: what the team can have of all nodes together.
    offers: the name under which a team's data has a part of the pool, to its resource.
    levels: of its topology, to how many nodes a domain has.
    labels: those of the flavor, which Kueue compares. known: labels of its nodes that the data tell.
    taints: those that a workload has to tolerate.
    """

    name: str
    nodes: int
    node: Amounts
    most: Amounts
    offers: Mapping[str, str] = dc.field(default_factory=dict)
    levels: Mapping[str, int] = dc.field(default_factory=dict)
    labels: Mapping[str, str] = dc.field(default_factory=dict)
    known: Mapping[str, str] = dc.field(default_factory=dict)
    taints: tuple[Taint, ...] = ()

    def holds(self, asks: Amounts, pods: int) -> bool:
        """Whether the nodes, all empty, hold so many pods at once."""
        wanted = {resource: amount for resource, amount in asks.items() if amount}
        return all(pods <= self.nodes * (self.node.get(each, 0) // amount) for each, amount in wanted.items())

    def allows(self, asks: Amounts, pods: int) -> bool:
        """Whether the team can have as much there: else Kueue never admits it, and says so."""
        return all(pods * amount <= self.most.get(each, 0) for each, amount in asks.items())


def system(nodes: int, cpu: int, memory: int) -> Place:
    """The nodes without GPUs. cpu, memory: what Jobs may have of all of them together.

    Of each node an equal part: however the platform's own pods lie, one node has that much left for a pod.
    """
    return Place(
        name=SYSTEM_POOL,
        nodes=nodes,
        node={"cpu": cpu // nodes, "memory": memory // nodes},
        most={"cpu": cpu, "memory": memory},
        labels={POOL: SYSTEM_POOL},
        known={POOL: SYSTEM_POOL},
    )


def place(pool: GpuPool, had: Amounts, *, cpu: int, memory: int) -> Place:
    """A pool's nodes. had: what the team can have, by the name that its data has for it. cpu, memory: of all nodes."""
    plain = {"cpu": pool.cpu * 1000, "memory": pool.memory_gib * 1024}
    labels, given = flavor_labels(pool), node_labels(pool)
    domains = (*(pool.domains or (pool.maximum,) * len(pool.wider_levels)), 1)
    return Place(
        name=pool.name,
        nodes=pool.maximum,
        node=plain | {share.resource: share.units_per_node for share in pool.shares},
        most={"cpu": cpu, "memory": memory} | {share.resource: had.get(share.name, 0) for share in pool.shares},
        offers={share.name: share.resource for share in pool.shares if had.get(share.name)},
        levels=dict(zip(pool.topology, domains, strict=False)),
        labels=labels,
        known={key: given[key] for key in (*labels, *pool.labels, CAPACITY)},
        taints=tuple(taint for taint in node_taints(pool) if taint not in pool.taints),
    )


def check(shape: JobShape, places: Sequence[Place], *, who: str) -> None:
    """Raise ValueError for a shape that no place ever holds, or that a queue may send to one that does not.

    places: those of a team that it has a part of. who: whose shape it is, the beginning of the message.
    """
    wanted = candidates(shape, places)
    if not wanted:
        raise ValueError(f"{who}: {_mismatch(shape, places)}")
    holding = [each for each in wanted if fits(shape, each)]
    if not holding:
        least, there = min(((nearest(shape, each), each) for each in wanted), key=lambda one: _loss(shape, one[0]))
        changed = [
            field for field in ("pods", "gpus", "cpu", "memory") if getattr(least, field) != getattr(shape, field)
        ]
        asked, accepted = (", ".join(f"{field}={getattr(of, field)}" for field in changed) for of in (shape, least))
        had = " and ".join(f"{there.most[each]} {each}" for each in there.offers.values())
        raise ValueError(
            f"{who}: {asked}; accepted: up to {accepted}, the most that {described(there)} hold of it"
            f"{f' where the team has {had} at most' if had else ''}"
        )
    losing = [each.name for each in wanted if each not in holding and each.allows(asks(shape, each), shape.pods)]
    if losing:
        raise ValueError(
            f"{who}: pool=None, and Kueue may choose {losing[0]!r}, whose nodes do not hold it; "
            f"accepted: pool={' or '.join(repr(name) for each in holding for name in each.offers)}"
        )


def candidates(shape: JobShape, places: Sequence[Place]) -> list[Place]:
    """The places that the shape is for: the named one, or all that offer its resource to whoever asks.

    Who names a pool is taken to tolerate its taints and to write its topology's annotation; else that a pod wants GPUs
    is all that it tolerates.
    """
    if shape.pool is not None:
        found = [each for each in places if shape.pool in each.offers]
    else:
        tolerated = {GPU} if shape.gpus else set()
        found = [each for each in places if {taint.key for taint in each.taints} <= tolerated]
        found = [each for each in found if bool(each.levels) == bool(shape.topology)]
    if shape.topology is not None:
        found = [each for each in found if shape.topology in each.levels]
    return [each for each in found if not shape.gpus or each.most.get(_device(shape, each), 0)]


def fits(shape: JobShape, there: Place) -> bool:
    """Whether the place could ever hold the shape for the team."""
    asked = asks(shape, there)
    close = dc.replace(there, nodes=_nodes(shape, there))
    return close.holds(asked, shape.pods) and there.allows(asked, shape.pods)


def nearest(shape: JobShape, there: Place) -> JobShape:
    """The largest shape that is in nothing larger and that the place holds."""
    asked = asks(shape, there)
    each = {name: min(amount, there.node[name], there.most[name]) for name, amount in asked.items()}
    nodes = _nodes(shape, there)
    most = min(min(nodes * (there.node[name] // one), there.most[name] // one) for name, one in each.items())
    cpu = f"{each['cpu']}m" if each["cpu"] % 1000 else str(each["cpu"] // 1000)
    memory = f"{each['memory']}Mi" if each["memory"] % 1024 else f"{each['memory'] // 1024}Gi"
    return dc.replace(
        shape,
        pods=min(shape.pods, most),
        gpus=each.get(_device(shape, there), 0),
        cpu=shape.cpu if each["cpu"] == asked["cpu"] else cpu,
        memory=shape.memory if each["memory"] == asked["memory"] else memory,
    )


def described(there: Place) -> str:
    """A place in words: its nodes, and what pods can have on one."""
    devices = [f"{amount} {name}" for name, amount in there.node.items() if name not in ("cpu", "memory")]
    one = [*devices, f"{there.node['cpu'] / 1000:g} cores", f"{there.node['memory'] / 1024:g}Gi"]
    return f"the {there.nodes} nodes of pool {there.name!r} ({', '.join(one)} each)"


def asks(shape: JobShape, there: Place) -> dict[str, int]:
    """What each of its pods requests, by the place's resources."""
    return shape.asks(_device(shape, there))


def _nodes(shape: JobShape, there: Place) -> int:
    """How many nodes may have its pods: all, or those of one domain."""
    return min(there.nodes, there.levels[shape.topology]) if shape.topology else there.nodes


def _device(shape: JobShape, there: Place) -> str:
    return there.offers[shape.pool] if shape.pool else shape.resource or GPU


def _loss(shape: JobShape, least: JobShape) -> Fraction:
    """How much of the shape is lost: 0 nothing, 1 all."""
    kept = Fraction(least.pods, shape.pods) * Fraction(least.gpus or 1, shape.gpus or 1)
    was, now = shape.asks(GPU), least.asks(GPU)
    for name in ("cpu", "memory"):
        kept *= Fraction(now[name], was[name])
    return 1 - kept


def _mismatch(shape: JobShape, places: Sequence[Place]) -> str:
    """Why no place is for the shape."""
    offers = {name: each for each in places for name in each.offers}
    if shape.pool is not None and shape.pool not in offers:
        accepted = ", ".join(map(repr, offers)) or "none"
        return f"pool={shape.pool!r}; accepted: {accepted} (those that the team has a part of)"
    meant = [offers[shape.pool]] if shape.pool else places
    if shape.topology is not None and not any(shape.topology in each.levels for each in meant):
        levels = dict.fromkeys(level for each in meant for level in each.levels)
        return f"topology={shape.topology!r}; accepted: {', '.join(map(repr, levels)) or 'none, no pool has one'}"
    asked = offers[shape.pool].offers[shape.pool] if shape.pool else shape.resource or GPU
    had = [f"pool={name!r} ({each.offers[name]})" for name, each in offers.items()]
    return f"gpus={shape.gpus} of {asked}; accepted: gpus=0{''.join(f', or {each}' for each in had)}"
