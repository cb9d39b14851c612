"""What is read out of the steps' verbs: each check finds what it is for, and nothing else does."""

from typing import Any

import pytest

from infra.rehearsal.checks import STEPS
from infra.rehearsal.look import Look
from infra.rehearsal.snapshot import Snapshot
from infra.rehearsal.steps import Change, Problem, Ran

NOTHING = Snapshot(step="install", objects={}, declared=())


def look(step: str = "upgrade", now: Snapshot = NOTHING, **ran: Any) -> Look:  # noqa: ANN401
    """Return a look after a step whose verb did this."""
    defaults: dict[str, Any] = {"status": 0, "error": "", "seconds": 1.0, "counts": {}, "changes": (), "problems": ()}
    return Look(
        now=now,
        base=NOTHING,
        api=None,  # type: ignore[arg-type]  # these ask nothing
        images=frozenset(),
        ran=Ran(step=step, **defaults | ran),
    )


def failing(look: Look) -> dict[str, str]:
    """Return the ids of the checks that find something, and the first thing that each says."""
    outcomes = {check.id: check.look(look) for check in STEPS}
    return {name: found.findings[0].message for name, found in outcomes.items() if found.findings}


def failed(message: str, resource: str = "Deployment argo:mlflow") -> Look:
    """Return a look after an upgrade that failed at a resource."""
    return look(status=1, error="it failed", problems=(Problem(resource=resource, message=message),))


def test_a_clean_step_has_no_findings_and_was_looked_at() -> None:
    """Nothing is found where nothing is wrong, and yet something was seen."""
    clean = look()
    assert failing(clean) == {}
    seen = {check.id: check.look(clean).looked_at for check in STEPS}
    assert seen["admission"] == seen["immutable"] == seen["stateful"] == seen["configuration"] == 1
    assert seen["idempotent"] == seen["rollback"] == seen["destroy"] == 0


@pytest.mark.parametrize(
    ("message", "check"),
    [
        ('admission webhook "x.kueue" denied the request: no', "admission"),
        ('failed calling webhook "x": no endpoints available for service "w"', "admission"),
        ("Deployment.apps is invalid: spec.replicas: Unsupported value", "admission"),
        ('ConfigMap "a" is forbidden: ValidatingAdmissionPolicy "p" denied request', "admission"),
        (".spec.foo: field not declared in schema", "admission"),
        ('Job "m" is invalid: spec.template: Invalid value: …: field is immutable', "immutable"),
        (
            'StatefulSet "p" is invalid: spec: Forbidden: updates to statefulset spec for fields … are forbidden',
            "immutable",
        ),
        ('no matches for kind "ClusterQueue" in version "kueue.x-k8s.io/v1beta2"', "kinds-first"),
        ("'kubectl-edit' has set .spec.replicas since", "conflict"),
        ("timed out waiting to be Ready", "ready"),
    ],
)
def test_each_problem_is_one_checks(message: str, check: str) -> None:
    """What the engine says of a resource is found by the one check that it belongs to."""
    assert list(failing(failed(message))) == [check]


def test_a_program_that_ends_early_is_configuration() -> None:
    """An error without a resource, a refusal before anything, and a failure that says nothing are the program's."""
    assert list(failing(failed("KeyError: 'images'", resource=""))) == ["configuration"]
    assert list(failing(look(status=2, error="stacks/prod.py: replicas=0"))) == ["configuration"]
    assert list(failing(look(status=3, error="no cluster"))) == ["configuration"]


def test_what_is_made_again_is_found() -> None:
    """A workload that an immutable field replaces, and what holds data."""
    replaced = Change(done="replaced", resource="Deployment a", properties=("spec.selector",))
    assert failing(look(changes=(replaced,))) == {
        "immutable": "is deleted and made again, since spec.selector cannot be changed"
    }
    for kind in ("PersistentVolumeClaim", "StatefulSet", "Namespace", "CustomResourceDefinition"):
        for done in ("replaced", "deleted"):
            gone = Change(done=done, resource=f"{kind} postgres", properties=())
            assert list(failing(look(changes=(gone,)))) == ["stateful"], kind
    harmless = (
        Change(done="deleted", resource="Deployment a"),
        Change(done="updated", resource="StatefulSet a", properties=("spec.replicas",)),
        Change(done="replaced", resource="ConfigMap a"),
    )
    assert failing(look(changes=harmless)) == {}


def test_a_second_up_that_changes_something_is_found() -> None:
    """Also one that fails; the first one's changes are none of its business."""
    change = Change(done="updated", resource="ConfigMap a", properties=("data.now",))
    assert failing(look("upgrade", changes=(change,))) == {}
    assert failing(look("second up", changes=(change,))) == {
        "idempotent": "a second `up` without a change updated it (data.now)"
    }
    assert list(failing(look("second up", status=1, error="conflict"))) == ["idempotent"]


def test_a_rollback_that_fails_is_found() -> None:
    """With the verb's last word."""
    found = failing(look("rollback", status=1, error="Deployment a: no"))
    assert found["rollback"] == "cannot be brought back: Deployment a: no"


def deployment(ready: int, name: str = "mlflow") -> dict[str, Any]:
    """Return a Deployment of two replicas."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "kiban"},
        "spec": {"replicas": 2},
        "status": {"readyReplicas": ready},
    }


def test_what_is_not_ready_is_found() -> None:
    """Deployments without their pods, and pods that cannot start, under a name that does not change."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "mlflow-5d8f-x2x",
            "namespace": "kiban",
            "ownerReferences": [{"kind": "ReplicaSet", "name": "mlflow-5d8f"}],
        },
        "status": {
            "phase": "Running",
            "containerStatuses": [
                {
                    "name": "server",
                    "state": {
                        "waiting": {
                            "reason": "CrashLoopBackOff",
                            "message": "back-off 20s restarting failed container=server pod=mlflow-5d8f-x2x",
                        }
                    },
                }
            ],
        },
    }
    fine = Snapshot(step="upgrade", objects={"Deployment.apps": (deployment(2),)}, declared=())
    assert failing(look(now=fine)) == {}
    broken = Snapshot(step="upgrade", objects={"Deployment.apps": (deployment(1),), "Pod": (pod,)}, declared=())
    (ready,) = (check for check in STEPS if check.id == "ready")
    assert [(each.object, each.message) for each in ready.look(look(now=broken)).findings] == [
        ("Deployment kiban/mlflow", "1 of 2 pods are ready"),
        ("Deployment kiban/mlflow", "container server: CrashLoopBackOff"),
    ]


def test_what_is_left_after_a_destroy_is_found() -> None:
    """What was there before is not, nor what the cluster makes itself."""
    mine = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"}}
    theirs = mine | {"metadata": mine["metadata"] | {"name": "t"}}  # type: ignore[operator]
    kept = mine | {"metadata": {"name": "u", "labels": {"kiban.dev/environment": "prod"}, "finalizers": ["a/b"]}}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "argo"}}
    now = Snapshot(step="destroy", objects={"Secret": (mine, theirs, kept), "Namespace": (space,)}, declared=())
    after = look("destroy", now=now)
    (destroy,) = (check for check in STEPS if check.id == "destroy")
    assert [(each.object, each.message) for each in destroy.look(after).findings] == [
        ("Namespace argo", "is left after `kiban destroy`"),
        ("Secret u", "is left after `kiban destroy`, held by a/b"),
    ]
