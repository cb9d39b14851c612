"""Which fields of an object a manager owns: FieldsV1 of metadata.managedFields, and finding them in an object.

The format is that of sigs.k8s.io/structured-merge-diff (v6.3, fieldpath/serialize-pe.go): a tree whose keys are `f:`
and a field's name, `k:` and the keys of a list's item, `v:` and a value of a set, `i:` and an index. An empty tree is a
field owned with all that is in it; "." in a tree is the item or map itself.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

Fields = Mapping[str, Any]
Path = tuple[str, ...]
Json = Any


class _Missing:
    """In place of a value where there is none; null counts as none, as it does for the API server."""


MISSING = _Missing()
_SECRET = ("4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270")
"""Key and value by which a Pulumi state marks a secret (sdk/go/common/resource/sig, 3.259)."""


def child(value: Json, element: str) -> Json:
    """What a path element leads to in a value; MISSING where there is nothing."""
    value = opened(value)
    how, _, what = element.partition(":")
    if how == "f":
        found = value.get(what) if isinstance(value, dict) else None
    elif how == "i":
        found = dict(enumerate(value)).get(int(what)) if isinstance(value, list) else None
    else:
        wanted = json.loads(what)
        alike = (each for each in value if _is(opened(each), wanted, how)) if isinstance(value, list) else iter(())
        found = next(alike, None)
    return MISSING if found is None else found


def _is(item: Json, wanted: Json, how: str) -> bool:
    if how == "v":
        return bool(item == wanted)
    return isinstance(item, dict) and all(item.get(key) == value for key, value in wanted.items())


def secret(value: Json) -> bool:
    """Whether a value is one that the state keeps encrypted."""
    return isinstance(value, dict) and value.get(_SECRET[0]) == _SECRET[1]


def opened(value: Json) -> Json:
    """The value itself, of one that the state keeps encrypted and that was exported with its text."""
    return json.loads(value["plaintext"]) if secret(value) else value


def bare(value: Json) -> Json:
    """The value with all that is secret in it opened, and without what is null."""
    value = opened(value)
    if isinstance(value, dict):
        return {key: bare(each) for key, each in value.items() if each is not None}
    return [bare(each) for each in value] if isinstance(value, list) else value


def hidden(value: Json, path: Path) -> bool:
    """Whether what a path leads to is secret in the state, has something secret in it, or is part of it."""
    for element in path:
        if secret(value):
            return True
        value = child(value, element)
    return _any_secret(value)


def _any_secret(value: Json) -> bool:
    if isinstance(value, dict):
        return secret(value) or any(map(_any_secret, value.values()))
    return isinstance(value, list) and any(map(_any_secret, value))


def merged(trees: Iterator[Fields]) -> dict[str, Any]:
    """One tree of all fields of several."""
    whole: dict[str, Any] = {}
    for tree in trees:
        _merge(whole, tree)
    return whole


def _merge(into: dict[str, Any], tree: Fields) -> None:
    for element, below in tree.items():
        _merge(into.setdefault(element, {}), below)


def differences(owned: Fields, released: Json, live: Json, path: Path = ()) -> Iterator[tuple[Path, Json, Json]]:
    """The owned fields whose values differ, each with both; of what is gone or new as a whole only the topmost."""
    for element, below in owned.items():
        if element == ".":
            continue
        before, now = child(released, element), child(live, element)
        if before == now:
            continue
        both = before is not MISSING and now is not MISSING
        if both and below.keys() - {"."}:
            yield from differences(below, before, now, (*path, element))
        elif both and before == {} and isinstance(now, dict):
            continue  # a map that the program leaves empty: what is in it belongs to others
        elif not both or bare(before) != bare(now):
            yield (*path, element), before, now


def narrowed(path: Path, released: Json, live: Json) -> tuple[Path, Json, Json]:
    """Where in two values they differ, if that is in one place: of a list that is owned as a whole, the field in it."""
    before, now = opened(released), live
    elements: list[str] = []
    if isinstance(before, dict) and isinstance(now, dict):
        elements = [f"f:{name}" for name in before.keys() | now.keys()]
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        elements = [f"i:{index}" for index in range(len(now))]
    pairs = ((element, child(before, element), child(now, element)) for element in elements)
    other = [pair for pair in pairs if bare(pair[1]) != bare(pair[2])]
    if len(other) != 1:
        return path, before, now
    element, before, now = other[0]
    return narrowed((*path, element), before, now)


def additions(owned: Fields, program: Fields, live: Json, path: Path = ()) -> Iterator[tuple[Path, Json]]:
    """The owned fields of an object that the program owns nothing in, each with its value; of an item the topmost."""
    for element, below in owned.items():
        if element == ".":
            continue
        now = child(live, element)
        inside = below.keys() - {"."}
        known = program.get(element)
        if now is MISSING:
            continue
        if known is None and (not inside or (element.startswith("k:") and "." in below)):
            yield (*path, element), now
        elif inside:
            yield from additions(below, known or {}, now, (*path, element))


def touches(owned: Fields, path: Path) -> bool:
    """Whether what a path leads to, something in it, or what it is part of as a whole, is owned."""
    for element in path:
        if element not in owned:
            return False
        owned = owned[element]
        if not owned:
            return True
    return True


def text(path: Path) -> str:
    """The path as people write it: `spec.template.spec.containers[name=main].image`, `metadata.labels["a.b/c"]`."""
    return "".join(map(_text, path)).removeprefix(".")


def _text(element: str) -> str:
    how, _, what = element.partition(":")
    if how == "f":
        return f".{what}" if what.replace("-", "").isalnum() else f'["{what}"]'
    if how == "k":
        return f"[{','.join(f'{key}={value}' for key, value in json.loads(what).items())}]"
    return f"[{what}]"
