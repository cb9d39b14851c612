"""Controllers are known by what they do, and people's tools never for one."""

from typing import Any

import pytest

from infra.release.drift.managers import controllers, entries

STATUS = {"manager": "canary-watcher", "subresource": "status", "time": "2026-01-01T00:00:00Z", "fieldsV1": {}}


def lease(namespace: str, manager: str, field: str = "f:renewTime") -> dict[str, Any]:
    """Return a Lease that a manager writes."""
    owned = {"manager": manager, "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {field: {}}}}
    return {"kind": "Lease", "metadata": {"name": "a", "namespace": namespace, "managedFields": [owned]}}


DEPLOYMENT = {
    "kind": "Deployment",
    "metadata": {"name": "cert-manager", "managedFields": [STATUS, STATUS | {"manager": "kubectl-patch"}]},
    "spec": {"template": {"spec": {"containers": [{"name": "manager"}]}}},
}
OPERATOR = DEPLOYMENT | {"metadata": {"name": "prometheus-operator"}}
JOBSET = DEPLOYMENT | {"metadata": {"name": "jobset-controller"}}
LEASES = [
    lease("kube-system", "kueue"),
    lease("kiban-serving", "envoy"),
    lease("team-a", "mallory"),
    lease("kube-system", "eve", "f:holderIdentity"),
    lease("kube-system", "kubectl-edit"),
]


@pytest.mark.parametrize(
    ("manager", "is_controller"),
    [
        ("kube-controller-manager", True),
        ("kueue", True),
        ("envoy", True),
        ("canary-watcher", True),
        ("manager", True),
        ("PrometheusOperator", True),
        ("cert-manager-certificates-issuing", True),
        ("operator", True),
        ("jobset", True),
        ("job", False),
        ("mallory", False),
        ("eve", False),
        ("kubectl-edit", False),
        ("kubectl-patch", False),
        ("kubectl", False),
        ("helm", False),
        ("argocd-controller", False),
    ],
)
def test_a_controller_is_known_by_what_it_does(manager: str, is_controller: bool) -> None:  # noqa: FBT001
    """A Lease where programs have theirs, a status of the platform's, a name of the platform's; no kubectl, ever."""
    assert (manager in controllers([DEPLOYMENT, OPERATOR, JOBSET], LEASES, ["kiban-serving"])) is is_controller


def test_entries_leave_status_out() -> None:
    """Through its subresource or not; what has no time comes last."""
    managed = [
        {"manager": "kubectl", "subresource": "scale", "fieldsV1": {"f:spec": {}}},
        STATUS | {"subresource": "", "fieldsV1": {"f:status": {}, "f:spec": {}}},
        STATUS,
    ]
    found = entries({"metadata": {"managedFields": managed}})
    assert [(entry.manager, entry.fields) for entry in found] == [
        ("canary-watcher", {"f:spec": {}}),
        ("kubectl", {"f:spec": {}}),
    ]
    assert entries({"metadata": {}}) == ()
