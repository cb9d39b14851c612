"""Environments: values only, one file an environment. `load` finds one by name; what happens to it is not said here."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stacks._schema import Environment


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
    from stacks._schema import Environment  # noqa: PLC0415 - half a second that who asks for names need not wait

    try:
        environment = importlib.import_module(f"stacks.{name}").environment
    except (AttributeError, ImportError, NameError, SyntaxError, TypeError, ValueError) as error:
        raise ValueError(f"stacks/{name}.py: {error}") from error
    if not isinstance(environment, Environment) or environment.name != name:
        raise ValueError(
            f"stacks/{name}.py: environment={environment!r}; accepted: an Environment of the name {name!r}"
        )
    return environment
