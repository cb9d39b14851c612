"""Whether every API version in use will be there in the next Kubernetes, too: the API server says what it deprecates.

It sets a metric for each deprecated version that somebody has asked it for since it started, with the release in which
that goes (Kubernetes' deprecation policy, `apiserver_requested_deprecated_apis`); of kinds that definitions add, these
say it themselves.
"""

import re
from collections.abc import Iterator

from infra.clusters.embedded.api import Api, Refused
from infra.rehearsal.look import Check, Finding, Look, Outcome, outcome
from infra.rehearsal.snapshot import Object, Snapshot, name

_METRIC = re.compile(r"^apiserver_requested_deprecated_apis\{(.*)\} 1$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_NOT_FOUND = 404
Resource = tuple[str, str]
"""apiVersion, and plural name."""


def apis(look: Look) -> Outcome:
    """Declared objects of versions that are deprecated or not served; and versions that others ask for and that go."""
    served = {version: _served(look.api, version) for version in {each["apiVersion"] for each in look.now.declared}}
    going = deprecated(look.api.text("/metrics")) | defined_deprecated(look.now)
    found = [finding for each in look.now.declared for finding in _of_object(each, served[each["apiVersion"]], going)]
    used = {(version, plural) for version, of in served.items() for plural in of.values()}
    others = [_of_others(each, release) for each, release in going.items() if release and each not in used]
    kinds = {(each["apiVersion"], each["kind"]) for each in look.now.declared}
    return outcome("executed", [*kinds, *others], [*found, *others])


def deprecated(metrics: str) -> dict[Resource, str]:
    """What was asked for and is deprecated, with the release that no longer has it ("" where none is named)."""
    found = {}
    for line in _METRIC.findall(metrics):
        labels = dict(_LABEL.findall(line))
        version = "/".join(filter(None, (labels["group"], labels["version"])))
        found[version, labels["resource"]] = labels["removed_release"]
    return found


def defined_deprecated(snapshot: Snapshot) -> dict[Resource, str]:
    """What definitions call deprecated; they name no release."""
    return {
        (f"{each['spec']['group']}/{version['name']}", each["spec"]["names"]["plural"]): ""
        for each in snapshot.all("CustomResourceDefinition.apiextensions.k8s.io")
        for version in each["spec"]["versions"]
        if version.get("deprecated")
    }


def _served(api: Api, version: str) -> dict[str, str]:
    """Kind to plural name, of the API version; nothing where the API server does not serve it."""
    try:
        listed = api.get(f"/apis/{version}" if "/" in version else f"/api/{version}")["resources"]
    except Refused as refused:
        if refused.status != _NOT_FOUND:
            raise
        return {}
    return {each["kind"]: each["name"] for each in listed if "/" not in each["name"]}


def _of_object(each: Object, served: dict[str, str], going: dict[Resource, str]) -> Iterator[Finding]:
    version, kind = each["apiVersion"], each["kind"]
    plural = served.get(kind)
    if plural is None:
        message = f"declared as {kind} of {version}, which the API server does not serve"
        yield Finding(object=name(each), message=message, remedy="declare it in a version that is served")
    elif (version, plural) in going:
        release = going[version, plural]
        until = f", and is gone in Kubernetes {release}" if release else ""
        message = f"declared as {kind} of {version}, which is deprecated{until}"
        yield Finding(object=name(each), message=message, remedy="declare it in the version that takes its place")


def _of_others(resource: Resource, release: str) -> Finding:
    version, plural = resource
    return Finding(
        object=f"API {plural}.{version}",
        message=f"somebody asks for it, and it is gone in Kubernetes {release}",
        remedy="find who by the API server's audit log, and take a release of theirs that does without it",
    )


CHECKS = (
    Check(
        id="apis",
        title="no API version in use is deprecated or removed",
        look=apis,
        executes=True,
    ),
)
