"""Whom Kueue ends for a workload, case by case of its classical preemption."""

from fractions import Fraction

import pytest

from infra.capacity.preemption import victims
from infra.capacity.usage import Held, Queue, Usage

GPU, CPU = ("big", "nvidia.com/gpu"), ("big", "cpu")
OWN = {GPU: Fraction(8), CPU: Fraction(8)}


def queue(reclaim: str = "Any", within: str = "LowerPriority") -> Queue:
    """Return a queue that is promised eight GPUs and eight cores, and may borrow what is idle."""
    return Queue(own=OWN, limits={}, flavors=("big",), reclaim=reclaim, within=within)


def held(name: str, of: str, gpus: int, *, cpus: int = 0, priority: int = 0, since: int = 0) -> Held:
    """Return a workload of a queue."""
    holds = {GPU: Fraction(gpus), CPU: Fraction(cpus)}
    return Held(name=name, queue=of, priority=priority, since=f"{since:02}", holds=holds)


def ended(*workloads: Held, gpus: int, cpus: int = 0, priority: int = 10, queues: int = 2) -> list[str]:
    """Return the names of those that a workload of the queue `ours` ends; the others are `theirs` and `third`."""
    names = ("ours", "theirs", "third")[:queues]
    usage = Usage(queues={name: queue() for name in names}, shared={}, held=workloads)
    asked = {GPU: Fraction(gpus), CPU: Fraction(cpus)}
    return [each.name for each in victims(usage, "ours", asked, priority)]


def test_others_go_before_its_own() -> None:
    """Also where those are as little urgent, while the others have more than their own."""
    assert ended(held("mine", "ours", 4), held("lent", "theirs", 12), gpus=4) == ["lent"]


def test_who_has_no_more_than_its_own_keeps_it() -> None:
    """However little urgent it is."""
    modest, greedy = held("modest", "theirs", 8), held("greedy", "third", 16, priority=5)
    assert ended(modest, greedy, gpus=8, queues=3) == ["greedy"]


def test_a_queue_that_has_its_own_ends_only_its_own() -> None:
    """Of one resource that lacks it has all that it was promised, so nobody else pays for the other one."""
    mine, lent = held("mine", "ours", 8), held("lent", "theirs", 8, cpus=16)
    assert ended(mine, lent, gpus=4, cpus=4) == []
    assert ended(held("mine", "ours", 7), lent, gpus=1, cpus=4) == ["lent"]


def test_a_queue_that_borrows_goes_on_borrowing_in_place_of_its_own() -> None:
    """A more urgent workload takes the room of a less urgent one, though the queue has more than its own."""
    mine, urgent = held("mine", "ours", 8), held("urgent", "ours", 8, priority=10)
    assert ended(mine, urgent, gpus=8) == ["mine"]


@pytest.mark.parametrize(
    ("sizes", "names"),
    [
        ({"small": 2, "large": 14}, ["large"]),
        ({"a": 3, "b": 3, "c": 10}, ["c"]),
        ({"a": 3, "b": 3, "c": 6, "d": 4}, ["a", "c"]),
    ],
)
def test_who_need_not_end_is_spared(sizes: dict[str, int], names: list[str]) -> None:
    """From the last that was picked to the first: of two that would do, the one that was picked later."""
    theirs = [
        held(name, "theirs", gpus, priority=number, since=number) for number, (name, gpus) in enumerate(sizes.items())
    ]
    assert ended(*theirs, gpus=8) == names
