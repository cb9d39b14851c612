"""`kiban backup` and `kiban restore`: runs the Jobs that components/_backup.py declares, and says what came of them.

What is read and written is said in components/scripts: backup.py, restore.py. Here is what they leave to the cluster:
no two at once, MLflow stopped while its databases are replaced, and buckets' policies and users' passwords set again.
"""

import contextlib
import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from components._backup import BACKUP, CHECK, RESTORE
from components._metadata import NAMESPACE
from components.scripts.backup import INVENTORY, is_timestamp, summary
from infra.clusters.waiting import until
from infra.errors import BadInput, RunFailed
from infra.kubectl import Object
from infra.metadata import Metadata

Say = Callable[[str], None]

_LONGEST = 6 * 3600.0  # seconds; as components/_backup.py lets a Job take
_EVERY = 1.0
_STOPPED = 300.0
# Jobs of MetadataStore that may run as often as one likes, and what a restore makes them do again.
_SET_AGAIN = {"buckets": "policies of the buckets", "accounts": "users of MLflow"}
_REPLICAS = "kiban.dev/replicas-before-restore"


def back_up(metadata: Metadata, *, say: Say) -> dict[str, Any]:
    """Make a backup now, and return its summary. Raises RunFailed where one is under way already."""
    _refuse_second(metadata)
    return dict(_run(metadata, BACKUP, {}, say=say))


def items(metadata: Metadata) -> list[dict[str, Any]]:
    """An item a complete backup, newest first; those from before a migration last."""
    env = _env(_cron_job(metadata, BACKUP)["spec"]["jobTemplate"]["spec"]["template"]["spec"], BACKUP)
    keys = metadata.secret("object-store-backup")
    account = {"access": keys["AWS_ACCESS_KEY_ID"], "secret": keys["AWS_SECRET_ACCESS_KEY"]}
    with metadata.object_store(env["S3_ENDPOINT"], region=env["AWS_DEFAULT_REGION"], **account) as store:
        return list(_listed(store, env["BACKUPS"]))


def _listed(store: Any, bucket: str) -> Iterator[dict[str, Any]]:  # noqa: ANN401
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        for name in reversed([name for name in _folders(store, bucket, "") if is_timestamp(name)]):
            with contextlib.suppress(store.exceptions.NoSuchKey):  # not complete
                body = store.get_object(Bucket=bucket, Key=f"{name}/{INVENTORY}")["Body"].read()
                yield {"complete": True, **summary(json.loads(body))}
        for name in _folders(store, bucket, "before-migration/"):
            yield {"backup": name, "complete": True}
    except (BotoCoreError, ClientError) as error:
        raise RunFailed(f"bucket {bucket}: {error}") from error


def _folders(store: Any, bucket: str, prefix: str) -> list[str]:  # noqa: ANN401
    pages = store.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
    return sorted(each["Prefix"].rstrip("/") for page in pages for each in page.get("CommonPrefixes", ()))


def check(metadata: Metadata, name: str, *, say: Say) -> Object:
    """What restoring a backup would replace, and what would be lost. `backup` is then its own name, not `latest`."""
    there = [str(each["backup"]) for each in items(metadata)]
    accepted = ("latest", *there) if there else ()
    if name not in accepted:
        raise BadInput(f"backup {name!r}; accepted: {', '.join(accepted) or 'none, since there is no backup'}")
    return _run(metadata, CHECK, {"BACKUP": name}, say=say)


def told(found: Object) -> list[str]:
    """The lines that say what a restore is about to do."""
    lines = [f"{found['backup']} replaces {', '.join(found['replaces'])}"]
    for what, lost in found["lost"].items():
        more = lost["count"] - len(lost["such_as"])
        lines.append(f"newer than the backup, and lost: {what}: {', '.join(lost['such_as'])}{_more(more)}")
    return lines


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""


def refuse_newer(found: Object, *, discard: bool) -> None:
    """Raise BadInput where the target has what the backup has not, unless that is to be discarded."""
    if found["lost"] and not discard:
        counts = ", ".join(f"{what} ({lost['count']})" for what, lost in found["lost"].items())
        raise BadInput(
            f"the target has data newer than {found['backup']}: {counts}; nothing was changed; "
            "make a backup of it first, or give --discard-newer"
        )


