"""Argo Workflows as values, rights and rendered objects; no cluster. The chart's other half is tests/charts'."""

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pulumi
import pytest
import yaml
from pulumi.runtime.mocks import MockCallArgs, MockMonitor, MockResourceArgs, Mocks, set_mocks

from components._databases import InCluster
from components._kubeflow import KubeflowPipelines
from components._object_store import Store
from components.foundation import Foundation, FoundationArgs
from components.metadata_store import MetadataStore, MetadataStoreArgs
from components.pipeline_engine import (
    PipelineEngine,
    PipelineEngineArgs,
    Retention,
    artifact_repository,
    chart_values,
    rules,
    workflow_pods_policy,
)
from components.tenancy import Team, Tenancy, TenancyArgs
from tests.charts.rendering import ROOT, Object, Refused, render

CHART = ROOT / "charts" / "pipelines"
VISION = Team(name="vision", owner="vision-oncall")
STORE = Store(endpoint="http://store.ns.svc:9000", region="here", buckets={"vision": "b-vision"}, backups="b")
QUEUED = PipelineEngineArgs(teams=(VISION,), queue="default", parallelism_per_team=7)


def values(args: PipelineEngineArgs) -> dict[str, Any]:
    """Return the chart's values for some arguments, of a platform without MySQL."""
    return chart_values(args, store=STORE, mysql=None, mlflow_uri="http://mlflow.ns.svc:5000", priority="first")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Object]]:
    """Return the chart's objects: `queued` and `unqueued`."""
    variants = {"queued": values(QUEUED), "unqueued": values(PipelineEngineArgs(teams=(VISION,)))}
    return render(CHART, variants, tmp_path_factory.mktemp("render"))


@pytest.fixture
def objects(rendered: dict[str, list[Object]]) -> list[Object]:
    """Return the objects of Argo alone, queued."""
    return rendered["queued"]


def of(objects: list[Object], kind: str) -> dict[str, Object]:
    """Return the objects of a kind by name."""
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def configuration(objects: list[Object]) -> dict[str, Any]:
    """Return the controller's configuration, each key parsed as Argo parses it."""
    data = of(objects, "ConfigMap")["workflow-controller-configmap"]["data"]
    return {key: yaml.safe_load(text) for key, text in data.items()}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"parallelism_per_team": 0}, r"parallelism_per_team=0; accepted: 1 to 1000"),
        ({"parallelism_per_team": 1001}, r"parallelism_per_team=1001; accepted: 1 to 1000"),
    ],
)
def test_a_parallelism_out_of_bounds_is_refused(given: dict[str, Any], message: str) -> None:
    """The error names the field, the value and what is accepted."""
    with pytest.raises(ValueError, match=message):
        PipelineEngineArgs(**given)


@pytest.mark.parametrize("field", ["succeeded", "failed"])
def test_a_retention_too_short_to_be_seen_is_refused(field: str) -> None:
    """A Workflow that is gone at its end could not even be recorded."""
    with pytest.raises(ValueError, match=rf"retention.{field}=59; accepted: 60 or more"):
        Retention(**{field: 59})


def test_values_are_what_an_environment_decides() -> None:
    """All else is once, in the chart's own values."""
    assert values(QUEUED) == {
        "argo": {
            "priorityClassName": "first",
            "parallelismPerNamespace": 7,
            "queue": "default",
            "serviceAccountName": "pipeline-runner",
            "retention": {"succeededSeconds": 604800, "failedSeconds": 1209600},
        }
    }


def test_kubeflow_pipelines_need_a_mysql() -> None:
    """Said before anything is made."""
    args = PipelineEngineArgs(kubeflow=KubeflowPipelines())
    with pytest.raises(ValueError, match=r"kubeflow without metadata.mysql; accepted: both, or neither"):
        values(args)


def test_a_teams_artifacts_are_in_its_bucket_with_its_keys() -> None:
    """The repository is the default of the team's namespace; whether there is TLS, the endpoint says."""
    within = yaml.safe_load(artifact_repository(STORE, VISION))["s3"]
    assert (within["endpoint"], within["insecure"], within["bucket"]) == ("store.ns.svc:9000", True, "b-vision")
    assert within["keyFormat"] == "runs/{{workflow.name}}/{{pod.name}}"
    assert within["secretKeySecret"] == {"name": "mlpipeline-minio-artifact", "key": "secretkey"}
    outside = Store(endpoint="https://s3.example.com", region="eu", buckets={"vision": "x"}, backups="b")
    s3 = yaml.safe_load(artifact_repository(outside, VISION))["s3"]
    assert (s3["endpoint"], s3["insecure"], s3["region"]) == ("s3.example.com", False, "eu")


