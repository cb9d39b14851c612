"""Faults: what is waited for in vain is said. What each does is shown by tests/acceptance/test_rehearsal.py."""

from typing import Any

import pytest

from infra.rehearsal import faults

HOOKS = "/apis/admissionregistration.k8s.io/v1"
SERVICE = {"namespace": "kueue-system", "name": "hook"}
DEPLOYMENT = "/apis/apps/v1/namespaces/kueue-system/deployments/kueue"


class Stubborn:
    """An API server with a webhook, whose pods never come back once they were taken away."""

    def __init__(self) -> None:
        self.replicas = [2]

    def get(self, path: str) -> dict[str, Any]:
        """Return what is there."""
        template = {"metadata": {"labels": {"app": "kueue"}}}
        status = {} if len(self.replicas) > 1 else {"replicas": 2, "readyReplicas": 2}
        deployment: dict[str, Any] = {
            "metadata": {"name": "kueue"},
            "spec": {"replicas": self.replicas[-1], "template": template},
            "status": status,
        }
        there: dict[str, dict[str, Any]] = {
            f"{HOOKS}/mutatingwebhookconfigurations": {
                "items": [{"webhooks": [{"clientConfig": {"service": SERVICE}}]}]
            },
            f"{HOOKS}/validatingwebhookconfigurations": {"items": []},
            "/api/v1/namespaces/kueue-system/services/hook": {"spec": {"selector": {"app": "kueue"}}},
            "/apis/apps/v1/namespaces/kueue-system/deployments": {"items": [deployment]},
            DEPLOYMENT: deployment,
        }
        return there[path]

    def merge(self, path: str, patch: dict[str, Any]) -> None:
        """Take a number of replicas."""
        assert path == DEPLOYMENT
        self.replicas.append(patch["spec"]["replicas"])


def test_pods_that_do_not_come_back_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The upgrade goes on, as many replicas are asked for as there were, and what is found next has its reason."""
    monkeypatch.setattr(faults, "_SECONDS", 0.3)
    api: Any = Stubborn()
    said: list[str] = []
    with faults.FAULTS["webhook-down"](api, said.append):
        assert said == ["fault webhook-down: 1 Deployments behind webhooks are scaled to 0"]
    assert said[1:] == ["fault: all of their pods are back: not within 0.3 s"]
    assert api.replicas == [2, 0, 2]