def restore(metadata: Metadata, name: str, *, discard: bool, say: Say) -> list[dict[str, Any]]:
    """Restore a backup, and return an item a thing that was compared with it afterwards.

    MLflow is stopped meanwhile, and started again whatever happens. A restore that was cut off is run again.
    """
    _refuse_second(metadata)
    with _stopped(metadata, say=say):
        verified = _run(metadata, RESTORE, {"BACKUP": name}, discard=discard, say=say)
    items = [*verified["items"], *(_again(metadata, job, what, say=say) for job, what in _SET_AGAIN.items())]
    return [{"backup": verified["backup"], **item} for item in items]


@contextlib.contextmanager
def _stopped(metadata: Metadata, *, say: Say) -> Iterator[None]:
    """While it lasts, MLflow has no pod. How many it had is kept on the Deployment, should Kiban be killed.

    One that was stopped before gets a pod: it is asked to make the users again.
    """
    (deployment,) = metadata.kubectl.get("deployment", "mlflow", namespace=NAMESPACE)
    had = deployment["metadata"].get("annotations", {}).get(_REPLICAS) or str(deployment["spec"]["replicas"] or 1)
    where = ("deployment/mlflow", f"--namespace={NAMESPACE}")
    metadata.kubectl.run("annotate", *where, f"{_REPLICAS}={had}", "--overwrite")
    say("stopping MLflow")
    metadata.kubectl.run("scale", *where, "--replicas=0")
    try:
        until(lambda: not _pods(metadata, deployment), seconds=_STOPPED, what="MLflow to stop", every=_EVERY)
        yield
    finally:
        say("starting MLflow")
        metadata.kubectl.run("scale", *where, f"--replicas={had}")
        metadata.kubectl.run("annotate", *where, f"{_REPLICAS}-")
    metadata.kubectl.run("rollout", "status", *where, "--timeout=30m")


def _pods(metadata: Metadata, deployment: Object) -> list[Object]:
    labels = deployment["spec"]["selector"]["matchLabels"]
    selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return metadata.kubectl.get("pods", namespace=NAMESPACE, selector=selector)


def _refuse_second(metadata: Metadata) -> None:
    for job in metadata.kubectl.get("jobs", namespace=NAMESPACE):
        owners = {owner["name"] for owner in job["metadata"].get("ownerReferences", ())}
        if owners & {BACKUP, RESTORE} and not ended(job):
            raise RunFailed(
                f"Job {job['metadata']['name']} of {NAMESPACE} is under way; "
                f"wait for it, or delete it (kubectl --namespace {NAMESPACE} delete job {job['metadata']['name']})"
            )


def ended(job: Object) -> str | None:
    """Complete or Failed, as the Job's conditions say; None while it goes on."""
    conditions = job.get("status", {}).get("conditions", ())
    for condition in conditions:
        if condition["type"] in {"Complete", "Failed"} and condition["status"] == "True":
            return str(condition["type"])
    return None


def _cron_job(metadata: Metadata, name: str) -> Object:
    try:
        (found,) = metadata.kubectl.get("cronjob", name, namespace=NAMESPACE)
    except RunFailed as failure:
        if "not found" in str(failure):
            raise BadInput(f"the cluster has no CronJob {name} in {NAMESPACE}: run `kiban up` first") from None
        raise
    return found


def job_of(cron_job: Object, env: Mapping[str, str], *, discard: bool) -> Object:
    """A Job of a CronJob, its containers given values for variables that they have; `objects` is told to discard."""
    name = cron_job["metadata"]["name"]
    template = json.loads(json.dumps(cron_job["spec"]["jobTemplate"]))
    pod = template["spec"]["template"]["spec"]
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        for variable in container.get("env", ()):
            if variable["name"] in env:
                variable["value"] = env[variable["name"]]
        if container["name"] == "objects" and discard:
            container["command"].append("--discard")
    owner = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "name": name,
        "uid": cron_job["metadata"]["uid"],
        "controller": True,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "generateName": f"{name}-",
            "namespace": cron_job["metadata"]["namespace"],
            "annotations": {"cronjob.kubernetes.io/instantiate": "manual"},
            "ownerReferences": [owner],
        },
        "spec": template["spec"],
    }


