"""What `kiban promote` and `rollback` end with."""

import pytest

from infra.release.promote import Done, Promoter
from tests.release.bundle import kiban
from tests.release.place import ONE


@pytest.mark.parametrize(
    ("verb", "outcome", "status"),
    [
        (("promote", "r1", "dev"), "verified", 0),
        (("promote", "r1", "dev"), "in force", 0),
        (("promote", "r1", "dev"), "rolled-back", 1),
        (("promote", "r1", "dev"), "failed", 1),
        (("rollback", "dev"), "rolled-back", 0),
        (("rollback", "dev"), "failed", 1),
    ],
)
def test_what_was_asked_for_is_status_0(
    monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...], outcome: str, status: int
) -> None:
    """A release that was taken back is a failed promotion, and a rollback that did what it is for."""
    done = Done(outcome=outcome, runs=ONE, checks=())
    monkeypatch.setattr(Promoter, "__init__", lambda *_: None)
    monkeypatch.setattr(Promoter, "promote", lambda *_: (None, done))
    monkeypatch.setattr(Promoter, "roll_back", lambda *_: done)
    ended, document = kiban(*verb, "--yes")
    assert ended == status
    assert document["items"][-1] == {"promotion": outcome, "runs": ONE.id}
