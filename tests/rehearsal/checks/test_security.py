"""Pod Security, and teams that are apart."""

from typing import Any

import pytest

from infra.clusters.embedded.api import Refused
from infra.rehearsal.checks.security import CHECKS
from infra.rehearsal.snapshot import Object
from tests.rehearsal.checks.clusters import deployment, made, outcome, said, snapshot, space

HERE = space("kiban-metadata")
WHY = 'violates PodSecurity "restricted:latest": runAsNonRoot != true'


class Admission:
    """An API server that refuses pods that run as root, and those whose account is not there."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def dry_run(self, path: str, pod: Object) -> Object:
        """Admit a pod, or say why not."""
        assert path == f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods"
        self.asked.append(path)
        if pod["spec"].get("root"):
            raise Refused(403, f'POST {path}: pods "rehearsed-x" is forbidden: {WHY} (403)')
        if pod["spec"].get("serviceAccountName") == "gone":
            raise Refused(403, f"POST {path}: error looking up service account (403)")
        return pod


def test_pods_that_meet_the_level_are_fine() -> None:
    """The API server is asked about every pod and template of the platform's; other refusals are others' matter."""
    user = made("v1", "Pod", "own", "team-vision", spec={"root": True, "containers": []})
    now = snapshot(
        HERE,
        space("team-vision", "vision"),
        space("kube-system", platform=False, level=None),
        deployment("mlflow"),
        deployment("other", spec={"serviceAccountName": "gone"}),
        deployment("log", "team-vision"),
        deployment("coredns", "kube-system", spec={"root": True}),
        user,
    )
    server = Admission()
    found = outcome(CHECKS, "pod-security", now, base=now, api=server)
    assert (found.evidence, found.looked_at, found.findings) == ("executed", 5, ())
    assert sorted(server.asked) == [
        f"/api/v1/namespaces/{each}/pods" for each in ("kiban-metadata",) * 2 + ("team-vision",)
    ]


@pytest.mark.parametrize(
    "one",
    [
        deployment("mlflow", spec={"root": True}),
        deployment("log", "team-vision", spec={"root": True}),
        made(
            "batch/v1",
            "CronJob",
            "backup",
            "kiban-metadata",
            spec={"jobTemplate": {"spec": {"template": {"metadata": {}, "spec": {"root": True, "containers": []}}}}},
        ),
        made("v1", "Pod", "lone", "kiban-metadata", spec={"root": True, "containers": []}),
    ],
    ids=lambda one: one["metadata"]["name"],
)
def test_a_pod_that_violates_the_level_is_found(one: Object) -> None:
    """Also of a template that has made none yet."""
    now = snapshot(HERE, space("team-vision", "vision"), one)
    metadata = one["metadata"]
    assert said(CHECKS, "pod-security", now, api=Admission()) == [
        f"{one['kind']} {metadata['namespace']}/{metadata['name']}: its pods are refused: {WHY}"
    ]


def refused(of: Object) -> Object:
    """Return the event of a pod of it that was refused."""
    metadata = of["metadata"]
    involved = {
        "apiVersion": of["apiVersion"],
        "kind": of["kind"],
        **{key: metadata[key] for key in ("name", "namespace", "uid")},
    }
    message = f'Error creating: pods "x-1" is forbidden: {WHY}'
    return made(
        "v1", "Event", "x", metadata["namespace"], involvedObject=involved, message=message, reason="FailedCreate"
    )


def replicas(wanted: int, there: int, **more: Any) -> Object:  # noqa: ANN401 - its owner
    """Return a ReplicaSet."""
    return made(
        "apps/v1", "ReplicaSet", "x-5f", "kiban-metadata", spec={"replicas": wanted}, status={"replicas": there}, **more
    )


def test_what_still_has_no_pods_is_found_by_its_event() -> None:
    """Of what a controller made, which has no template of the platform's; one that has its pods by now is fine."""
    operated = made("monitoring.coreos.com/v1", "Prometheus", "kiban", "kiban-metadata")
    waiting = replicas(1, 0, owner=operated)
    now = snapshot(HERE, operated, waiting, refused(waiting))
    assert said(CHECKS, "pod-security", now, api=Admission()) == [
        f"Prometheus kiban-metadata/kiban: its pods are refused: {WHY}"
    ]
    for fine in (replicas(1, 1), replicas(0, 0), None):
        there = [fine] if fine else []
        assert not said(CHECKS, "pod-security", snapshot(HERE, *there, refused(waiting)), api=Admission())


@pytest.mark.parametrize(
    ("level", "base", "message"),
    [
        ("restricted", "baseline", None),
        ("baseline", None, None),
        ("baseline", "restricted", "enforce=baseline; accepted: restricted"),
        (None, "baseline", "enforce=privileged; accepted: baseline, restricted"),
        ("privileged", None, "enforce=privileged; accepted: baseline, restricted"),
    ],
)
def test_a_level_may_not_be_lowered(level: str | None, base: str | None, message: str | None) -> None:
    """A namespace that is new has to enforce one at all."""
    before = snapshot(*([space("kserve", level=base)] if base else []))
    found = said(CHECKS, "pod-security", snapshot(space("kserve", level=level)), base=before, api=Admission())
    assert found == ([f"Namespace kserve: pod-security.kubernetes.io/{message}"] if message else [])


