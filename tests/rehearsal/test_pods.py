"""Pods of a snapshot, and what they are reported as."""

from infra.rehearsal.pods import pods
from infra.rehearsal.snapshot import name
from tests.rehearsal.checks.clusters import deployment, made, snapshot

SPEC = {"containers": [{"name": "main", "image": "x:1"}]}


def test_a_pod_is_reported_as_what_made_it_first() -> None:
    """Its own name is another one after every rollout."""
    maker = deployment("mlflow")
    replicas = made("apps/v1", "ReplicaSet", "mlflow-5f", "kiban-metadata", owner=maker, spec={})
    pod = made("v1", "Pod", "mlflow-5f-x", "kiban-metadata", owner=replicas, spec=SPEC)
    lone = made("v1", "Pod", "lone", "kiban-metadata", spec=SPEC)
    found = [name(each.of) for each in pods(snapshot(maker, replicas, pod, lone))]
    assert found == ["Deployment kiban-metadata/mlflow", "Pod kiban-metadata/lone", "Deployment kiban-metadata/mlflow"]


def test_what_has_ended_is_left_out() -> None:
    """A pod that is done or going, and the template of a Job that is done."""
    done = made("v1", "Pod", "done", "a", spec=SPEC, status={"phase": "Succeeded"})
    going = made("v1", "Pod", "going", "a", spec=SPEC)
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    template = {"metadata": {}, "spec": SPEC}
    ended = {"conditions": [{"type": "Complete", "status": "True"}]}
    job = made("batch/v1", "Job", "job", "a", spec={"template": template}, status=ended)
    cron = made("batch/v1", "CronJob", "cron", "a", spec={"jobTemplate": {"spec": {"template": template}}})
    assert [name(each.of) for each in pods(snapshot(done, going, job, cron))] == ["CronJob a/cron"]


def test_containers_are_all_of_them() -> None:
    """Those that run first, too."""
    one = {"initContainers": [{"name": "first"}], "containers": [{"name": "main"}]}
    (pod,) = pods(snapshot(made("v1", "Pod", "x", "a", spec=one)))
    assert [each["name"] for each in pod.containers] == ["first", "main"]
