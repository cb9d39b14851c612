"""The loop from a model's traffic back to its successor: drift monitors, the retraining, and who may start one.

What the monitor and the retraining do is in pipelines/; alerts are components/monitoring.py's. Nothing is deployed from
here: a retraining ends with a proposal, which a person accepts.
"""

import dataclasses as dc
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pulumi
import pulumi_kubernetes as k8s

from components._labels import labels, selector
from components.metadata_store import MetadataStore
from components.pipeline_engine import PipelineEngine
from components.tenancy import Team, Tenancy

__all__ = ["Deployed", "RetrainingLoop", "RetrainingLoopArgs", "Watch"]

TEMPLATES = ("drift", "retrain")
ALERTMANAGER = ("kiban-monitoring", "alertmanager")
"""Namespace and name of the ServiceAccount that posts alerts, and app.kubernetes.io/name of its pods."""
RULE = "kiban-alerts-start-retrainings-only"
_CRON = re.compile(r"([\d*/,-]+ ){4}[\d*/,-]+")
_SHARE = (0.0, 1.0)


@dc.dataclass(frozen=True, kw_only=True)
class Watch:
    """How a model in service is watched, and when it is retrained.

    schedule: of the drift monitor, five cron fields, UTC. window_minutes: of the requests that it looks at.
    fewest_requests: rows in the window below which drift is not judged.
    drift_share, prediction_drift, accuracy: what the alerts compare with, 0 to 1; drift above, accuracy below.
    feed_range: the smallest and largest value that a request may have; None: those of the training data.
    hold: why it may not be retrained; empty: it may.
    cooldown_minutes: from one retraining to the next. budget_per_day: retrainings in 24 hours.
    fewest_labelled: labelled rows in the window below which nothing is trained.
    margin: by how much a candidate's accuracy must be better to be proposed, 0 to 1.
    Raises ValueError for a value out of bounds.
    """

    schedule: str = "7 * * * *"
    window_minutes: int = 1440
    fewest_requests: int = 200
    drift_share: float = 0.5
    prediction_drift: float = 0.3
    accuracy: float = 0.9
    feed_range: tuple[float, float] | None = None
    hold: str = ""
    cooldown_minutes: int = 360
    budget_per_day: int = 2
    fewest_labelled: int = 500
    margin: float = 0.01

    def __post_init__(self) -> None:
        if not _CRON.fullmatch(self.schedule):
            raise ValueError(f"watch: schedule={self.schedule!r}; accepted: five cron fields, such as '7 * * * *'")
        bounds: tuple[tuple[str, float, float], ...] = (
            ("window_minutes", 1, 44640),
            ("fewest_requests", 1, 20_000),
            ("cooldown_minutes", 0, 44640),
            ("budget_per_day", 0, 100),
            ("fewest_labelled", 100, 20_000),
            *((field, *_SHARE) for field in ("drift_share", "prediction_drift", "accuracy", "margin")),
        )
        for field, low, high in bounds:
            if not low <= getattr(self, field) <= high:
                raise ValueError(f"watch: {field}={getattr(self, field)!r}; accepted: {low:g} to {high:g}")
        if self.feed_range is not None and not self.feed_range[0] < self.feed_range[1]:
            raise ValueError(f"watch: feed_range={self.feed_range!r}; accepted: the smallest value, then the largest")


class Deployed(Protocol):
    """What the loop has to know of a model in service; stacks/models.yaml has it.

    version: of the registered model TEAM-NAME. uri: of the file, or of the folder that has model.pkl.
    digest: the file's SHA-256. watch: None for a model that is not watched.
    """

    @property
    def name(self) -> str:
        """The model's name, also of its InferenceService."""

    @property
    def team(self) -> str:
        """Whose it is."""

    @property
    def version(self) -> str:
        """MLflow's number of the version."""

    @property
    def uri(self) -> str:
        """Where the model is."""

    @property
    def digest(self) -> str:
        """What is there."""

    @property
    def watch(self) -> Watch | None:
        """How it is watched."""


@dc.dataclass(frozen=True, kw_only=True)
class RetrainingLoopArgs:
    """environment: whose models they are. target: whose entry a proposal changes, the lowest rung's.

    models: those of all teams; the ones without a watch are left alone.
    Raises ValueError for a model of no team.
    """

    environment: str
    target: str
    teams: tuple[Team, ...] = ()
    models: Sequence[Deployed] = ()

    def __post_init__(self) -> None:
        known = {team.name for team in self.teams}
        for model in self.models:
            if model.team not in known:
                raise ValueError(
                    f"model {model.name!r}: team={model.team!r}; accepted: {', '.join(sorted(known)) or 'none'}"
                )

    def watched(self, team: Team) -> list[Deployed]:
        """The team's models that are watched."""
        return [model for model in self.models if model.team == team.name and model.watch is not None]