def _run(metadata: Metadata, name: str, env: Mapping[str, str], *, discard: bool = False, say: Say) -> Object:
    """Run a Job of a CronJob to its end, and return the JSON of its last line."""
    made = metadata.kubectl.create(job_of(_cron_job(metadata, name), env, discard=discard))["metadata"]["name"]
    say(f"Job {made}: started")
    _await(metadata, made)
    said = metadata.kubectl.run("logs", f"job/{made}", f"--container={name}", "--tail=1", f"--namespace={NAMESPACE}")
    try:
        found: Object = json.loads(said)
    except ValueError:
        raise RunFailed(f"Job {made}: it did not say what came of it: {said.strip() or 'nothing'}") from None
    return found


def _await(metadata: Metadata, name: str) -> None:
    """Wait for a Job. Raises RunFailed with what its last pod said where it failed."""
    job: Object = {}

    def done() -> bool:
        job.update(metadata.kubectl.get("job", name, namespace=NAMESPACE)[0])
        return ended(job) is not None

    until(done, seconds=_LONGEST, what=f"Job {name} to end", every=_EVERY)
    if ended(job) == "Failed":
        pods = metadata.kubectl.get("pods", namespace=NAMESPACE, selector=f"batch.kubernetes.io/job-name={name}")
        raise RunFailed(f"Job {name}: {why(pods) or job['status']['conditions'][-1].get('message')}")


def why(pods: Sequence[Object]) -> str | None:
    """What the first container to fail said, of the pod that was made last."""
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), reverse=True):
        status = pod.get("status", {})
        for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
            terminated = container.get("state", {}).get("terminated", {})
            if terminated.get("exitCode"):
                lines = terminated.get("message", "").strip().splitlines()
                return f"{container['name']}: {lines[-1] if lines else terminated.get('reason')}"
    return None


def _again(metadata: Metadata, prefix: str, what: str, *, say: Say) -> dict[str, Any]:
    """Run a Job of MetadataStore once more, under a name of its own, and return the item of what it sets."""
    jobs = [
        job
        for job in metadata.kubectl.get("jobs", namespace=NAMESPACE)
        if job["metadata"]["name"].startswith(f"{prefix}-") and "-again-" not in job["metadata"]["name"]
    ]
    if not jobs:
        say(f"there is no Job {prefix}: run `kiban up` to have its work done")
        return {"verified": what, "count": "not set again", "same": False}
    newest = max(jobs, key=lambda job: str(job["metadata"]["creationTimestamp"]))
    made = metadata.kubectl.create(job_again(newest, f"{prefix}-again-{secrets.token_hex(4)}"))["metadata"]["name"]
    say(f"Job {made}: started, for the {what}")
    try:
        _await(metadata, made)
    except RunFailed as failure:
        say(str(failure))
        return {"verified": what, "count": "not set again", "same": False}
    return {"verified": what, "count": "set again", "same": True}


def job_again(job: Object, name: str) -> Object:
    """The same Job under another name, which goes an hour after it has ended."""
    template = json.loads(json.dumps(job["spec"]["template"]))
    labels = template["metadata"].get("labels", {})
    of_the_first = ("controller-uid", "job-name")
    template["metadata"]["labels"] = {key: value for key, value in labels.items() if not key.endswith(of_the_first)}
    kept = ("backoffLimit", "activeDeadlineSeconds")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": job["metadata"]["namespace"]},
        "spec": {
            **{field: job["spec"][field] for field in kept if field in job["spec"]},
            "ttlSecondsAfterFinished": 3600,
            "template": template,
        },
    }


def _env(pod: Object, container: str) -> dict[str, str]:
    """The plain variables of a container."""
    (found,) = (each for each in pod["containers"] if each["name"] == container)
    return {each["name"]: each["value"] for each in found["env"] if "value" in each}
