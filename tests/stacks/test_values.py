"""The names of an environment's values are a contract: what a file of a user's says is understood, or answered."""

import dataclasses as dc
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pytest

import stacks
from stacks import _schema
from stacks._schema import Environment

PINNED = Path(__file__).with_name("values.txt")


def classes(root: type) -> Iterator[type]:
    """Return the classes of which an environment's values are made."""
    found, left = {root: None}, [root]
    while left:
        for hint in get_type_hints(left.pop()).values():
            for each in parts(hint):
                if dc.is_dataclass(each) and each not in found:
                    found[each] = None
                    left.append(each)
    yield from found


def parts(hint: object) -> Iterator[type]:
    """Return the classes in a type hint."""
    inner = getattr(hint, "__args__", ())
    if isinstance(hint, type) and not inner:
        yield hint
    for each in inner:
        yield from parts(each)


def fields() -> set[str]:
    """Return every value that there is, as `Class.field`."""
    return {f"{each.__name__}.{field.name}" for each in classes(Environment) for field in dc.fields(each)}


def test_no_value_is_taken_away_without_an_answer() -> None:
    """One that is gone says what to write instead. To add one: add it to values.txt, for good."""
    pinned = set(PINNED.read_text().split())
    assert pinned - fields() <= _schema.RENAMED.keys(), (
        "renamed or removed: say in stacks/_schema.py RENAMED what to write"
    )
    assert fields() <= pinned, f"new: add to {PINNED.name}: {sorted(fields() - pinned)}"


def test_a_value_that_was_renamed_is_answered_with_the_new_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the file, the old name, and what to write."""
    (tmp_path / "old.py").write_text("from stacks._schema import SystemNodes\nenvironment = SystemNodes(number=3)\n")
    monkeypatch.setattr(stacks, "__path__", [*stacks.__path__, str(tmp_path)])
    monkeypatch.setattr(stacks, "names", lambda: ("old",))
    with pytest.raises(ValueError, match="unexpected keyword argument 'number'"):
        stacks.load("old")
    monkeypatch.setitem(_schema.RENAMED, "SystemNodes.number", "SystemNodes.count")
    with pytest.raises(ValueError, match=r"stacks/old.py: SystemNodes.number is no more; accepted: SystemNodes.count"):
        stacks.load("old")