class RetrainingLoop(pulumi.ComponentResource):
    """The chart, and the WorkflowTemplates of monitor and retraining in the namespace of every team.

    chart: the folder of charts/retraining. templates: a WorkflowTemplate's name to its manifest.
    after: what else has to be there first: the models in service, the monitoring that they are watched by.
    """

    def __init__(
        self,
        name: str,
        args: RetrainingLoopArgs,
        *,
        tenancy: Tenancy,
        metadata: MetadataStore,
        pipelines: PipelineEngine,
        after: Sequence[pulumi.Resource] = (),
        chart: str,
        templates: Mapping[str, Mapping[str, Any]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("kiban:components:RetrainingLoop", name, None, opts)
        tags = labels("retraining-loop", name)
        before = [pipelines, tenancy, metadata, *after]
        own = pulumi.ResourceOptions(parent=self, depends_on=before)
        rule = k8s.admissionregistration.v1.ValidatingAdmissionPolicy(
            f"{name}-rule", metadata={"name": RULE, "labels": tags}, spec=alerts_rule(), opts=own
        )
        k8s.admissionregistration.v1.ValidatingAdmissionPolicyBinding(
            f"{name}-rule-binding",
            metadata={"name": RULE, "labels": tags},
            spec={"policyName": rule.metadata["name"], "validationActions": ["Deny"]},
            opts=own,
        )
        declared = [
            k8s.apiextensions.CustomResource(
                f"{name}-{team.name}-template-{template}",
                api_version=templates[template]["apiVersion"],
                kind=templates[template]["kind"],
                metadata={"name": template, "namespace": tenancy.namespaces[team.name], "labels": tags},
                spec=templates[template]["spec"],
                # not of all that is there before the chart: the state would grow with the square of the teams
                opts=pulumi.ResourceOptions(parent=self, depends_on=pipelines.kinds),
            )
            for team in args.teams
            for template in TEMPLATES
        ]
        k8s.helm.v4.Chart(
            name,
            name="retraining",
            chart=chart,
            namespace=metadata.kubeflow_namespace,
            values=chart_values(args, tags=tags, argo_server=selector("argo-server", "pipelines")),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[*before, rule, *declared]),
        )
        self.register_outputs({})


def chart_values(
    args: RetrainingLoopArgs, *, tags: Mapping[str, str], argo_server: Mapping[str, str]
) -> dict[str, Any]:
    """Values of charts/retraining. argo_server: labels of its pods."""
    namespace, account = ALERTMANAGER
    return {
        "labels": dict(tags),
        "alertmanager": {"namespace": namespace, "serviceAccountName": account},
        "argoServer": dict(argo_server),
        "teams": [
            {
                "name": team.name,
                "namespace": team.namespace,
                "monitors": [
                    {"model": model.name, "schedule": model.watch.schedule}
                    for model in args.watched(team)
                    if model.watch
                ],
                "models": {model.name: deployed(model, args) for model in args.watched(team)},
                "retraining": {model.name: settings(model) for model in args.watched(team)},
            }
            for team in args.teams
        ],
    }


def alerts_rule() -> dict[str, Any]:
    """Spec of the admission policy for Workflows that Alertmanager's account makes.

    Who may make a Workflow may run anything as the team. In these nothing is another than in the template `retrain`
    but the name of the model and that of the alert.
    """
    namespace, account = ALERTMANAGER
    accepted = (
        "object.spec.all(field, field in ['arguments', 'workflowTemplateRef'])",
        "object.spec.?workflowTemplateRef.?name.orValue('') == 'retrain'",
        "object.spec.?arguments.?parameters.orValue([]).all(p, p.name in ['model', 'alert'])",
        "!has(object.spec.arguments.artifacts)",
    )
    workflows = {
        "apiGroups": ["argoproj.io"],
        "apiVersions": ["*"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["workflows"],
    }
    return {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [workflows]},
        "matchConditions": [
            {
                "name": "by-alertmanager",
                "expression": f"request.userInfo.username == 'system:serviceaccount:{namespace}:{account}'",
            }
        ],
        "validations": [
            {
                "expression": " && ".join(accepted),
                "message": "accepted: a Workflow of the WorkflowTemplate retrain, with the arguments model and alert",
            }
        ],
    }


def deployed(model: Deployed, args: RetrainingLoopArgs) -> str:
    """What the ConfigMap `models` says of a model (pipelines/monitor/steps/watched.py reads it)."""
    fields = {field: str(getattr(model, field)) for field in ("team", "name", "version", "uri", "digest")}
    return json.dumps(fields | {"environment": args.environment, "target": args.target}, sort_keys=True)


def settings(model: Deployed) -> str:
    """What the ConfigMap `retraining` says of a model: its watch, as it is."""
    return json.dumps(dc.asdict(model.watch) if model.watch else {}, sort_keys=True)
