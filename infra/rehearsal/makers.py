"""What made a pod, in the end: what a user would have to change."""

from collections.abc import Callable

from infra.rehearsal.snapshot import Object, Snapshot

_MAKERS = ("ReplicaSet.apps", "Deployment.apps", "StatefulSet.apps", "DaemonSet.apps", "Job.batch", "CronJob.batch")


def makers(snapshot: Snapshot) -> Callable[[Object], Object]:
    """A function from a pod, or from what makes pods, to the last in the row of their makers; itself if none made it.

    A controller's own kinds are not followed: what an InferenceService or a Prometheus is made of is the last.
    """
    by_uid = {each["metadata"]["uid"]: each for each in snapshot.all(*_MAKERS)}

    def maker(each: Object) -> Object:
        for owner in each["metadata"].get("ownerReferences", ()):
            if owner["uid"] in by_uid:
                return maker(by_uid[owner["uid"]])
        return each

    return maker
