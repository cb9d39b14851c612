"""Whom Kueue lets in at once, and whom it ends for it: flavorassigner and classical preemption of its 0.19."""

from collections.abc import Sequence
from fractions import Fraction

from infra.capacity.usage import NONE, Held, Key, Sums, Usage


def lacking(usage: Usage, queue: str, asked: Sums) -> dict[Key, Fraction]:
    """What of the asked-for a workload of the queue could not have at once, and how much of it is missing."""
    missing = {key: value - usage.available(key, queue) for key, value in asked.items()}
    return {key: value for key, value in missing.items() if value > 0}


def victims(usage: Usage, queue: str, asked: Sums, priority: int) -> list[Held]:
    """The workloads that Kueue would end for it, by the queue's policies: none where it would wait instead.

    Those of others first, and only while these have more than their own and the queue then has no more than its own;
    of those the ones of the lowest priority, and the latest admitted. Without Kueue's own last resort, the UID.
    """
    need = lacking(usage, queue, asked)
    of = usage.queues[queue]
    if any(asked[key] > of.own.get(key, NONE) for key in need):
        return []
    under = all(usage.used(key, queue) < of.own.get(key, NONE) for key in need)
    using = [each for each in usage.held if any(each.holds.get(key) for key in need)]
    theirs = [each for each in using if each.queue != queue and _may_end(of.reclaim, each, priority)] if under else []
    mine = [each for each in using if each.queue == queue and _may_end(of.within, each, priority)]
    for candidates, borrowing in ((_ordered(theirs) + _ordered(mine), False), (_ordered(mine), True)):
        ended: list[Held] = []
        for each in candidates:
            now = usage.without(ended)
            if each.queue != queue and not any(now.borrowed(key, each.queue) for key in need):
                continue
            ended.append(each)
            if _fits(usage.without(ended), queue, asked, borrowing=borrowing):
                return _fewest(usage, queue, asked, ended, borrowing=borrowing)
    return []


def _fewest(usage: Usage, queue: str, asked: Sums, ended: list[Held], *, borrowing: bool) -> list[Held]:
    """Those without which it still would not fit, asked for from the last to the first."""
    for each in reversed(ended[:-1]):
        fewer = [one for one in ended if one is not each]
        if _fits(usage.without(fewer), queue, asked, borrowing=borrowing):
            ended = fewer
    return ended


def _fits(usage: Usage, queue: str, asked: Sums, *, borrowing: bool) -> bool:
    own = usage.queues[queue].own
    within = all(usage.used(key, queue) + value <= own.get(key, NONE) for key, value in asked.items())
    return (borrowing or within) and not lacking(usage, queue, asked)


def _may_end(policy: str, workload: Held, priority: int) -> bool:
    return policy == "Any" or (policy != "Never" and workload.priority < priority)


def _ordered(workloads: Sequence[Held]) -> list[Held]:
    latest_first = sorted(workloads, key=lambda each: each.since, reverse=True)
    return sorted(latest_first, key=lambda each: each.priority)
