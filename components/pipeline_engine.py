"""Pipelines: Argo Workflows and, where asked for, Kubeflow Pipelines; and in every team's namespace what runs need.

Pods of workflows are queued one by one, each as a Workload of Kueue's: a step starts when the team's queue has room.
Where artifacts and metadata are kept is components/metadata_store.py.
"""

import dataclasses as dc
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_kubernetes as k8s
import yaml

from components._crds import definitions
from components._databases import Database
from components._kubeflow import STORE_SECRET, KubeflowPipelines, kfp_secrets, kfp_values
from components._labels import labels
from components._metadata import KUBEFLOW, KUBEFLOW_OWNER, NAMESPACE
from components._network import api_server
from components._object_store import Store
from components.foundation import Foundation
from components.metadata_store import MetadataStore
from components.tenancy import Team, Tenancy

__all__ = ["KubeflowPipelines", "PipelineEngine", "PipelineEngineArgs", "Retention"]

RUNNER = "pipeline-runner"
"""The ServiceAccount of a workflow's pods."""
_WORKFLOW = "workflows.argoproj.io/workflow"


@dc.dataclass(frozen=True, kw_only=True)
class Retention:
    """How long a Workflow stays in the cluster after its end, in seconds; what it made is in the object store.

    failed: its pods stay as long, those of one that succeeded go at once. Raises ValueError for less than a minute.
    """

    succeeded: int = 7 * 24 * 3600
    failed: int = 14 * 24 * 3600

    def __post_init__(self) -> None:
        for field in ("succeeded", "failed"):
            if getattr(self, field) < 60:
                raise ValueError(
                    f"pipelines: retention.{field}={getattr(self, field)!r}; accepted: 60 or more (seconds)"
                )


@dc.dataclass(frozen=True, kw_only=True)
class PipelineEngineArgs:
    """How the teams' workflows are run.

    parallelism_per_team: how many of a team's at once, 1 to 1000; what they may use together is for its queue to say.
    queue: the LocalQueue in every team's namespace; None for a cluster without Kueue.
    certificates: whether there is cert-manager, for `kubeflow`.
    kubeflow: None for Argo alone.
    """

    teams: tuple[Team, ...] = ()
    parallelism_per_team: int = 20
    retention: Retention = dc.field(default_factory=Retention)
    queue: str | None = None
    certificates: bool = True
    kubeflow: KubeflowPipelines | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.parallelism_per_team <= 1000:
            raise ValueError(
                f"pipelines: parallelism_per_team={self.parallelism_per_team!r}; accepted: 1 to 1000 (workflows)"
            )


