"""Published failures, each as the change to the bundle that brings it about, and changes that harm nothing.

A case is one file of corpus/, a harmless change one of harmless/; what is in them is said at `Case` and `Harmless`.
"""

import dataclasses as dc
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

STEPS = ("upgrade", "second up", "rollback", "destroy")
NEEDS = ("executed", "simulated")
_FOLDER = Path(__file__).parent


@dc.dataclass(frozen=True, kw_only=True)
class Edit:
    """A text that stands exactly once in a file of the bundle, and what takes its place."""

    file: str
    old: str
    new: str


@dc.dataclass(frozen=True, kw_only=True)
class Case:
    """A published failure and who has to catch it.

    thread: where it was published.
    environment: the smallest that has what it needs.
    base, edits: what makes of the bundle as it is the version that is installed first, and the one that replaces it.
    check, step, object, message: which check finds it and after which step; parts of its finding's object and message.
    companions: other checks that may find it too, since what is wrong is theirs as well.
    needs: `executed` where the real controllers or pods of the environment have to run for it to show.
    missed: why no check finds it; empty for a case that is found. Then check and the rest are those that ought to.
    """

    name: str
    title: str
    thread: str
    environment: str
    edits: tuple[Edit, ...]
    check: str
    step: str
    object: str
    message: str
    needs: str
    base: tuple[Edit, ...] = ()
    companions: tuple[str, ...] = ()
    missed: str = ""


@dc.dataclass(frozen=True, kw_only=True)
class Harmless:
    """A change that an environment's upgrade may well consist of, and on which there must be no finding."""

    name: str
    title: str
    environment: str
    edits: tuple[Edit, ...]


def cases() -> tuple[Case, ...]:
    """Every case, by name. Raises ValueError for a file that is none."""
    return tuple(_made(Case, file) for file in _files("corpus"))


def harmless() -> tuple[Harmless, ...]:
    """Every harmless change, by name. Raises ValueError for a file that is none."""
    return tuple(_made(Harmless, file) for file in _files("harmless"))


def apply(edits: Iterable[Edit], root: Path) -> None:
    """Make the edits in a copy of the bundle. Raises ValueError for a text that is not there exactly once."""
    for edit in edits:
        file = root / edit.file
        text = file.read_text()
        if text.count(edit.old) != 1:
            raise ValueError(f"{edit.file}: {edit.old!r} is there {text.count(edit.old)} times; accepted: once")
        file.write_text(text.replace(edit.old, edit.new))


def _files(folder: str) -> list[Path]:
    return sorted((_FOLDER / folder).glob("*.yaml"))


def _made(kind: Any, file: Path) -> Any:  # noqa: ANN401 - one of the two classes, and an instance of it
    given = yaml.safe_load(file.read_text())
    try:
        found = {name: _value(name, value) for name, value in given.items()}
        return kind(name=file.stem, **found)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{file.parent.name}/{file.name}: {error}") from None


def _value(name: str, value: object) -> object:
    if name in {"edits", "base"} and isinstance(value, list):
        return tuple(_edit(each) for each in value)
    if name == "companions" and isinstance(value, list):
        return tuple(value)
    if isinstance(value, str) and value:
        return value
    raise ValueError(f"{name}={value!r}; accepted: a text, or a list for edits, base and companions")


def _edit(given: Mapping[str, str]) -> Edit:
    return Edit(**given)
