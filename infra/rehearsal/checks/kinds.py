"""Kinds (CustomResourceDefinitions) and what is declared of them: pruned fields, old definitions, lost versions."""

from collections.abc import Iterator, Mapping
from typing import Any

from components._labels import ENVIRONMENT
from infra.clusters.embedded.api import Refused
from infra.rehearsal.checks.webhooks import unserved
from infra.rehearsal.look import Check, Finding, Look, Outcome, outcome
from infra.rehearsal.snapshot import Object, Snapshot, kind_of, name

_DEFINITION = "CustomResourceDefinition.apiextensions.k8s.io"
_OF_ITSELF = {"apiVersion", "kind", "metadata", "status"}
_SCHEMAS = ".spec.versions"
_INJECTED = "caBundle"


def _by_kind(now: Snapshot) -> dict[str, Object]:
    """The cluster's definitions by the kind that they define: `Workload.kueue.x-k8s.io`."""
    return {f"{one['spec']['names']['kind']}.{one['spec']['group']}": one for one in now.all(_DEFINITION)}


def _declared(now: Snapshot) -> Iterator[tuple[Object, Object]]:
    """What is declared of kinds that the cluster has, each with its definition."""
    definitions = _by_kind(now)
    for each in now.declared:
        if kind_of(each) in definitions:
            yield each, definitions[kind_of(each)]


def _pruned(look: Look) -> Outcome:
    seen, found = [], []
    for each, definition in _declared(look.now):
        live = _live(look, each, definition)
        if live is None:
            continue
        seen.append(each)
        kind = name(definition)
        for field in each.keys() - _OF_ITSELF:
            found += [
                Finding(
                    object=name(each),
                    message=f"{path} is declared, and the cluster did not keep it ({kind}, {each['apiVersion']})",
                    remedy=f"upgrade {kind} together with what declares {path}, or do not declare it",
                )
                for path in lost(each[field], live.get(field), f".{field}")
            ]
    return outcome("executed", seen, found)


def _live(look: Look, each: Object, definition: Object) -> Object | None:
    """The object in the version in which it is declared: the API server is asked where the snapshot has another."""
    metadata = each["metadata"]
    found = look.now.find(kind_of(each), metadata.get("name", ""), metadata.get("namespace", ""))
    if found and found["apiVersion"] == each["apiVersion"]:
        return found
    within = f"namespaces/{metadata['namespace']}/" if "namespace" in metadata else ""
    path = f"/apis/{each['apiVersion']}/{within}{definition['spec']['names']['plural']}"
    try:
        return look.api.get(f"{path}/{metadata['name']}")
    except Refused:  # it is not there, or not in that version: the matter of others
        return None


