"""Webhooks: what stops while one is down, and whether it can be called."""

from typing import Any

import pytest

from components._labels import TEAM
from infra.rehearsal.checks.webhooks import CHECKS
from infra.rehearsal.snapshot import Object
from tests.rehearsal.checks.clusters import deployment, made, outcome, said, snapshot, space

OWN = "kueue-system"
SERVICE = {"name": "webhook", "namespace": OWN}
PODS = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
JOBS = PODS | {"apiGroups": ["batch"], "resources": ["jobs"]}
QUEUES = PODS | {"apiGroups": ["kueue.x-k8s.io"], "resources": ["*"]}
OF_TEAMS = {"matchExpressions": [{"key": TEAM, "operator": "Exists"}]}
NOT_ITS_OWN = {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [OWN]}]}
OF_MODELS = {"matchExpressions": [{"key": "serving.kserve.io/inferenceservice", "operator": "Exists"}]}
THERE = (
    space("kube-system", platform=False, level=None),
    space("default", platform=False, level=None),
    space(OWN),
    space("kiban-metadata"),
    space("team-vision", team="vision"),
    made("v1", "Service", "webhook", OWN, spec={"selector": {"app": "manager"}, "ports": [{"port": 443}]}),
    deployment("manager", OWN),
)
ELSEWHERE = "default, kiban-metadata, kube-system"


def hook(rule: Object = PODS, **more: Any) -> Object:  # noqa: ANN401 - fields of the webhook
    """Return a configuration of one webhook that the API server can call."""
    one = {"name": "mpod", "clientConfig": {"service": SERVICE, "caBundle": "x"}, "failurePolicy": "Fail"}
    api = "admissionregistration.k8s.io/v1"
    return made(api, "MutatingWebhookConfiguration", "kueue", webhooks=[one | {"rules": [rule]} | more])


def found(configuration: Object, *more: Object) -> list[str]:
    """Return what is said of it, without its name."""
    every = said(CHECKS, "webhook-reach", snapshot(configuration, *THERE, *more))
    assert all(each.startswith("MutatingWebhookConfiguration kueue: mpod: ") for each in every)
    return [each.removeprefix("MutatingWebhookConfiguration kueue: mpod: ") for each in every]


@pytest.mark.parametrize(
    "configuration",
    [
        hook(namespaceSelector=OF_TEAMS),
        hook(JOBS, namespaceSelector=OF_TEAMS),
        hook(failurePolicy="Ignore"),
        hook(QUEUES, timeoutSeconds=30),
        hook(objectSelector=OF_MODELS, namespaceSelector={}),
        hook(PODS | {"resources": ["*"], "scope": "Namespaced"}, namespaceSelector=OF_TEAMS),
        hook(matchConditions=[{"name": "teams", "expression": "namespaceObject.metadata.labels.exists(l, l == 'x')"}]),
        hook(clientConfig={"url": "https://elsewhere.example.com", "caBundle": "x"}, failurePolicy="Ignore"),
    ],
    ids=[
        "pods of teams",
        "jobs of teams",
        "ignored while it is down",
        "kinds of its own",
        "pods that ask for it",
        "all of teams",
        "by a condition",
        "outside of the cluster",
    ],
)
def test_a_webhook_that_keeps_to_its_business_is_fine(configuration: Object) -> None:
    """Teams' namespaces, objects that ask for it, kinds of its own."""
    seen = outcome(CHECKS, "webhook-reach", snapshot(configuration, *THERE))
    assert (seen.evidence, seen.looked_at, seen.findings) == ("simulated", 1, ())


def test_a_webhook_for_all_pods_is_found_to_stop_others_and_itself() -> None:
    """Its own pod would have to be admitted by itself."""
    assert found(hook()) == [
        f"while it is down no pods can be made or changed in {ELSEWHERE}",
        f"while it is down no pods can be made or changed in {OWN}, where it is itself",
    ]


def test_a_webhook_that_leaves_itself_out_is_found_to_stop_others() -> None:
    """Kueue's pods' webhook as the chart has it where no namespaces are selected."""
    assert found(hook(namespaceSelector=NOT_ITS_OWN)) == [
        f"while it is down no pods can be made or changed in {ELSEWHERE}"
    ]


def test_its_own_pods_may_be_left_out_by_their_labels() -> None:
    """Others in its namespace are its business."""
    others = {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["manager"]}]}
    assert not found(
        hook(objectSelector=others, namespaceSelector={"matchLabels": {"kubernetes.io/metadata.name": OWN}})
    )


def test_pods_that_ask_for_it_elsewhere_are_stopped() -> None:
    """A pod of the platform's has the label by which it selects."""
    model = deployment("model")
    model["spec"]["template"]["metadata"]["labels"]["serving.kserve.io/inferenceservice"] = "x"
    assert found(hook(objectSelector=OF_MODELS), model) == [
        "while it is down no pods can be made or changed in kiban-metadata"
    ]


@pytest.mark.parametrize(
    ("rule", "resources"),
    [
        (JOBS, ["jobs"]),
        (PODS | {"resources": ["pods/binding"]}, ["pods"]),
        (PODS | {"apiGroups": ["*"], "resources": ["deployments", "jobs"]}, ["deployments", "jobs"]),
        (PODS | {"resources": ["namespaces"]}, ["namespaces"]),
    ],
)
def test_all_that_a_cluster_stands_on_counts(rule: Object, resources: list[str]) -> None:
    """Not only pods."""
    expected = [f"while it is down no {each} can be made or changed in {ELSEWHERE}" for each in resources]
    assert found(hook(rule, namespaceSelector=NOT_ITS_OWN)) == expected


def test_nodes_are_in_no_namespace() -> None:
    """So no selector of namespaces holds for them."""
    nodes = hook(PODS | {"resources": ["nodes"]}, namespaceSelector=OF_TEAMS)
    assert found(nodes) == ["while it is down no nodes can be made or changed in the cluster"]
    assert not found(hook(PODS | {"resources": ["nodes"]}, objectSelector=OF_MODELS))


def test_a_long_wait_is_found() -> None:
    """Whether it is ignored afterwards or not."""
    slow = hook(namespaceSelector=OF_TEAMS, timeoutSeconds=30, failurePolicy="Ignore")
    assert found(slow) == ["pods wait up to 30 s for it while it does not answer; accepted: 10"]


@pytest.mark.parametrize(
    ("client", "problem"),
    [
        ({"service": SERVICE}, "it has no caBundle, so that no certificate is trusted"),
        ({"service": SERVICE | {"name": "gone"}, "caBundle": "x"}, f"Service {OWN}/gone is not there"),
        ({"service": SERVICE | {"port": 9443}, "caBundle": "x"}, f"Service {OWN}/webhook has no port 9443"),
    ],
)
def test_a_webhook_that_cannot_be_called_is_found(client: Object, problem: str) -> None:
    """Also one for kinds of its own."""
    assert found(hook(QUEUES, clientConfig=client)) == [problem]
