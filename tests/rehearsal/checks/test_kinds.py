"""Kinds and what is declared of them."""

from typing import Any

import pytest

from infra.rehearsal.checks.kinds import CHECKS
from infra.rehearsal.snapshot import Object
from tests.rehearsal.checks.clusters import PLATFORM, NoServer, made, outcome, said, snapshot

SERVICE = {"name": "kueue-webhook-service", "namespace": "kueue-system"}


def definition(*versions: str, **more: Any) -> Object:  # noqa: ANN401 - fields of the definition
    """Return the kind ClusterQueue, with all versions served and the last stored."""
    spec = {
        "group": "kueue.x-k8s.io",
        "names": {"kind": "ClusterQueue", "plural": "clusterqueues", **more.pop("names", {})},
        "scope": "Cluster",
        "versions": [version(each) for each in versions or ("v1beta2",)],
        **more.pop("spec", {}),
    }
    return made(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "clusterqueues.kueue.x-k8s.io",
        spec=spec,
        status={"storedVersions": [versions[-1] if versions else "v1beta2"]},
        **more,
    )


def version(name: str, *, served: bool = True, **properties: Any) -> Object:  # noqa: ANN401 - schemas
    """Return a version with the field `cohortName` and those that are given."""
    schema = {"type": "object", "properties": {"cohortName": {"type": "string", "maxLength": 253}, **properties}}
    return {"name": name, "served": served, "storage": True, "schema": {"openAPIV3Schema": schema}}


def queue(api: str = "kueue.x-k8s.io/v1beta2", **spec: Any) -> Object:  # noqa: ANN401 - any field
    """Return a ClusterQueue."""
    return made(api, "ClusterQueue", "vision", spec=spec)


FLAVOR = {"name": "a100", "resources": [{"name": "cpu", "nominalQuota": "4"}]}
OTHER = {"name": "h100", "resources": []}
DECLARED = queue(cohortName="kiban", resourceGroups=[{"flavors": [FLAVOR, OTHER]}], preemption={"within": False})


@pytest.mark.parametrize(
    "live",
    [
        DECLARED,
        queue(
            cohortName="other",  # changed by a webhook
            resourceGroups=[
                # in another order, a quantity normalised, a default added
                {"flavors": [OTHER, {"name": "a100", "resources": [{"name": "cpu", "nominalQuota": "4000m", "x": 1}]}]}
            ],
            preemption={"within": False, "reclaim": "Never"},
        ),
    ],
    ids=["as declared", "with other values"],
)
def test_a_field_that_is_there_was_not_pruned(live: Object) -> None:
    """Whatever its value has become."""
    found = outcome(CHECKS, "kinds-pruned", snapshot(definition(), live, declared=[DECLARED]))
    assert (found.evidence, found.looked_at, found.findings) == ("executed", 1, ())


@pytest.mark.parametrize("nothing", [None, {}, [], "", {"a": {"b": []}}])
def test_a_field_that_says_nothing_may_be_left_out(nothing: object) -> None:
    """A program that writes an object back omits what is empty."""
    declared = queue(cohortName="kiban", extra=nothing)
    assert not said(CHECKS, "kinds-pruned", snapshot(definition(), queue(cohortName="kiban"), declared=[declared]))


@pytest.mark.parametrize(
    ("live", "path"),
    [
        (queue(resourceGroups=DECLARED["spec"]["resourceGroups"], preemption={"within": False}), ".spec.cohortName"),
        (
            queue(
                cohortName="kiban",
                preemption={"within": False},
                resourceGroups=[{"flavors": [{"name": "a100", "resources": [{"name": "cpu"}]}, OTHER]}],
            ),
            ".spec.resourceGroups[0].flavors[a100].resources[cpu].nominalQuota",
        ),
        (
            queue(cohortName="kiban", resourceGroups=DECLARED["spec"]["resourceGroups"], preemption={}),
            ".spec.preemption.within",
        ),
    ],
)
def test_a_field_that_is_gone_was_pruned(live: Object, path: str) -> None:
    """Its path, its object and the kind are named; a value that is false is one, too."""
    assert said(CHECKS, "kinds-pruned", snapshot(definition(), live, declared=[DECLARED])) == [
        (
            f"ClusterQueue vision: {path} is declared, and the cluster did not keep it "
            "(CustomResourceDefinition clusterqueues.kueue.x-k8s.io, kueue.x-k8s.io/v1beta2)"
        )
    ]


def test_an_object_is_compared_in_the_version_in_which_it_is_declared() -> None:
    """A field has another name in the version that the API server prefers."""

    class Server(NoServer):
        def get(self, path: str) -> Object:
            assert path == "/apis/kueue.x-k8s.io/v1beta1/clusterqueues/vision"
            return queue("kueue.x-k8s.io/v1beta1", cohort="kiban")

    declared = queue("kueue.x-k8s.io/v1beta1", cohort="kiban", lost="x")
    now = snapshot(definition("v1beta1", "v1beta2"), queue(cohortName="kiban"), declared=[declared])
    (found,) = said(CHECKS, "kinds-pruned", now, api=Server())
    assert found.startswith("ClusterQueue vision: .spec.lost is declared")
    (same,) = said(CHECKS, "kinds-pruned", snapshot(definition(), declared=[declared]), api=Server())
    assert same == found
    assert outcome(CHECKS, "kinds-pruned", now).looked_at == 0


