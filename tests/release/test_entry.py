"""What an entry can say, and what none can."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from infra.release.entry import Begun, Check, Ended, Verdict, parse
from tests.release.place import ONE, STORY, TWO, begun, placed

GATE = Verdict(gate="freeze", outcome="bypassed", says="frozen", ground={"why": "weekend"}, reason="it burns")


@pytest.mark.parametrize("entry", placed(*STORY), ids=lambda entry: f"{entry.number} {entry.kind}")
def test_what_is_written_is_read_again(entry: Any) -> None:  # noqa: ANN401
    """Every kind of it."""
    assert parse(entry.document()) == entry


def test_gates_and_checks_are_kept_whole() -> None:
    """A bypass has its reason; a check its evidence."""
    check = Check(check="health", outcome="passed", evidence="executed", says="all 12 components")
    whats = (begun(ONE, gates=(GATE,)), Ended(begun=1, outcome="verified", checks=(check,), runs=ONE))
    for entry in placed(*whats):
        assert parse(entry.document()).what in whats
    document = placed(whats[0])[0].document()
    assert document["gates"][0] == {
        "gate": "freeze",
        "outcome": "bypassed",
        "evidence": "frozen",
        "ground": {"why": "weekend"},
        "reason": "it burns",
    }
    assert document["from"] is None


def begins(**changed: object) -> dict[str, Any]:
    """The document of a promotion with other fields."""
    return placed(begun(ONE, TWO, gates=(GATE,)))[0].document() | changed


def without(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A document without a field."""
    return {key: value for key, value in document.items() if key != name}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (begins(schema="kiban/record/v2"), "schema='kiban/record/v2'; accepted: kiban/record/v1"),
        (begins(number=0), "number=0"),
        (begins(number=True), "number=True"),
        (begins(number="1"), "number='1'"),
        (begins(previous="c"), "previous='c'; accepted: SHA-256"),
        (begins(at="2026-03-02 09:00"), "at='2026-03-02 09:00'; accepted: RFC 3339 in UTC"),
        (begins(at="2026-03-02T09:00:00+01:00"), "accepted: RFC 3339 in UTC"),
        (begins(by={"name": "Ada", "email": "", "host": "desk"}), "by.email=''"),
        (begins(by={"name": "Ada"}), "email"),
        (begins(by="Ada"), "mapping"),
        (begins(kind="undone"), "kind='undone'; accepted: begun, ended, hold, lift"),
        (begins(verb="copy"), "verb='copy'; accepted: promote, rollback"),
        (begins(release={"id": "r1", "digest": "1" * 64}), "release.id='r1'"),
        (begins(release={"id": TWO.id, "digest": ONE.digest}), f"release.id='{TWO.id}'"),
        (begins(release=None), "mapping"),
        (begins(plan=None), "plan=None"),
        (begins(because=1), "because=1; accepted: for a rollback"),
        (begins(verb="rollback"), "because=None"),
        (begins(gates=[{"gate": "freeze"}]), "outcome is missing"),
        (begins(gates=[GATE.document() | {"outcome": "passed"}]), "freeze.reason='it burns'"),
        (begins(gates=[without(GATE.document(), "reason")]), "freeze.reason=None"),
        (begins(gates=[GATE.document() | {"more": 1}]), "a part of it"),
        (begins(gates="none"), "string indices"),
        (begins(colour="red"), "colour; accepted: the fields of 'begun'"),
        (without(begins(), "ladder"), "ladder is missing"),
        (without(begins(), "environment"), "environment is missing"),
    ],
)
def test_what_no_entry_can_say_is_refused(document: dict[str, Any], said: str) -> None:
    """With the field."""
    with pytest.raises(ValueError, match=r".") as refused:
        parse(document)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Begun(verb="rollback", release=ONE, base=None, gates=(), plan="c" * 64, ladder="c" * 64),
        lambda: Verdict(gate="hold", outcome="bypassed", says="held", reason=" "),
        lambda: Ended(begun=0, outcome="verified", checks=(), runs=None),
    ],
    ids=("a rollback of nothing", "a bypass without a reason", "the end of nothing"),
)
def test_code_cannot_make_one_either(make: Callable[[], object]) -> None:
    """Before it is written."""
    with pytest.raises(ValueError, match="accepted"):
        make()
