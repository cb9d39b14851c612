"""Reads stacks/models.yaml. Every error names the line."""

import dataclasses as dc
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from components.retraining_loop import Watch
from components.serving_stack import Canary, Model, Objective, Replicas

FILE = Path(__file__).with_name("models.yaml")
_T = TypeVar("_T")
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where PyYAML has it: a sixth of the time for two hundred models, which every verb reads."""
_PARTS = {"replicas": Replicas, "canary": Canary, "objective": Objective, "watch": Watch}


def models(environment: str, file: Path = FILE) -> tuple[Model, ...]:
    """The environment's models, in the file's order. Raises ValueError, in one line, for what is none."""
    loader = _Loader(file.read_text())
    try:
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise ValueError(f"stacks/{file.name}: accepted: environment: [models]")  # noqa: TRY004 - as below
        sections = {key: (line, node) for key, line, node in _entries(root, file)}
        if environment not in sections:
            raise ValueError(f"stacks/{file.name}: no {environment!r}; accepted: a list for it, which may be empty")
        line, section = sections[environment]
        if not isinstance(section, yaml.SequenceNode):
            raise ValueError(f"stacks/{file.name}:{line}: {environment}; accepted: a list of models")  # noqa: TRY004
        return tuple(_model(loader, node, file) for node in section.value)
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ValueError(f"stacks/{file.name}:{at}: {error.problem}") from None
    finally:
        loader.dispose()


def _entries(node: yaml.MappingNode, file: Path) -> list[tuple[str, int, yaml.Node]]:
    """Key, line and value of a mapping, each key once."""
    found: list[tuple[str, int, yaml.Node]] = []
    for key, value in node.value:
        line = key.start_mark.line + 1
        if any(key.value == other for other, _, _ in found):
            raise ValueError(f"stacks/{file.name}:{line}: {key.value!r} for the second time; accepted: once")
        found.append((str(key.value), line, value))
    return found


def _model(loader: yaml.SafeLoader, node: yaml.Node, file: Path) -> Model:
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(f"stacks/{file.name}:{line}: accepted: the fields of a model")  # noqa: TRY004
    fields: dict[str, Any] = {}
    for key, at, value in _entries(node, file):
        given = loader.construct_object(value, deep=True)
        try:
            fields[key] = _part(key, given) if key in _PARTS else given
        except ValueError as error:
            raise ValueError(f"stacks/{file.name}:{at}: {error}") from None
    try:
        return _made(Model, fields, "")
    except ValueError as error:
        raise ValueError(f"stacks/{file.name}:{line}: {error}") from None


def _part(name: str, given: object) -> object:
    if not isinstance(given, Mapping):
        raise ValueError(f"{name}={given!r}; accepted: {{field: value, …}}")  # noqa: TRY004 - what the user wrote
    return _made(_PARTS[name], given, f"{name}.")


def _made(type_: type[_T], given: Mapping[str, Any], prefix: str) -> _T:
    """A dataclass of given fields; what is missing or unknown is said in one line."""
    fields = {field.name: field for field in dc.fields(type_)}  # type: ignore[arg-type]
    for name in given:
        if name not in fields:
            raise ValueError(f"{prefix}{name}; accepted: {', '.join(fields)}")
    for name, field in fields.items():
        if name not in given and field.default is dc.MISSING and field.default_factory is dc.MISSING:
            raise ValueError(f"{prefix}{name} is missing; accepted: a value")
    plain = {name: str(value) if name == "version" else _tuple(value) for name, value in given.items()}
    try:
        return type_(**plain)
    except TypeError as error:  # a text where a number is compared, say
        raise ValueError(f"{prefix or 'model '}{error}") from None


def _tuple(value: Any) -> Any:  # noqa: ANN401 - any YAML
    return tuple(value) if isinstance(value, list) else value
