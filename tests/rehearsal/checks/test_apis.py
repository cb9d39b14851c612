"""The check `apis`: which API versions go, and who uses them."""

from typing import Any

from infra.clusters.embedded.api import Refused
from infra.rehearsal.checks.apis import apis, deprecated
from infra.rehearsal.look import Look, Outcome
from infra.rehearsal.snapshot import Object, Snapshot

METRICS = """\
# HELP apiserver_requested_deprecated_apis [STABLE] Gauge of deprecated APIs that have been requested
# TYPE apiserver_requested_deprecated_apis gauge
apiserver_requested_deprecated_apis{group="",removed_release="",resource="endpoints",subresource="",version="v1"} 1
apiserver_requested_deprecated_apis{group="policy",removed_release="1.25",resource="poddisruptionbudgets",\
subresource="",version="v1beta1"} 1
apiserver_requested_deprecated_apis{group="batch",removed_release="1.25",resource="cronjobs",subresource="",\
version="v1beta1"} 0
apiserver_request_total{group="policy",resource="poddisruptionbudgets",version="v1beta1"} 1
"""
KINDS = {
    "/api/v1": {"ConfigMap": "configmaps", "Endpoints": "endpoints"},
    "/apis/policy/v1beta1": {"PodDisruptionBudget": "poddisruptionbudgets"},
    "/apis/example.com/v1alpha1": {"Thing": "things"},
}


class Server:
    """Answers discovery and metrics as an API server does."""

    def get(self, path: str) -> Object:
        """Return a group's kinds."""
        if path not in KINDS:
            raise Refused(404, f"GET {path}: the server could not find the requested resource (404)")
        return {"resources": [{"kind": kind, "name": plural} for kind, plural in KINDS[path].items()]}

    def text(self, path: str) -> str:
        """Return the metrics."""
        assert path == "/metrics"
        return METRICS


def looked(*declared: tuple[str, str], crds: tuple[Any, ...] = ()) -> Outcome:
    """Look at a platform that declares objects of these versions and kinds."""
    objects = tuple(
        {"apiVersion": version, "kind": kind, "metadata": {"name": "own", "namespace": "here"}}
        for version, kind in declared
    )
    now = Snapshot(step="install", objects={"CustomResourceDefinition.apiextensions.k8s.io": crds}, declared=objects)
    return apis(Look(now=now, base=None, api=Server(), images=frozenset()))  # type: ignore[arg-type]


def test_metrics_tell_what_was_asked_for() -> None:
    """Deprecated versions that were asked for are read with their release; other metrics and zeros are not."""
    found = deprecated(METRICS)
    assert found == {("v1", "endpoints"): "", ("policy/v1beta1", "poddisruptionbudgets"): "1.25"}


def test_what_is_current_is_fine_and_another_ones_use_is_told_only_where_it_goes() -> None:
    """A platform of current versions has the one finding of somebody else's version that is to be removed."""
    outcome = looked(("v1", "ConfigMap"))
    (finding,) = outcome.findings
    assert finding.object == "API poddisruptionbudgets.policy/v1beta1"
    assert "gone in Kubernetes 1.25" in finding.message
    assert outcome.evidence == "executed"
    assert outcome.looked_at == 2


def test_a_declared_object_of_a_version_that_goes_is_named() -> None:
    """The object is told with the release, and not once more as somebody's."""
    (finding,) = looked(("policy/v1beta1", "PodDisruptionBudget")).findings
    assert finding.object == "PodDisruptionBudget here/own"
    assert finding.message == (
        "declared as PodDisruptionBudget of policy/v1beta1, which is deprecated, and is gone in Kubernetes 1.25"
    )


def test_a_deprecated_version_without_a_release_counts_where_it_is_declared() -> None:
    """Endpoints are deprecated, and not said to go."""
    messages = [finding.message for finding in looked(("v1", "Endpoints")).findings]
    assert "declared as Endpoints of v1, which is deprecated" in messages


def test_a_version_or_kind_that_is_not_served_is_named() -> None:
    """A group's version that is gone, and a kind that a version does not have."""
    findings = looked(("extensions/v1beta1", "Ingress"), ("v1", "Gadget")).findings
    said = [finding.message for finding in findings if "not serve" in finding.message]
    assert said == [
        "declared as Gadget of v1, which the API server does not serve",
        "declared as Ingress of extensions/v1beta1, which the API server does not serve",
    ]


def test_a_kind_of_a_controller_says_itself_that_a_version_is_deprecated() -> None:
    """`deprecated: true` of a definition's version."""
    spec = {
        "group": "example.com",
        "names": {"plural": "things"},
        "versions": [{"name": "v1", "served": True}, {"name": "v1alpha1", "served": True, "deprecated": True}],
    }
    findings = looked(("example.com/v1alpha1", "Thing"), crds=({"spec": spec},)).findings
    assert "declared as Thing of example.com/v1alpha1, which is deprecated" in [each.message for each in findings]
