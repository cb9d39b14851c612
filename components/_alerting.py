"""Alertmanager's configuration: who is told what, and what starts a team's retraining."""

from collections.abc import Sequence
from typing import Any

from components._metadata import KUBEFLOW
from components._monitoring import KIND_FIELDS, MonitoringArgs, Receiver
from components.tenancy import Team

ARGO_PORT = 2746
RECEIVERS = "alertmanager-receivers"
"""The Secret with receivers' credentials, by their names."""
_FILES = f"/etc/alertmanager/secrets/{RECEIVERS}"
_ARGO_TOKEN = "/var/run/secrets/kiban.dev/argo/token"  # noqa: S105 - a path


def alertmanager(args: MonitoringArgs) -> dict[str, Any]:
    """Alertmanager's configuration: by severity to the receivers, and to a team's retraining what asks for that.

    An alert goes to all whom it concerns. It names no secret, only the files that have them.
    """
    retrained = args.teams if args.retraining else ()
    return {
        "route": {
            "receiver": "none",
            "group_by": ["alertname", "namespace", "team", "model"],
            "group_wait": "30s",
            "group_interval": "5m",
            "repeat_interval": "4h",
            "routes": [*(_retraining_route(team) for team in retrained), *(_route(one) for one in args.receivers)],
        },
        "receivers": [
            {"name": "none"},
            *(_retraining(team) for team in retrained),
            *(_receiver(one) for one in args.receivers),
        ],
        "inhibit_rules": [
            # what is critical about one thing says what is worth a warning about it
            _silences(["team", "model"], 'retrain!="true"'),
            _silences(["namespace", "persistentvolumeclaim"]),
        ],
    }


def _silences(equal: Sequence[str], *more: str) -> dict[str, Any]:
    """A critical alert silences warnings with the same labels.

    They have to be there: Alertmanager takes two alerts that both lack a label for equal in it.
    """
    there = [f'{label}=~".+"' for label in equal]
    return {
        "source_matchers": ['severity="critical"', *there],
        "target_matchers": ['severity="warning"', *there, *more],
        "equal": list(equal),
    }


def _retraining_route(team: Team) -> dict[str, Any]:
    return {
        "receiver": f"retrain-{team.name}",
        "matchers": ['retrain="true"', f'team="{team.name}"'],
        "group_by": ["team", "model"],
        "group_wait": "10s",  # for the model's other alerts; a second run would be refused anyway
        "group_interval": "1m",
        "repeat_interval": "1h",
        "continue": True,
    }


def _route(receiver: Receiver) -> dict[str, Any]:
    severities = "|".join(receiver.severities)
    return {"receiver": receiver.name, "matchers": [f'severity=~"{severities}"'], "continue": True}


def _retraining(team: Team) -> dict[str, Any]:
    """The receiver that submits the team's WorkflowTemplate `retrain` by argo-server's event endpoint (Argo 3.7)."""
    return {
        "name": f"retrain-{team.name}",
        "webhook_configs": [
            {
                "url": f"https://argo-server.{KUBEFLOW}.svc:{ARGO_PORT}/api/v1/events/{team.namespace}/retrain",
                "send_resolved": False,
                "http_config": {
                    "authorization": {"type": "Bearer", "credentials_file": _ARGO_TOKEN},
                    # the certificate is the process's own and new at every start; who it is, the NetworkPolicies say
                    "tls_config": {"insecure_skip_verify": True},
                },
            }
        ],
    }


def _receiver(receiver: Receiver) -> dict[str, Any]:
    kind, field = KIND_FIELDS[receiver.kind]
    return {"name": receiver.name, kind: [{"send_resolved": True, field: f"{_FILES}/{receiver.name}"}]}
