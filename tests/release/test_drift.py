"""Manual changes are told from what controllers do, on objects as the API server and a state keep them."""

import copy
import json
from collections.abc import Mapping
from typing import Any

import pytest

from infra.release.drift.judging import Finding, findings
from infra.release.drift.reading import released

THEN, NOW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
ENVIRONMENT = "dev"
Object = dict[str, Any]


def fields(value: Mapping[str, object]) -> Object:
    """Return FieldsV1 of all of a manifest's fields, containers by name and other lists as a whole."""
    return {f"f:{key}": _below(each) for key, each in value.items()}


def _below(value: object) -> Object:
    if isinstance(value, dict):
        return fields(value)
    if isinstance(value, list) and all(isinstance(each, dict) and "name" in each for each in value):
        return {f'k:{{"name":"{each["name"]}"}}': {".": {}} | fields(each) for each in value}
    return {}


def entry(manager: str, owned: Object, at: str = NOW, **more: str) -> Object:
    """Return one entry of managedFields."""
    return {"manager": manager, "operation": "Update", "time": at, "fieldsV1": owned, **more}


def applied(kind: str, name: str, namespace: str = "", version: str = "v1", **content: Any) -> Object:  # noqa: ANN401
    """Return an object as it is right after Kiban applied it."""
    metadata: Object = {"labels": {"kiban.dev/environment": ENVIRONMENT, **content.pop("labels", {})}}
    owned = fields({"metadata": metadata, **content})
    metadata |= {"name": name, "uid": f"{kind} {name}", "managedFields": [entry("kiban", owned, THEN)]}
    metadata |= {"namespace": namespace} if namespace else {}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **content}


def state_of(*objects: Object, ignored: tuple[str, ...] = ()) -> Object:
    """Return a state that has them."""
    return {
        "resources": [
            {
                "custom": True,
                "type": "kubernetes:any",
                "modified": THEN,
                "ignoreChanges": list(ignored),
                "outputs": {**copy.deepcopy(each), "__fieldManager": "kiban"},
            }
            for each in objects
        ]
    }


def judged(state: Object, *live: Object) -> list[Finding]:
    """Judge, on a state as it is read from JSON."""
    return list(findings(ENVIRONMENT, state, released(json.loads(json.dumps(state))), live))


SPACE = applied("Namespace", "kiban-metadata")
TEAM = applied("Namespace", "team-a", labels={"kiban.dev/team": "a"})
CONTAINER = {"name": "mlflow", "image": "mlflow:1"}
DEPLOYMENT = applied(
    "Deployment",
    "mlflow",
    "kiban-metadata",
    "apps/v1",
    spec={"replicas": 1, "template": {"spec": {"containers": [CONTAINER]}}},
)
ROLE = applied("ClusterRole", "viewer", version="rbac.authorization.k8s.io/v1", rules=[{"verbs": ["get"]}])
QUOTA = applied("ResourceQuota", "devices", "team-a", spec={"hard": {"gpu": "1"}})
KEYS = applied("Secret", "keys", "kiban-metadata", data={"password": "b2xk"})
ALL = (SPACE, TEAM, DEPLOYMENT, ROLE, QUOTA, KEYS)


def touched(each: Object, manager: str, change: Object, **more: str) -> Object:
    """Return the object after a merge patch of a manager that then owns what it set."""
    now = copy.deepcopy(each)
    _merge(now, change)
    owned = _without(now["metadata"]["managedFields"][0]["fieldsV1"], fields(change))
    now["metadata"]["managedFields"][0]["fieldsV1"] = owned
    now["metadata"]["managedFields"].append(entry(manager, fields(change), **more))
    return now


def _merge(into: Object, change: Object) -> None:
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _without(owned: Object, taken: Object) -> Object:
    return {
        key: _without(below, taken[key]) if key in taken else below
        for key, below in owned.items()
        if taken.get(key) != {}
    }


def containers(**more: str) -> Object:
    """Return a patch of the Deployment's container."""
    return {"spec": {"template": {"spec": {"containers": [CONTAINER | more]}}}}