def test_a_step_may_report_and_read_its_run_and_nothing_else() -> None:
    """No rule lets it make pods, read secrets or change a Workflow."""
    assert {(resource, verb) for rule in rules() for resource in rule["resources"] for verb in rule["verbs"]} == {
        ("workflowtaskresults", "create"),
        ("workflowtaskresults", "patch"),
        ("workflows", "get"),
        ("pods", "get"),
        ("pods", "list"),
    }


def test_only_pods_of_workflows_reach_the_api_server() -> None:
    """The policy lets nothing in, and nobody else out."""
    policy = workflow_pods_policy()
    assert policy["podSelector"] == {
        "matchExpressions": [{"key": "workflows.argoproj.io/workflow", "operator": "Exists"}]
    }
    assert policy["policyTypes"] == ["Egress"]
    assert [port["port"] for each in policy["egress"] for port in each["ports"]] == [443, 6443]


def test_names_are_upstreams(objects: list[Object]) -> None:
    """Other tools look for Argo under them."""
    assert of(objects, "Deployment").keys() == {"workflow-controller", "argo-server"}
    assert of(objects, "ConfigMap").keys() == {"workflow-controller-configmap"}
    services = {name: each["spec"]["ports"][0]["port"] for name, each in of(objects, "Service").items()}
    assert services == {"workflow-controller-metrics": 9090, "argo-server": 2746}
    accounts = {each["spec"]["template"]["spec"]["serviceAccountName"] for each in of(objects, "Deployment").values()}
    assert accounts == of(objects, "ServiceAccount").keys() == {"argo", "argo-server"}


def test_every_service_finds_the_pods_of_its_deployment(objects: list[Object]) -> None:
    """By the three labels that are frozen."""
    for service, deployment in (("workflow-controller-metrics", "workflow-controller"), ("argo-server", "argo-server")):
        selector = of(objects, "Service")[service]["spec"]["selector"]
        assert selector == {
            "app.kubernetes.io/name": deployment,
            "app.kubernetes.io/instance": "pipelines",
            "app.kubernetes.io/component": deployment,
        }
        made = of(objects, "Deployment")[deployment]["spec"]
        assert selector == made["selector"]["matchLabels"]
        assert selector.items() <= made["template"]["metadata"]["labels"].items()


def test_pods_of_argo_are_restricted_bounded_and_probed(objects: list[Object]) -> None:
    """Pod Security `restricted`, requests and limits, probes, a read-only root, the highest priority."""
    for deployment in of(objects, "Deployment").values():
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["priorityClassName"] == "first"
        (container,) = pod["containers"]
        assert_bare(container["securityContext"])
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["resources"].keys() == {"requests", "limits"}
        assert {"readinessProbe", "livenessProbe"} <= container.keys()
        assert container["command"]


