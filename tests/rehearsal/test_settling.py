"""Waiting for a decision on each of several objects."""

from collections.abc import Callable, Iterator

import pytest

from infra.rehearsal import settling
from infra.rehearsal.settling import settle


def reading(*states: list[str]) -> Callable[[], list[str]]:
    """Return a reader of one state after the other, the last one for ever."""
    following: Iterator[list[str]] = iter(states)
    last: list[list[str]] = []

    def read() -> list[str]:
        last[:] = [next(following, last[0] if last else [])]
        return last[0]

    return read


def settled(*states: list[str], seconds: float = 10) -> list[str]:
    """Return what is read last."""
    return settle(reading(*states), done="done".__eq__, refused="refused".__eq__, seconds=seconds)


def test_it_ends_once_all_is_done_and_a_refusal_may_be_taken_back() -> None:
    """The scheduler tries again once the others are there."""
    assert settled(["waits", "waits"], ["done", "refused"], ["done", "done"]) == ["done", "done"]


def test_a_refusal_that_stands_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing else is open."""
    monkeypatch.setattr(settling, "_STANDS", 0)
    assert settled(["waits", "refused"], ["done", "refused"]) == ["done", "refused"]


def test_at_the_end_of_its_time_it_returns_what_is_open() -> None:
    """Whoever reads it sees that nothing was decided."""
    assert settled(["waits"], seconds=0) == ["waits"]


def test_its_time_begins_again_whenever_one_more_is_done() -> None:
    """A thousand may take longer than the time in which each ought to have come."""
    many = [["done"] * done + ["waits"] * (6 - done) for done in range(7)]
    assert settled(*many, seconds=0.25) == ["done"] * 6
