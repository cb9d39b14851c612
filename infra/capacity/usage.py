"""Queues, what they are promised and may borrow, and who holds what of it."""

import dataclasses as dc
import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction

Key = tuple[str, str]
"""A flavor and a resource."""
Sums = Mapping[Key, Fraction]
"""How much: thousandths of a core, MiB, devices."""
NONE = Fraction(0)


@dc.dataclass(frozen=True, kw_only=True)
class Queue:
    """A ClusterQueue. own: what it is promised. limits: how much more it may borrow, where that is bounded.

    flavors: in the order in which Kueue tries them. reclaim, within: whose workloads one of its own may end.
    """

    own: Sums
    limits: Sums
    flavors: tuple[str, ...]
    reclaim: str
    within: str


@dc.dataclass(frozen=True, kw_only=True)
class Held:
    """A workload that has quota: whose, how much of what, since when."""

    name: str
    queue: str
    priority: int
    since: str
    holds: Sums


@dc.dataclass(frozen=True, kw_only=True)
class Usage:
    """Queues by name, what no queue is promised, and who holds what.

    waiting: queue to the priorities of its workloads that have no quota yet.
    free: pool to what each of its nodes has left for pods. evidence: `simulated` where any node is; None: what the data
        say, of no cluster.
    """

    queues: Mapping[str, Queue]
    shared: Sums
    held: tuple[Held, ...] = ()
    waiting: Mapping[str, Sequence[int]] = dc.field(default_factory=dict)
    free: Mapping[str, Sequence[Mapping[str, Fraction]]] = dc.field(default_factory=dict)
    evidence: str | None = None

    @functools.cached_property
    def _sums(self) -> dict[tuple[str | None, Key], Fraction]:
        total: dict[tuple[str | None, Key], Fraction] = defaultdict(Fraction)
        for one in self.held:
            for key, value in one.holds.items():
                total[one.queue, key] += value
                total[None, key] += value
        return dict(total)

    def used(self, key: Key, queue: str | None = None) -> Fraction:
        """What the workloads of a queue, or of all, hold."""
        return self._sums.get((queue, key), NONE)

    def borrowed(self, key: Key, queue: str) -> Fraction:
        """What the queue's workloads hold beyond its own."""
        return max(NONE, self.used(key, queue) - self.queues[queue].own.get(key, NONE))

    def available(self, key: Key, queue: str) -> Fraction:
        """What a workload of the queue could have at once."""
        whole = sum((each.own.get(key, NONE) for each in self.queues.values()), self.shared.get(key, NONE))
        of = self.queues[queue]
        left = whole - self.used(key)
        if key in of.limits:
            left = min(left, of.own.get(key, NONE) + of.limits[key] - self.used(key, queue))
        return left

    def without(self, ended: Sequence[Held]) -> "Usage":
        """The same once those workloads have ended."""
        return dc.replace(self, held=tuple(each for each in self.held if each not in ended))
