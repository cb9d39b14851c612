"""What is intentionally different: the values of two environments side by side."""

import dataclasses as dc
from collections.abc import Iterator, Mapping
from typing import Any

from stacks._schema import Environment

_NAMED = ("team", "name")
"""Fields by which an item of a list is known, so that one more team does not make every later one different."""


@dc.dataclass(frozen=True, kw_only=True)
class Difference:
    """A value that differs. path: `gpu_pools.h100.nodes`. None: there is none on that side.

    Of what one side lacks altogether, as a pool, it is the whole.
    """

    path: str
    left: Any
    right: Any

    def as_item(self, left: str, right: str) -> dict[str, Any]:
        """The difference in a verb's document; left and right: what the two sides are called."""
        return {"value": self.path, left: self.left, right: self.right}


def differences(left: Environment, right: Environment) -> list[Difference]:
    """The values that differ between two environments, in the order of the schema.

    What has the default counts too: it is what will be in force.
    """
    return list(_differences("", _tree(dc.asdict(left)), _tree(dc.asdict(right))))


def _differences(path: str, left: Mapping[str, Any], right: Mapping[str, Any]) -> Iterator[Difference]:
    for key in dict.fromkeys([*left, *right]):
        was, now = left.get(key), right.get(key)
        where = f"{path}.{key}" if path else key
        if isinstance(was, dict) and isinstance(now, dict):
            yield from _differences(where, was, now)
        elif was != now:
            yield Difference(path=where, left=was, right=now)


def _tree(value: Any) -> Any:  # noqa: ANN401 - values of dataclasses
    """The value as JSON has it, where lists of named items are mappings."""
    match value:
        case dict():
            return {str(key): _tree(each) for key, each in value.items()}
        case list() | tuple():
            items = [_tree(each) for each in value]
            names = [_name(each) for each in items]
            if not all(names) or len(set(names)) < len(names):
                return items
            return {name: _unnamed(each) for name, each in zip(names, items, strict=True)} or items
        case _:
            return value


def _name(item: Any) -> str:  # noqa: ANN401 - as above
    """What an item of a list is known by; empty where it has no name."""
    if not isinstance(item, dict) or not item.get("name"):
        return ""
    return "/".join(str(item[field]) for field in _NAMED if item.get(field))


def _unnamed(item: Mapping[str, Any]) -> dict[str, Any]:
    return {key: each for key, each in item.items() if key not in _NAMED}