RBAC = "rbac.authorization.k8s.io"
SECRETS = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"]}


class Authorizer:
    """An API server that answers as RBAC would, of what its rules are: subject, namespace (empty: all) and rule."""

    def __init__(self, *given: tuple[str, str, Object]) -> None:
        self.given = given
        self.asked: list[Object] = []

    def create(self, path: str, review: Object) -> Object:
        """Answer a SubjectAccessReview."""
        assert path == "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        spec = review["spec"]
        self.asked.append(spec)
        asked = spec["resourceAttributes"]
        resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
        allowed = any(
            subject in (spec["user"], *spec["groups"])
            and where in ("", asked.get("namespace"))
            and {"*", asked["group"]} & set(rule["apiGroups"])
            and {"*", resource} & set(rule["resources"])
            and {"*", asked["verb"]} & set(rule["verbs"])
            and asked.get("name") in rule.get("resourceNames", [asked.get("name")])
            for subject, where, rule in self.given
        )
        return review | {"status": {"allowed": allowed}}


def account(team: str, name: str = "runner") -> Object:
    """Return a ServiceAccount of a team's."""
    return made("v1", "ServiceAccount", name, f"team-{team}")


def bound(rule: Object, subject: Object, namespace: str = "") -> tuple[Object, Object]:
    """Return a role of one rule and its binding, in a namespace or in all."""
    kind = "Role" if namespace else "ClusterRole"
    role = made(f"{RBAC}/v1", kind, "reader", namespace, rules=[rule])
    ref = {"kind": kind, "name": "reader"}
    return role, made(f"{RBAC}/v1", f"{kind}Binding", "reader", namespace, roleRef=ref, subjects=[subject])


TEAMS = (space("team-vision", "vision"), space("team-language", "language"), HERE)
VISION = "system:serviceaccount:team-vision:runner"
OF_VISION = {"kind": "ServiceAccount", "name": "runner", "namespace": "team-vision"}
EVERYONE = {"kind": "Group", "name": "system:authenticated"}


def test_teams_that_are_apart_are_fine() -> None:
    """Their own secrets are theirs; who is bound alike is asked once."""
    own = bound(SECRETS, OF_VISION, "team-vision")
    public = bound(SECRETS | {"resources": ["configmaps"]}, EVERYONE, "kiban-metadata")
    accounts = [account("vision"), account("vision", "default"), account("language")]
    server = Authorizer(
        (VISION, "team-vision", SECRETS), ("system:authenticated", "kiban-metadata", public[0]["rules"][0])
    )
    found = outcome(CHECKS, "teams-apart", snapshot(*TEAMS, *own, *public, *accounts), api=server)
    assert (found.evidence, found.looked_at, found.findings) == ("executed", 3, ())
    assert {each["user"] for each in server.asked} == {VISION}
    assert {each["resourceAttributes"].get("namespace") for each in server.asked} == {None, "kiban-metadata"}


@pytest.mark.parametrize(
    ("rule", "where", "may"),
    [
        (SECRETS | {"verbs": ["list"]}, "team-language", ["list secrets in team-language"]),
        (SECRETS | {"verbs": ["get"]}, "kiban-metadata", ["get secrets in kiban-metadata"]),
        (SECRETS | {"verbs": ["watch"]}, "", ["watch secrets in all namespaces"]),
        (
            SECRETS | {"verbs": ["get"], "resourceNames": ["postgres"]},
            "kiban-metadata",
            ["get secrets/postgres in kiban-metadata"],
        ),
        (
            {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]},
            "team-language",
            ["create pods/exec in team-language"],
        ),
        (
            {"apiGroups": ["argoproj.io"], "resources": ["workflows"], "verbs": ["*"]},
            "",
            ["* workflows in all namespaces"],
        ),
    ],
)
def test_what_a_team_may_have_of_others_is_found(rule: Object, where: str, may: list[str]) -> None:
    """A secret of another team's or of the platform's, a pod's shell, every verb everywhere."""
    now = snapshot(*TEAMS, *bound(rule, OF_VISION, where), account("vision"), account("language"))
    assert said(CHECKS, "teams-apart", now, api=Authorizer((VISION, where, rule))) == [
        f"ServiceAccount team-vision/runner: may {each}, outside of its team" for each in may
    ]


@pytest.mark.parametrize("group", ["system:serviceaccounts", "system:authenticated"])
def test_what_all_may_is_found_once(group: str) -> None:
    """With the number of those that may."""
    rule = SECRETS | {"verbs": ["get"]}
    now = snapshot(*TEAMS, *bound(rule, {"kind": "Group", "name": group}), account("vision"), account("language"))
    found = outcome(CHECKS, "teams-apart", now, api=Authorizer((group, "", rule)))
    assert found.looked_at == 2
    (finding,) = found.findings
    assert finding.message == "may get secrets in all namespaces, outside of its team; as many as 2 accounts may"
    assert finding.remedy.endswith("out of ClusterRoleBinding reader")
