"""As much of JSON Schema (draft 2020-12) as docs/reference/rehearsal.schema.json and the tests' kinds use.

Another keyword is an error.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.checkout import ROOT

SCHEMA: dict[str, Any] = json.loads((ROOT / "docs/reference/rehearsal.schema.json").read_text())
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "number": (int, float),
    "integer": int,
    "null": type(None),
}
_PLAIN: Mapping[str, Callable[[Any, Any], bool]] = {
    "const": lambda value, wanted: value == wanted,
    "enum": lambda value, wanted: value in wanted,
    "type": lambda value, wanted: any(_is(value, each) for each in ([wanted] if isinstance(wanted, str) else wanted)),
    "minimum": lambda value, wanted: not isinstance(value, int | float) or value >= wanted,
    "maximum": lambda value, wanted: not isinstance(value, int | float) or value <= wanted,
    "minLength": lambda value, wanted: len(value) >= wanted,
    "maxLength": lambda value, wanted: len(value) <= wanted,
    "minItems": lambda value, wanted: len(value) >= wanted,
    "maxItems": lambda value, wanted: len(value) <= wanted,
    "minProperties": lambda value, wanted: len(value) >= wanted,
    "maxProperties": lambda value, wanted: len(value) <= wanted,
    "pattern": lambda value, wanted: not isinstance(value, str) or bool(re.search(wanted, value)),
    "anyOf": lambda value, wanted: any(not list(problems(value, each)) for each in wanted),
    "oneOf": lambda value, wanted: sum(not list(problems(value, each)) for each in wanted) == 1,
}
_ANNOTATIONS = {"$schema", "$defs", "title", "description", "default", "format"}


def structural(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A kind's schema, where a field that it does not have is a problem, which the API server would drop.

    Without its rules (x-kubernetes-validations, in CEL): those are the API server's to judge.
    """
    plain = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes-")}
    if "properties" in plain:
        plain["properties"] = {name: structural(each) for name, each in plain["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            plain.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(plain.get(key), dict):
            plain[key] = structural(plain[key])
    return plain


def problems(value: Any, schema: Mapping[str, Any] = SCHEMA, at: str = "$") -> Iterator[str]:  # noqa: ANN401 - JSON
    """What of a JSON value the schema does not accept, each with its place."""
    for keyword, wanted in schema.items():
        if keyword in _PLAIN:
            if not _PLAIN[keyword](value, wanted):
                yield f"{at}: {value!r}; {keyword}: {wanted!r}"
        elif keyword not in _ANNOTATIONS:
            yield from _nested(keyword, value, schema, at)


def _nested(keyword: str, value: Any, schema: Mapping[str, Any], at: str) -> Iterator[str]:  # noqa: ANN401 - JSON
    wanted = schema[keyword]
    match keyword:
        case "$ref":
            yield from problems(value, SCHEMA["$defs"][wanted.removeprefix("#/$defs/")], at)
        case "required":
            yield from (f"{at}.{name}: missing" for name in wanted if name not in value)
        case "properties":
            for name in wanted.keys() & value.keys():
                yield from problems(value[name], wanted[name], f"{at}.{name}")
        case "additionalProperties":
            for name in value.keys() - schema.get("properties", {}).keys():
                yield from problems(value[name], wanted, f"{at}.{name}") if wanted else [f"{at}.{name}: unknown"]
        case "items":
            for index, each in enumerate(value):
                yield from problems(each, wanted, f"{at}[{index}]")
        case _:
            raise NotImplementedError(keyword)


def _is(value: Any, name: str) -> bool:  # noqa: ANN401 - JSON
    return isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))
