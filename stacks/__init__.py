"""Environments: values only, one file an environment. `load` finds one by name; what happens to it is not said here."""

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stacks._schema import Environment

_UNKNOWN = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")


def names() -> tuple[str, ...]:
    """Every environment there is, by the names of the files."""
    return tuple(sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py")))


def load(name: str) -> "Environment":
    """Return the environment of that name.

    Raises ValueError for a name that no file has, for a file whose environment has another name, and for a value
    that the schema refuses.
    """
    if name not in names():
        raise ValueError(f"environment {name!r}; accepted: {', '.join(names())}")
    from stacks._schema import RENAMED, Environment  # noqa: PLC0415 - half a second that who asks for names need not wait

    try:
        environment = importlib.import_module(f"stacks.{name}").environment
    except (AttributeError, ImportError, NameError, SyntaxError, TypeError, ValueError) as error:
        raise ValueError(f"stacks/{name}.py: {_said(error, RENAMED)}") from error
    if not isinstance(environment, Environment) or environment.name != name:
        raise ValueError(
            f"stacks/{name}.py: environment={environment!r}; accepted: an Environment of the name {name!r}"
        )
    return environment


def _said(error: Exception, renamed: Mapping[str, str]) -> str:
    """The error; of a field that there is no more, what to write instead."""
    unknown = _UNKNOWN.fullmatch(str(error))
    field = f"{unknown[1]}.{unknown[2]}" if unknown else ""
    return f"{field} is no more; accepted: {renamed[field]}" if field in renamed else str(error)