def test_kinds_as_declared_are_current() -> None:
    """The API server's defaults, what is left out as false, and an authority that was put in are no difference."""
    served = {"strategy": "Webhook", "webhook": {"clientConfig": {"service": SERVICE}}}
    declared = definition(spec={"conversion": served})
    declared["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["weight"] = {"minimum": 0, "maximum": 2}
    trusted = {
        "strategy": "Webhook",
        "webhook": {"clientConfig": {"service": SERVICE | {"port": 443}, "caBundle": "x"}},
    }
    live = definition(names={"singular": "clusterqueue"}, spec={"conversion": trusted})
    live["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["weight"] = {"maximum": 2.0}
    found = outcome(CHECKS, "kinds-current", snapshot(live, DECLARED, declared=[declared, DECLARED]))
    assert (found.evidence, found.looked_at, found.findings) == ("executed", 2, ())


@pytest.mark.parametrize(
    ("declared", "live"),
    [
        (version("v1beta2", paused={"type": "boolean"}), version("v1beta2")),
        (version("v1beta2"), version("v1beta2", paused={"type": "boolean"})),
    ],
    ids=["a field is new", "a field went"],
)
def test_a_kind_that_was_left_old_is_found(declared: Object, live: Object) -> None:
    """With the first place where it differs."""
    wanted, there = definition(spec={"versions": [declared]}), definition(spec={"versions": [live]})
    assert said(CHECKS, "kinds-current", snapshot(there, declared=[wanted])) == [
        (
            "CustomResourceDefinition clusterqueues.kueue.x-k8s.io: the cluster's definition is not the one that is "
            "declared: .spec.versions[v1beta2].schema.openAPIV3Schema.properties.paused"
        )
    ]


def test_a_kind_that_lacks_a_version_or_is_not_there_is_found() -> None:
    """All of what is declared has to be there."""
    wanted = definition("v1beta1", "v1beta2")
    (found,) = said(CHECKS, "kinds-current", snapshot(definition(), declared=[wanted]))
    assert found.endswith("declared: .spec.versions")
    (found,) = said(CHECKS, "kinds-current", snapshot(declared=[wanted]))
    assert found.endswith("declared: all of it")


def test_an_object_in_a_version_that_is_not_served_is_found() -> None:
    """What is served instead is named."""
    there = definition(spec={"versions": [version("v1beta1", served=False), version("v1beta2")]})
    now = snapshot(there, declared=[there, queue("kueue.x-k8s.io/v1beta1")])
    assert said(CHECKS, "kinds-current", now) == [
        (
            "ClusterQueue vision: is declared as kueue.x-k8s.io/v1beta1; "
            "CustomResourceDefinition clusterqueues.kueue.x-k8s.io serves v1beta2"
        )
    ]


def test_a_kind_that_nobody_declares_any_more_is_found_while_it_is_used() -> None:
    """It stays in the cluster by design, and nothing upgrades it; one that was never the platform's is its owner's."""
    (found,) = said(CHECKS, "kinds-current", snapshot(definition(labels=PLATFORM), declared=[DECLARED]))
    assert "is left from another version of the bundle" in found
    assert not said(CHECKS, "kinds-current", snapshot(definition(), declared=[DECLARED]))
    assert not said(CHECKS, "kinds-current", snapshot(definition(labels=PLATFORM)))


@pytest.mark.parametrize(
    ("versions", "fate"),
    [
        ([version("v1beta2")], "no longer has"),
        ([version("v1beta1", served=False), version("v1beta2")], "no longer serves"),
    ],
)
def test_a_stored_version_has_to_be_served(versions: list[Object], fate: str) -> None:
    """Objects that were never written again are in it."""
    there = definition(spec={"versions": versions})
    there["status"]["storedVersions"] = ["v1beta1", "v1beta2"]
    assert said(CHECKS, "kinds-stored", snapshot(there)) == [
        f"CustomResourceDefinition clusterqueues.kueue.x-k8s.io: objects may be stored as v1beta1, which it {fate}"
    ]
    there["spec"]["versions"] = [version("v1beta1"), version("v1beta2")]
    found = outcome(CHECKS, "kinds-stored", snapshot(there))
    assert (found.evidence, found.looked_at, found.findings) == ("executed", 1, ())


def converting(**client: Any) -> Object:  # noqa: ANN401 - of a clientConfig
    """Return a kind with a conversion webhook."""
    config = {"service": SERVICE, "caBundle": "x", **client}
    return definition(spec={"conversion": {"strategy": "Webhook", "webhook": {"clientConfig": config}}})


WEBHOOK = made("v1", "Service", *SERVICE.values(), spec={"ports": [{"port": 443}]})


def endpoint(**conditions: bool) -> Object:
    """Return the Service's endpoints."""
    return made(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        "x",
        SERVICE["namespace"],
        labels={"kubernetes.io/service-name": SERVICE["name"]},
        endpoints=[{"addresses": ["10.0.0.1"], "conditions": conditions}],
    )


@pytest.mark.parametrize(
    ("objects", "problem"),
    [
        ([converting(), WEBHOOK, endpoint(ready=True)], None),
        ([converting(caBundle=""), WEBHOOK, endpoint(ready=True)], "it has no caBundle"),
        ([converting()], "Service kueue-system/kueue-webhook-service is not there"),
        ([converting(), WEBHOOK, endpoint(ready=False)], "has no endpoint that is ready"),
        ([converting(), WEBHOOK], "has no endpoint that is ready"),
        ([converting(service=SERVICE | {"port": 9443}), WEBHOOK, endpoint(ready=True)], "has no port 9443"),
    ],
)
def test_a_conversion_webhook_has_to_answer(objects: list[Object], problem: str | None) -> None:
    """It is trusted, and a pod is behind it."""
    found = said(CHECKS, "kinds-stored", snapshot(*objects))
    assert len(found) == (1 if problem else 0)
    assert all("its objects cannot be converted: " in each and str(problem) in each for each in found)