def lost(declared: Any, live: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - any part of a manifest
    """The paths of fields that say something and are absent from the live object. Other values are not looked at."""
    if _empty(declared):
        return
    if live is None:
        yield path
    elif isinstance(declared, Mapping) and isinstance(live, Mapping):
        for key, value in declared.items():
            yield from lost(value, live.get(key), _under(path, key))
    elif isinstance(declared, list) and isinstance(live, list):
        for key, one, other in _paired(declared, live):
            if other is not None:  # no schema takes elements out
                yield from lost(one, other, f"{path}[{key}]")


def _empty(value: Any) -> bool:  # noqa: ANN401 - as above
    """Whether nothing is said by it, which a program may leave out when it writes an object back."""
    if isinstance(value, Mapping):
        return all(map(_empty, value.values()))
    return value is None or value in ("", [])


def _under(path: str, key: str) -> str:
    return f"{path}[{key}]" if "." in key or "/" in key else f"{path}.{key}"


def _paired(one: list[Any], other: list[Any]) -> Iterator[tuple[object, Any, Any]]:
    """Elements of two lists: by their names where all have one, else by their places where there are as many."""
    if all(isinstance(each, Mapping) and "name" in each for each in (*one, *other)):
        named = {each["name"]: each for each in other}
        yield from ((each["name"], each, named.get(each["name"])) for each in one)
    elif len(one) == len(other):
        yield from ((index, each, other[index]) for index, each in enumerate(one))


def _current(look: Look) -> Outcome:
    now = look.now
    live = {one["metadata"]["name"]: one for one in now.all(_DEFINITION)}
    declared = {one["metadata"]["name"]: one for one in now.declared if kind_of(one) == _DEFINITION}
    found = []
    for definition, manifest in declared.items():
        there = live.get(definition)
        places = ["all of it"] if there is None else list(differences(manifest["spec"], there["spec"], ".spec"))
        if places:
            more = f" and {len(places) - 1} other places" if places[1:] else ""
            found.append(
                Finding(
                    object=name(manifest),
                    message=f"the cluster's definition is not the one that is declared: {places[0]}{more}",
                    remedy="declare the kinds of the version that is installed, and let no one else apply others",
                )
            )
    seen: list[object] = list(declared)
    for each, definition in _declared(now):
        seen.append(each)
        served = [one["name"] for one in definition["spec"]["versions"] if one["served"]]
        _, _, version = each["apiVersion"].rpartition("/")
        if version not in served:
            found.append(
                Finding(
                    object=name(each),
                    message=f"is declared as {each['apiVersion']}; {name(definition)} serves {', '.join(served)}",
                    remedy="declare it in a version that is served",
                )
            )
        metadata = definition["metadata"]
        if ENVIRONMENT in (metadata.get("labels") or {}) and metadata["name"] not in declared:
            found.append(
                Finding(
                    object=name(definition),
                    message="is left from another version of the bundle: objects of it are declared, and it is not",
                    remedy="declare it with the component whose objects need it: nothing else upgrades it",
                )
            )
    return outcome("executed", seen, found)


def differences(declared: Any, live: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - any part of a manifest
    """Where a live definition is not as declared: what is declared, and of the versions also what else is there.

    The API server adds defaults (names, conversion) beside the versions, and leaves out of them what is false or empty.
    An authority is put in by others.
    """
    if not (declared or live):
        return
    if isinstance(declared, Mapping) and isinstance(live, Mapping):
        for key in {**declared, **(live if path.startswith(_SCHEMAS) else {})}:
            if key != _INJECTED:
                yield from differences(declared.get(key), live.get(key), _under(path, key))
    elif isinstance(declared, list) and isinstance(live, list) and len(declared) == len(live):
        for key, one, other in _paired(declared, live):
            yield from differences(one, other, f"{path}[{key}]")
    elif _number(declared) and _number(live):
        if float(declared) != float(live):  # the state keeps numbers as floating ones
            yield path
    elif declared != live:
        yield path


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _stored(look: Look) -> Outcome:
    definitions = look.now.all(_DEFINITION)
    found = [
        Finding(object=name(definition), message=message, remedy=remedy)
        for definition in definitions
        for message, remedy in (*_lost_versions(definition), *_conversion(look.now, definition))
    ]
    return outcome("executed", definitions, found)


def _lost_versions(definition: Object) -> Iterator[tuple[str, str]]:
    versions = {one["name"]: one for one in definition["spec"]["versions"]}
    for stored in definition.get("status", {}).get("storedVersions") or ():
        if not versions.get(stored, {}).get("served"):
            fate = "no longer serves" if stored in versions else "no longer has"
            yield (
                f"objects may be stored as {stored}, which it {fate}",
                f"write all objects again in the version of storage, and take {stored} from status.storedVersions",
            )


def _conversion(now: Snapshot, definition: Object) -> Iterator[tuple[str, str]]:
    conversion = definition["spec"].get("conversion") or {}
    if conversion.get("strategy") != "Webhook":
        return
    client = conversion["webhook"]["clientConfig"]
    for problem in unserved(now, client, endpoints=True):
        yield (
            f"its objects cannot be converted: {problem}",
            "install the conversion webhook, and who fills in its authority, with the kind",
        )


CHECKS: tuple[Check, ...] = (
    Check(
        id="kinds-pruned",
        title="no declared field of a custom resource was pruned",
        look=_pruned,
        executes=True,
    ),
    Check(
        id="kinds-current",
        title="kinds are those of the version that is installed, and serve what is declared",
        look=_current,
        executes=True,
    ),
    Check(
        id="kinds-stored",
        title="every stored version of a kind is served, and conversion webhooks answer",
        look=_stored,
        executes=True,
    ),
)