def test_an_untouched_environment_has_no_finding() -> None:
    """Also where controllers write status, leases, and objects and fields of their own, and a team works."""
    status = entry("kube-controller-manager", {"f:status": {"f:replicas": {}}}, subresource="status")
    live = copy.deepcopy(list(ALL))
    live[2]["metadata"]["managedFields"].append(status)
    live[2]["status"] = {"replicas": 1}
    live[3] = touched(ROLE, "kueue", {"metadata": {"annotations": {"seen": "yes"}}})
    lease = applied("Lease", "kueue", "kube-system", "coordination.k8s.io/v1", spec={"renewTime": NOW})
    lease["metadata"] |= {"labels": {}, "managedFields": [entry("kueue", {"f:spec": {"f:renewTime": {}}})]}
    certificate = unlabelled("ConfigMap", "kube-root-ca.crt", "kiban-metadata", by="kube-controller-manager")
    work = unlabelled("ConfigMap", "notes", "team-a", by="kubectl-create")
    pod = unlabelled("Pod", "mlflow-1", "kiban-metadata", by="kubectl-create")
    pod["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "name": "mlflow"}]
    elsewhere = unlabelled("ConfigMap", "other", "default", by="kubectl-create")
    assert not judged(state_of(*ALL), *live, lease, certificate, work, pod, elsewhere)


def unlabelled(kind: str, name: str, namespace: str, *, by: str, **content: Any) -> Object:  # noqa: ANN401
    """Return an object that is not the environment's, made by a manager."""
    each = applied(kind, name, namespace, **content)
    each["metadata"] |= {"labels": {}, "managedFields": [entry(by, fields({"data": {"a": "b"}}))]}
    return each


IMAGE = "spec.template.spec.containers[name=mlflow].image"


@pytest.mark.parametrize(
    ("each", "manager", "change", "expected"),
    [
        (DEPLOYMENT, "kubectl", {"spec": {"replicas": 5}}, ("spec.replicas", "1", "5", "scaled")),
        (DEPLOYMENT, "k9s", containers(image="evil:1"), (IMAGE, "mlflow:1", "evil:1", "image")),
        (
            DEPLOYMENT,
            "kubectl-edit",
            containers(command="sh"),
            (IMAGE.replace("image", "command"), "", "sh", "edited"),
        ),
        (
            TEAM,
            "kubectl-label",
            {"metadata": {"labels": {"kiban.dev/team": "b"}}},
            ('metadata.labels["kiban.dev/team"]', "a", "b", "label"),
        ),
        (
            QUOTA,
            "Mozilla",
            {"metadata": {"annotations": {"why": "me"}}},
            ("metadata.annotations.why", "", "me", "annotation"),
        ),
        (ROLE, "alice", {"rules": [{"verbs": ["*"]}]}, ("rules[0].verbs[0]", "get", "*", "rbac")),
        (QUOTA, "helm", {"spec": {"hard": {"gpu": "9"}}}, ("spec.hard.gpu", "1", "9", "quota")),
        (
            SPACE,
            "curl",
            {"metadata": {"finalizers": ["a/b"]}},
            ("metadata.finalizers", "", '["a/b"]', "finalizer"),
        ),
    ],
)
def test_a_changed_field_is_found_and_attributed(
    each: Object, manager: str, change: Object, expected: tuple[str, ...]
) -> None:
    """Which field, both values, who, when, and what kind of change it is."""
    now = touched(each, manager, change)
    live = [now if one is each else one for one in ALL]
    (finding,) = judged(state_of(*ALL), *live)
    assert (finding.field, finding.released, finding.live, finding.change) == expected
    assert (finding.manager, finding.at) == (manager, NOW)


def test_a_secrets_value_is_never_shown() -> None:
    """Only that it differs; the digests of two runs have nothing in common."""
    now = touched(KEYS, "kubectl-edit", {"data": {"password": "bmV3"}})
    first, second = (judged(state_of(*ALL), SPACE, TEAM, DEPLOYMENT, ROLE, QUOTA, now) for _ in range(2))
    assert [(one.object, one.change, one.manager) for one in first] == [
        ("Secret kiban-metadata/keys", "secret", "kubectl-edit")
    ]
    assert first[0].released.startswith("secret ")
    assert first[0].released != first[0].live
    assert first[0].live != second[0].live
    assert not {"b2xk", "bmV3"} & set(str(first).replace("'", " ").split())


def test_long_values_are_shown_where_they_differ() -> None:
    """Not their beginning, which is the same."""
    data = applied("ConfigMap", "settings", "kiban-metadata", data={"file": "a" * 500 + "old" + "b" * 500})
    (finding,) = judged(state_of(data), touched(data, "k9s", {"data": {"file": "a" * 500 + "new" + "b" * 500}}))
    assert finding.released == f"…{'a' * 20}old{'b' * 57}…"
    assert finding.live == f"…{'a' * 20}new{'b' * 57}…"


def test_what_people_delete_and_make_is_found() -> None:
    """An object that is gone, one that was made again, one that is new; one that waits for a finalizer is gone, too."""
    again = copy.deepcopy(ROLE)
    again["metadata"]["uid"] = "another"
    again["metadata"]["managedFields"][0]["manager"] = "kubectl-create"
    ending = copy.deepcopy(KEYS)
    ending["metadata"]["deletionTimestamp"] = NOW
    new = unlabelled("Deployment", "miner", "kiban-metadata", by="kubectl-create")
    opened = unlabelled("NetworkPolicy", "open", "team-a", by="k9s")
    found = judged(state_of(*ALL), SPACE, TEAM, again, QUOTA, ending, new, opened)
    assert {(one.object, one.change, one.manager) for one in found} == {
        ("Deployment kiban-metadata/mlflow", "deleted", "not recorded"),
        ("ClusterRole viewer", "recreated", "kubectl-create"),
        ("Secret kiban-metadata/keys", "deleted", "not recorded"),
        ("Deployment kiban-metadata/miner", "added", "kubectl-create"),
        ("NetworkPolicy team-a/open", "added", "k9s"),
    }


def test_kubectls_copy_of_an_object_is_not_shown() -> None:
    """What is in it may be secret elsewhere."""
    copied = {"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "all of it"}}}
    now = touched(DEPLOYMENT, "kubectl-client-side-apply", copied)
    (finding,) = judged(state_of(*ALL), SPACE, TEAM, now, ROLE, QUOTA, KEYS)
    assert finding.live.startswith("secret ")


def test_a_field_that_kiban_still_has_a_part_in_is_the_others() -> None:
    """Who shares a map with Kiban is named, not Kiban, though Kiban has set something later."""
    now = copy.deepcopy(QUOTA)
    now["spec"]["hard"]["gpu"] = "9"
    now["metadata"]["managedFields"] = [
        entry("eve", fields({"spec": {"hard": {"gpu": "9"}}}), THEN),
        entry("kiban", fields({"spec": {"hard": {"gpu": "9"}}})),
    ]
    (finding,) = judged(state_of(*ALL), SPACE, TEAM, DEPLOYMENT, ROLE, now, KEYS)
    assert finding.manager == "eve"


def test_what_carries_the_environments_label_and_is_not_in_the_state_is_found() -> None:
    """Wherever it is and whoever made it, also a run of Kiban that was killed; not where another object owns it."""
    stray = applied("ConfigMap", "left", "elsewhere")
    owned = copy.deepcopy(stray)
    owned["metadata"] |= {"name": "owned", "ownerReferences": [{"kind": "A"}]}
    (finding,) = judged(state_of(*ALL), *ALL, stray, owned)
    assert (finding.object, finding.change, finding.manager) == ("ConfigMap elsewhere/left", "added", "kiban")


def test_rights_of_the_platforms_accounts_are_looked_at_wherever_they_are_given() -> None:
    """A ClusterRoleBinding has no namespace; its subject has."""
    subject = {"kind": "ServiceAccount", "name": "mlflow", "namespace": "kiban-metadata"}
    evil = unlabelled("ClusterRoleBinding", "evil", "", by="kubectl-create", subjects=[subject])
    (finding,) = judged(state_of(*ALL), *ALL, evil)
    assert (finding.object, finding.change) == ("ClusterRoleBinding evil", "added")


def test_what_people_set_in_a_controllers_object_is_found() -> None:
    """It is not said to be new."""
    certificate = unlabelled("Secret", "tls", "kiban-metadata", by="kube-controller-manager")
    certificate["metadata"]["managedFields"][0]["time"] = THEN
    certificate |= {"data": {"tls.key": "bmV3"}}
    certificate["metadata"]["managedFields"].append(entry("kubectl-edit", fields({"data": {"tls.key": "bmV3"}})))
    (finding,) = judged(state_of(*ALL), *ALL, certificate)
    assert (finding.object, finding.field, finding.change) == (
        "Secret kiban-metadata/tls",
        'data["tls.key"]',
        "secret",
    )
    assert "bmV3" not in finding.live


def test_a_changed_value_counts_whoever_owns_it_now() -> None:
    """A name in managedFields is only what a client says: Kubernetes' own name excuses nothing, nor does Kiban's."""
    posing = touched(QUOTA, "kube-controller-manager", {"spec": {"hard": {"gpu": "9"}}})
    (finding,) = judged(state_of(*ALL), SPACE, TEAM, DEPLOYMENT, ROLE, posing, KEYS)
    assert (finding.field, finding.manager) == ("spec.hard.gpu", "kube-controller-manager")
    as_kiban = copy.deepcopy(QUOTA)
    as_kiban["spec"]["hard"] = {"gpu": "9", "cpu": "1"}
    as_kiban["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:hard"]["f:cpu"] = {}
    found = judged(state_of(*ALL), SPACE, TEAM, DEPLOYMENT, ROLE, as_kiban, KEYS)
    assert [(one.field, one.manager) for one in found] == [("spec.hard.cpu", "kiban"), ("spec.hard.gpu", "kiban")]


def test_what_an_api_gives_to_a_controller_is_no_drift() -> None:
    """Replicas of an autoscaler, the authority of a webhook, the rules of an aggregated role: by controllers alone."""
    scaled = touched(DEPLOYMENT, "kube-controller-manager", {"spec": {"replicas": 5}}, subresource="scale")
    assert not judged(state_of(*ALL), SPACE, TEAM, scaled, ROLE, QUOTA, KEYS)
    sum_of = applied("ClusterRole", "sum", aggregationRule={"a": "b"}, rules=[{"verbs": ["get"]}])
    summed = touched(sum_of, "clusterrole-aggregation-controller", {"rules": [{"verbs": ["*"]}]})
    assert not judged(state_of(sum_of), summed)
    assert judged(state_of(sum_of), touched(sum_of, "alice", {"rules": [{"verbs": ["*"]}]}))
    plain = applied("ClusterRole", "plain", rules=[{"verbs": ["get"]}])
    assert judged(state_of(plain), touched(plain, "clusterrole-aggregation-controller", {"rules": [{"verbs": ["*"]}]}))
    hook = applied(
        "ValidatingWebhookConfiguration", "hook", webhooks=[{"name": "a", "clientConfig": {"caBundle": "x"}}]
    )
    webhooks = [{"name": "a", "clientConfig": {"caBundle": "y"}}]
    status = entry("cainjector", {"f:status": {}}, subresource="status")
    injected = touched(hook, "cainjector", {"webhooks": webhooks})
    assert judged(state_of(hook), injected)  # of a name that nothing makes a controller's
    injected["metadata"]["managedFields"].append(status)
    assert not judged(state_of(hook), injected)


def test_what_the_program_leaves_to_others_is_no_drift() -> None:
    """Pulumi's ignoreChanges, also within a list that another then owns as a whole."""
    route = applied(
        "HTTPRoute", "digits", "team-a", spec={"rules": [{"backendRefs": [{"weight": 100}, {"weight": 0}]}]}
    )
    weights = tuple(f"spec.rules[0].backendRefs[{index}].weight" for index in range(2))
    moved = touched(route, "canary", {"spec": {"rules": [{"backendRefs": [{"weight": 90}, {"weight": 10}]}]}})
    assert judged(state_of(route), moved)
    assert not judged(state_of(route, ignored=weights), moved)


def test_a_value_that_another_sets_to_the_same_is_no_drift() -> None:
    """Managers share a field; an `up` after a manual change may leave both."""
    assert not judged(state_of(*ALL), *(one for one in ALL if one is not QUOTA), touched(QUOTA, "helm", {"spec": {}}))
    shared = touched(QUOTA, "helm", {"spec": {"hard": {"gpu": "1"}}})
    assert not judged(state_of(*ALL), *(one for one in ALL if one is not QUOTA), shared)
