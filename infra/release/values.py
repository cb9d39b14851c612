"""What is intentionally different: the values of two environments, or of one in two versions, side by side."""

import dataclasses as dc
from collections.abc import Iterator, Mapping
from typing import Any

from stacks._schema import Environment

_NAMED = ("name", "team")
"""Fields by which an item of a list is known, so that one more team does not make every later one different."""


@dc.dataclass(frozen=True, kw_only=True)
class Difference:
    """A value that differs. path: `gpu_pools.h100.nodes`. None: there is none on that side."""

    path: str
    left: Any
    right: Any

    def as_item(self, left: str, right: str) -> dict[str, Any]:
        """The difference in a verb's document; left and right: what the two sides are called."""
        return {"value": self.path, left: self.left, right: self.right}


def flat(environment: Environment) -> dict[str, Any]:
    """Every value of an environment by its path. What has the default is there too: it is what will be in force."""
    return dict(_leaves("", dc.asdict(environment)))


def differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[Difference]:
    """The values that differ between two environments that `flat` has flattened, by path."""
    return [
        Difference(path=path, left=left.get(path), right=right.get(path))
        for path in dict.fromkeys([*left, *right])
        if left.get(path) != right.get(path)
    ]


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - values of dataclasses
    named = isinstance(value, (list, tuple)) and value and all(isinstance(each, dict) and _name(each) for each in value)
    if named:
        value = {_name(each): each for each in value}
    if not isinstance(value, dict) or not value:
        yield path, list(value) if isinstance(value, tuple) else value
        return
    for key, each in value.items():
        yield from _leaves(f"{path}.{key}" if path else str(key), each)


def _name(item: Mapping[str, Any]) -> str:
    return "/".join(str(item[field]) for field in reversed(_NAMED) if item.get(field))
