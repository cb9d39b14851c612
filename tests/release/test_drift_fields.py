"""managedFields are read as the API server writes them."""

import json

import pytest

from infra.release.drift.fields import (
    MISSING,
    Fields,
    additions,
    bare,
    child,
    differences,
    hidden,
    merged,
    narrowed,
    text,
    touches,
)

SECRET = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "plaintext": json.dumps("s")}
PORT = 'k:{"containerPort":80,"protocol":"TCP"}'


@pytest.mark.parametrize(
    ("value", "element", "found"),
    [
        ({"a.b/c": 1}, "f:a.b/c", 1),
        ({"a": None}, "f:a", MISSING),
        ([{"name": "x"}, {"name": "y", "v": 2}], 'k:{"name":"y"}', {"name": "y", "v": 2}),
        ([{"containerPort": 80, "protocol": "UDP"}], PORT, MISSING),
        (["a", "b"], 'v:"b"', "b"),
        (["a", "b"], "i:1", "b"),
        (["a"], "i:1", MISSING),
        ("text", "f:a", MISSING),
        ("text", 'v:"t"', MISSING),
        ({"a": SECRET}, "f:a", SECRET),
    ],
)
def test_an_element_leads_to_its_value(value: object, element: str, found: object) -> None:
    """By name, by the keys of an item, by a value of a set, and by place."""
    assert child(value, element) == found


def test_only_owned_fields_differ() -> None:
    """What is in neither owner's tree is left alone; of an item that is gone only the item is told."""
    owned: Fields = {"f:spec": {"f:a": {}, "f:items": {'k:{"name":"x"}': {".": {}, "f:name": {}, "f:v": {}}}}}
    released = {"spec": {"a": 1, "b": 1, "items": [{"name": "x", "v": 1}]}}
    assert not list(differences(owned, released, released | {"status": {}}))
    live = {"spec": {"a": 2, "b": 2, "items": [{"name": "z"}]}}
    assert list(differences(owned, released, live)) == [
        (("f:spec", "f:a"), 1, 2),
        (("f:spec", "f:items", 'k:{"name":"x"}'), {"name": "x", "v": 1}, MISSING),
    ]


def test_an_empty_map_belongs_to_who_fills_it() -> None:
    """The program's `{}` says that the map is there; that it is gone is a difference."""
    assert not list(differences({"f:m": {}}, {"m": {}}, {"m": {"a": 1}}))
    assert list(differences({"f:m": {}}, {"m": {}}, {})) == [(("f:m",), {}, MISSING)]


def test_null_and_numbers_of_the_state_are_no_difference() -> None:
    """The state keeps every number as a float, and nulls that the API server leaves out."""
    owned: Fields = {"f:rules": {}, "f:value": {}}
    released = {"rules": [{"verbs": ["get"], "names": None}], "value": 1e9}
    assert not list(differences(owned, released, {"rules": [{"verbs": ["get"]}], "value": 1000000000}))


def test_secrets_are_compared_by_what_they_are() -> None:
    """And known to be secret wherever a path to them ends."""
    released = {"data": SECRET | {"plaintext": json.dumps({"a": "eA=="})}, "spec": {"list": [{"v": SECRET}], "x": 1}}
    owned: Fields = {"f:data": {"f:a": {}}}
    assert not list(differences(owned, released, {"data": {"a": "eA=="}}))
    assert list(differences(owned, released, {"data": {"a": "eQ=="}})) == [(("f:data", "f:a"), "eA==", "eQ==")]
    assert hidden(released, ("f:data", "f:a"))
    assert hidden(released, ("f:spec", "f:list"))
    assert not hidden(released, ("f:spec", "f:x"))
    assert bare(released["spec"]) == {"list": [{"v": "s"}], "x": 1}


def test_additions_are_what_the_program_owns_nothing_in() -> None:
    """An added container is one addition, an added variable of the program's container another."""
    theirs = {
        "f:labels": {"f:new": {}, "f:ours": {}},
        "f:containers": {
            'k:{"name":"side"}': {".": {}, "f:name": {}},
            'k:{"name":"main"}': {"f:env": {".": {}, 'k:{"name":"X"}': {".": {}, "f:name": {}}}},
        },
        "f:gone": {},
    }
    program = {"f:labels": {"f:ours": {}}, "f:containers": {'k:{"name":"main"}': {".": {}, "f:image": {}}}}
    live = {
        "labels": {"new": "1", "ours": "2"},
        "containers": [{"name": "main", "env": [{"name": "X"}]}, {"name": "side"}],
    }
    assert list(additions(theirs, program, live)) == [
        (("f:labels", "f:new"), "1"),
        (("f:containers", 'k:{"name":"side"}'), {"name": "side"}),
        (("f:containers", 'k:{"name":"main"}', "f:env", 'k:{"name":"X"}'), {"name": "X"}),
    ]


def test_of_an_item_that_another_made_the_part_that_was_set_is_told() -> None:
    """Such as the image of a container that a controller has added."""
    theirs: Fields = {"f:containers": {'k:{"name":"side"}': {"f:image": {}}}}
    ((path, value),) = additions(theirs, {}, {"containers": [{"name": "side", "image": "a"}]})
    assert (text(path), value) == ("containers[name=side].image", "a")


def test_a_set_that_is_new_is_told_by_its_value() -> None:
    """A finalizer on an object that had none."""
    assert [
        text(path) for path, _ in additions({"f:finalizers": {".": {}, 'v:"a/b"': {}}}, {}, {"finalizers": ["a/b"]})
    ] == ['finalizers["a/b"]']


def test_who_owns_a_path_owns_all_in_it_or_a_part() -> None:
    """Of three managers of one list, two have to do with a field of an item."""
    path = ("f:spec", "f:rules", "i:0")
    assert touches({"f:spec": {"f:rules": {}}}, path)
    assert touches({"f:spec": {"f:rules": {"i:0": {"f:verbs": {}}}}}, path)
    assert not touches({"f:spec": {"f:other": {}}}, path)


def test_several_entries_of_a_manager_are_one_tree() -> None:
    """What it applied, and what it updated."""
    assert merged(iter([{"f:a": {"f:b": {}}}, {"f:a": {"f:c": {}}}])) == {"f:a": {"f:b": {}, "f:c": {}}}


def test_one_difference_in_a_list_that_is_owned_as_a_whole_is_told_by_its_place() -> None:
    """Several, or another length: the list."""
    before = [{"name": "v1", "served": True}, {"name": "v2", "served": True}]
    now = [{"name": "v1", "served": True}, {"name": "v2", "served": False}]
    assert narrowed(("f:versions",), before, now) == (("f:versions", "i:1", "f:served"), True, False)
    assert narrowed(("f:versions",), before, before[:1]) == (("f:versions",), before, before[:1])


def test_a_path_reads_as_people_write_it() -> None:
    """Names that are no plain words in brackets."""
    path = ("f:spec", "f:containers", 'k:{"name":"main"}', "f:ports", PORT, "f:x-kubernetes-thing")
    assert text(path) == "spec.containers[name=main].ports[containerPort=80,protocol=TCP].x-kubernetes-thing"
    assert text(("f:metadata", "f:labels", "f:a.b/c")) == 'metadata.labels["a.b/c"]'