class PipelineEngine(pulumi.ComponentResource):
    """The kinds, the chart, and per team a ServiceAccount with its rights, an artifact repository and templates.

    chart: the folder of charts/pipelines. crds: a definition's name to its manifest.
    templates: a WorkflowTemplate's name to its manifest; every team gets each of them.
    `server` is argo-server's address within the cluster; `kinds` is what an object of Argo's kinds depends on.
    """

    server: pulumi.Output[str]
    kinds: list[pulumi.Resource]

    def __init__(
        self,
        name: str,
        args: PipelineEngineArgs,
        *,
        foundation: Foundation,
        tenancy: Tenancy,
        metadata: MetadataStore,
        chart: str,
        crds: Mapping[str, Mapping[str, Any]],
        templates: Mapping[str, Mapping[str, Any]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("kiban:components:PipelineEngine", name, None, opts)
        tags = labels("pipeline-engine", name)
        values = chart_values(
            args,
            store=metadata.object_store,
            mysql=metadata.mysql,
            mlflow_uri=metadata.mlflow_uri,
            priority=foundation.highest,
        )
        self.kinds = definitions(f"{name}-crd", crds, tags, parent=self)
        before: list[pulumi.Resource] = [*self.kinds, foundation.priorities[foundation.highest]]
        if args.kubeflow is not None:
            # It asks its databases and its bucket at once, has certificates, and in standalone mode a queue.
            before += [foundation, tenancy, *metadata.ready]
            before += self._secrets(
                name, args.kubeflow, teams=args.teams, tenancy=tenancy, metadata=metadata, tags=tags
            )
        k8s.helm.v4.Chart(
            name,
            name="pipelines",
            chart=chart,
            namespace=metadata.kubeflow_namespace,
            values=values,
            opts=pulumi.ResourceOptions(parent=self, depends_on=before),
        )
        if args.kubeflow is not None and not args.kubeflow.multi_user:
            self._let_runs(f"{name}-standalone", metadata.kubeflow_namespace, metadata, tags)
        for team in args.teams:
            namespace = tenancy.namespaces[team.name]
            self._let_runs(f"{name}-{team.name}", namespace, metadata, tags)
            self._team(f"{name}-{team.name}", team, namespace, metadata.object_store, tags)
            for template, manifest in templates.items():
                k8s.apiextensions.CustomResource(
                    f"{name}-{team.name}-template-{template}",
                    api_version=manifest["apiVersion"],
                    kind=manifest["kind"],
                    metadata={"name": template, "namespace": namespace, "labels": tags},
                    spec=manifest["spec"],
                    opts=pulumi.ResourceOptions(parent=self, depends_on=self.kinds),
                )
        self.server = pulumi.Output.concat("argo-server.", metadata.kubeflow_namespace, ".svc:2746")
        self.register_outputs({"server": self.server})

    def _secrets(
        self,
        name: str,
        kubeflow: KubeflowPipelines,
        *,
        teams: Sequence[Team],
        tenancy: Tenancy,
        metadata: MetadataStore,
        tags: dict[str, str],
    ) -> list[pulumi.Resource]:
        """Declare the Secrets of Kubeflow Pipelines, each where it is read."""
        spaces = {team.namespace: tenancy.namespaces[team.name] for team in teams}
        spaces[KUBEFLOW] = metadata.kubeflow_namespace
        keys = metadata.keys(KUBEFLOW_OWNER)
        given = metadata.credentials
        declared = kfp_secrets(
            kubeflow,
            namespace=KUBEFLOW,
            mysql=(metadata.mysql.user if metadata.mysql else "", given["mysql"]),
            store=(keys.apply(operator.itemgetter(0)), keys.apply(operator.itemgetter(1))),
            mlflow={owner: given[f"mlflow-{owner}"] for owner in (KUBEFLOW_OWNER, *(t.name for t in teams))},
            teams=teams,
        )
        return [
            k8s.core.v1.Secret(
                f"{name}-{space}-{secret}",
                metadata={"name": secret, "namespace": spaces[space], "labels": tags},
                string_data=data,
                opts=pulumi.ResourceOptions(parent=self),
            )
            for (space, secret), data in declared.items()
        ]

    def _let_runs(
        self, name: str, namespace: pulumi.Output[str], metadata: MetadataStore, tags: dict[str, str]
    ) -> None:
        """Let the controller make pods in a namespace."""
        k8s.rbac.v1.RoleBinding(
            f"{name}-argo-runs",
            metadata={"name": "argo-runs", "namespace": namespace, "labels": tags},
            role_ref=_role("ClusterRole", "argo-runs"),
            subjects=[{"kind": "ServiceAccount", "name": "argo", "namespace": metadata.kubeflow_namespace}],
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _team(self, name: str, team: Team, namespace: pulumi.Output[str], store: Store, tags: dict[str, str]) -> None:
        """Declare what workflows in a team's namespace need: rights, artifact repository, way to the API server."""
        own = pulumi.ResourceOptions(parent=self)
        within: dict[str, Any] = {"namespace": namespace, "labels": tags}
        k8s.core.v1.ServiceAccount(
            f"{name}-runner",
            metadata={"name": RUNNER, **within},
            automount_service_account_token=True,  # beside every step, argoexec reports its result
            opts=own,
        )
        k8s.rbac.v1.Role(f"{name}-runner", metadata={"name": RUNNER, **within}, rules=rules(), opts=own)
        k8s.rbac.v1.RoleBinding(
            f"{name}-runner",
            metadata={"name": RUNNER, **within},
            role_ref=_role("Role", RUNNER),
            subjects=[{"kind": "ServiceAccount", "name": RUNNER, "namespace": namespace}],
            opts=own,
        )
        k8s.core.v1.ConfigMap(
            f"{name}-artifact-repositories",
            metadata={
                "name": "artifact-repositories",
                "annotations": {"workflows.argoproj.io/default-artifact-repository": "default"},
                **within,
            },
            data={"default": artifact_repository(store, team)},
            opts=own,
        )
        k8s.networking.v1.NetworkPolicy(
            f"{name}-workflows-to-api-server",
            metadata={"name": "allow-workflows-to-api-server", **within},
            spec=workflow_pods_policy(),
            opts=own,
        )


def _role(kind: str, name: str) -> dict[str, str]:
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}


def chart_values(
    args: PipelineEngineArgs, *, store: Store, mysql: Database | None, mlflow_uri: str, priority: str
) -> dict[str, Any]:
    """Values of charts/pipelines: what an environment decides; all else is in its values.yaml.

    Raises ValueError for Kubeflow Pipelines without a MySQL, and what `kfp_values` does.
    """
    argo = {
        "priorityClassName": priority,
        "parallelismPerNamespace": args.parallelism_per_team,
        "queue": args.queue or "",
        "serviceAccountName": RUNNER,
        "retention": {"succeededSeconds": args.retention.succeeded, "failedSeconds": args.retention.failed},
    }
    if args.kubeflow is None:
        return {"argo": argo}
    if mysql is None:
        raise ValueError("pipelines: kubeflow without metadata.mysql; accepted: both, or neither")
    kfp = kfp_values(
        args.kubeflow,
        mysql=mysql,
        store=store,
        bucket=store.buckets[KUBEFLOW_OWNER],
        mlflow_uri=mlflow_uri,
        metadata_namespace=NAMESPACE,
        teams=args.teams,
        queueing=args.queue is not None,
        certificates=args.certificates,
        priority=priority,
    )
    return {"argo": argo, "kfp": kfp}


def rules() -> list[dict[str, Any]]:
    """What a workflow's pods may do: report results (argoexec's least, Argo 3.7), and read what their run consists of.

    The reading is for steps that record the run: its Workflow, and of its pods the images' digests and the nodes.
    """
    return [
        {"apiGroups": ["argoproj.io"], "resources": ["workflowtaskresults"], "verbs": ["create", "patch"]},
        {"apiGroups": ["argoproj.io"], "resources": ["workflows"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
    ]


def artifact_repository(store: Store, team: Team) -> str:
    """The team's repository as Argo reads it from the namespace's ConfigMap; logs of steps go there too."""
    scheme, _, address = store.endpoint.partition("://")
    s3 = {
        "endpoint": address,
        "insecure": scheme == "http",
        "region": store.region,
        "bucket": store.buckets[team.name],
        "keyFormat": "runs/{{workflow.name}}/{{pod.name}}",
        "accessKeySecret": {"name": STORE_SECRET, "key": "accesskey"},
        "secretKeySecret": {"name": STORE_SECRET, "key": "secretkey"},
    }
    return yaml.safe_dump({"s3": s3})


def workflow_pods_policy() -> dict[str, Any]:
    """Spec of the NetworkPolicy that lets pods of workflows, and of nothing else, call the API server."""
    return {
        "podSelector": {"matchExpressions": [{"key": _WORKFLOW, "operator": "Exists"}]},
        "policyTypes": ["Egress"],
        "egress": api_server()["allow-api-server"]["egress"],
    }