def assert_bare(context: dict[str, Any]) -> None:
    """Fail unless a container's security context is what Pod Security `restricted` asks of a container."""
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_a_container_that_is_started_again_leads_at_once(objects: list[Object]) -> None:
    """The lease is held in the pod's name, not the process's: nothing waits for it to run out."""
    (container,) = of(objects, "Deployment")["workflow-controller"]["spec"]["template"]["spec"]["containers"]
    identity = next(each for each in container["env"] if each["name"] == "LEADER_ELECTION_IDENTITY")
    assert identity["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"


def test_argo_server_acts_as_its_callers_and_reads_no_secret(objects: list[Object]) -> None:
    """Each call needs a token of its own, over TLS; the server's own rights are to look at workflows."""
    (container,) = of(objects, "Deployment")["argo-server"]["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["server", "--auth-mode=client", "--secure=true"]
    for kind, role in (("ClusterRole", "argo-server-cluster-role"), ("Role", "argo-server-role")):
        for rule in of(objects, kind)[role]["rules"]:
            assert "secrets" not in rule["resources"]
            assert set(rule["verbs"]) <= {"get", "list", "watch"} or rule["resources"] == ["events"]


def test_the_controller_changes_nothing_where_nobody_bound_it(objects: list[Object]) -> None:
    """What it has in the whole cluster is reading; what it does to pods it does where argo-runs is bound."""
    (binding,) = (each for each in of(objects, "ClusterRoleBinding").values() if each["subjects"][0]["name"] == "argo")
    for rule in of(objects, "ClusterRole")[binding["roleRef"]["name"]]["rules"]:
        assert rule["verbs"] == ["get", "list", "watch"]
        assert "secrets" not in rule["resources"]
    bound = {
        each["roleRef"]["name"] for kind in ("ClusterRoleBinding", "RoleBinding") for each in of(objects, kind).values()
    }
    assert "argo-runs" not in bound


def test_no_right_is_to_everything(objects: list[Object]) -> None:
    """No rule has a star."""
    for kind in ("ClusterRole", "Role"):
        for role in of(objects, kind).values():
            assert "*" not in json.dumps(role["rules"])


def test_workflows_have_defaults_under_which_they_pass_pod_security(objects: list[Object]) -> None:
    """The pod's, a step's and the executor's contexts together are `restricted`, whatever a template says of it."""
    config = configuration(objects)
    pod = config["workflowDefaults"]["spec"]["securityContext"]
    assert (pod["runAsNonRoot"], pod["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    assert pod["runAsUser"] > 0
    for container in ("executor", "mainContainer"):
        assert_bare(config[container]["securityContext"])
    assert config["executor"]["resources"].keys() == {"requests", "limits"}


def test_workflows_are_queued_kept_and_tried_again_by_default(objects: list[Object]) -> None:
    """Queue, ServiceAccount, retention, retries on what passes by itself, logs in the object store."""
    spec = configuration(objects)["workflowDefaults"]["spec"]
    assert spec["podMetadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "default"}
    assert spec["serviceAccountName"] == "pipeline-runner"
    assert spec["ttlStrategy"] == {"secondsAfterSuccess": 604800, "secondsAfterFailure": 1209600}
    assert spec["templateDefaults"]["retryStrategy"]["retryPolicy"] == "OnTransientError"
    assert spec["archiveLogs"] is True


def test_parallelism_is_a_namespaces(objects: list[Object]) -> None:
    """A team that submits many workflows keeps no other team's from starting."""
    config = configuration(objects)
    assert config["namespaceParallelism"] == 7
    assert "parallelism" not in config


def test_controller_and_executor_know_the_same_errors_as_transient(objects: list[Object]) -> None:
    """Else a step would be given up by the one that the other would try again."""
    (container,) = of(objects, "Deployment")["workflow-controller"]["spec"]["template"]["spec"]["containers"]
    name = "TRANSIENT_ERROR_PATTERN"
    (controllers,) = (each["value"] for each in container["env"] if each["name"] == name)
    (executors,) = (each["value"] for each in configuration(objects)["executor"]["env"] if each["name"] == name)
    assert controllers == executors
    assert "pod deleted" in controllers


def test_without_kueue_no_pod_names_a_queue(rendered: dict[str, list[Object]]) -> None:
    """A label of a queue that is not there would mean nothing."""
    assert "podMetadata" not in configuration(rendered["unqueued"])["workflowDefaults"]["spec"]


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"argo": {"paralelism": 3}}, "paralelism"),
        ({"argo": {"parallelismPerNamespace": 0}}, "parallelismPerNamespace"),
        ({"argo": {"images": {"controller": "argo"}}}, "controller"),
        ({"argo": {"retention": {"failedSeconds": "1h"}}}, "failedSeconds"),
        ({"agro": {}}, "agro"),
    ],
)
def test_a_value_outside_the_schema_is_refused_with_its_path(
    wrong: dict[str, Any], path: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Helm refuses it before it renders anything."""
    with pytest.raises(Refused, match=path):
        render(CHART, {"wrong": wrong}, tmp_path_factory.mktemp("wrong"))


def test_the_schema_describes_every_value_and_lets_no_other_in() -> None:
    """So it is the documentation too."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    schema["properties"] = {"argo": schema["properties"]["argo"]}
    for path, each in described(schema, "values"):
        assert each.get("additionalProperties", False) is not True, path
        if "properties" in each:
            assert each["additionalProperties"] is False, path
        assert "description" in each or "$ref" in each, path


def described(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return every property below a schema with its path."""
    for name, each in schema.get("properties", {}).items():
        yield f"{path}.{name}", each
        yield from described(each, f"{path}.{name}")


class Monitor(MockMonitor):
    """Pulumi's mock of the engine, which also notes what is kept in the cluster and what each resource waits for."""

    kept: set[str]
    after: dict[str, set[str]]

    def RegisterResource(self, request: Any) -> Any:  # noqa: ANN401, N802  as the base class has it
        """Take a resource."""
        self.after[request.name] = {urn.rsplit("::", 1)[-1] for urn in request.dependencies}
        if request.retainOnDelete:
            self.kept.add(request.name)
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]


class Recorder(Mocks):
    """Remembers every Kubernetes object that is registered."""

    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {}

    def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        """Take a resource as it is."""
        if args.typ.startswith("kubernetes:") and "metadata" in args.inputs:
            self.made[f"{args.typ.rpartition(':')[2]} {args.name}"] = dict(args.inputs)
        return f"{args.name}-id", dict(args.inputs)

    def call(self, args: MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        """Answer no function."""
        raise NotImplementedError(args.token)


def declared(args: PipelineEngineArgs) -> tuple[dict[str, dict[str, Any]], Monitor]:
    """Return what the component declares for one team, a kind and a template, by type and name."""
    recorder = Recorder()
    monitor = Monitor(recorder)
    monitor.kept, monitor.after = set(), {}
    set_mocks(recorder, project="kiban", stack="small", preview=False, monitor=monitor)

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def program() -> None:
        foundation = Foundation("foundation", FoundationArgs())
        tenancy = Tenancy("tenancy", TenancyArgs(teams=(VISION,)), foundation=foundation)
        store = InCluster(storage_gib=1)
        metadata = MetadataStore(
            "metadata",
            MetadataStoreArgs(teams=(VISION,), mysql=store if args.kubeflow else None),
            foundation=foundation,
            tenancy=tenancy,
            credentials=defaultdict(lambda: "secret"),
            slots={},
        )
        PipelineEngine(
            "pipelines",
            args,
            foundation=foundation,
            tenancy=tenancy,
            metadata=metadata,
            chart="/charts/pipelines",
            crds={KIND["metadata"]["name"]: KIND},
            templates={"train": {"apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTemplate", "spec": {}}},
        )

    program()
    return {name: each for name, each in recorder.made.items() if " pipelines" in name}, monitor


KIND: Object = {
    "metadata": {"name": "workflows.argoproj.io"},
    "spec": {
        "group": "argoproj.io",
        "scope": "Namespaced",
        "names": {"kind": "Workflow", "plural": "workflows"},
        "versions": [],
    },
}


def test_a_team_gets_all_that_its_workflows_need() -> None:
    """Names are contracts: Argo looks for some, users and other components name the rest."""
    made, _ = declared(QUEUED)
    within = {
        f"{name.partition(' ')[0]} {each['metadata']['name']}"
        for name, each in made.items()
        if each["metadata"].get("namespace") == "team-vision"
    }
    assert within == {
        "ServiceAccount pipeline-runner",
        "Role pipeline-runner",
        "RoleBinding pipeline-runner",
        "RoleBinding argo-runs",
        "ConfigMap artifact-repositories",
        "NetworkPolicy allow-workflows-to-api-server",
        "WorkflowTemplate train",
    }


def test_a_kind_is_never_deleted_with_the_program_and_is_there_before_what_is_of_it() -> None:
    """Deleting a definition would delete every object of its kind."""
    _, monitor = declared(QUEUED)
    assert "pipelines-crd-workflows.argoproj.io" in monitor.kept
    for name in ("pipelines", "pipelines-vision-template-train"):
        assert "pipelines-crd-workflows.argoproj.io" in monitor.after[name]


def test_the_controller_makes_pods_in_kubeflows_namespace_only_where_runs_are_there() -> None:
    """In standalone mode; in multi-user mode each team's runs are in its own."""
    for mode, there in (("standalone", True), ("multi-user", False)):
        kubeflow = KubeflowPipelines(mode=mode)
        made, _ = declared(PipelineEngineArgs(teams=(VISION,), kubeflow=kubeflow))
        where = {each["metadata"]["namespace"] for name, each in made.items() if name.endswith("-argo-runs")}
        assert where == ({"team-vision", "kubeflow"} if there else {"team-vision"})
