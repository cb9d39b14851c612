"""What a snapshot has of a cluster's objects, and how one of them is found."""

from typing import Any

from infra.rehearsal import snapshot
from infra.rehearsal.snapshot import Snapshot


def made(name: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
    """Return an object as a list has it, without its kind."""
    managed = [{"manager": "kiban", "fieldsV1": {}}]
    return {"metadata": {"name": name, "namespace": "a", "managedFields": managed}, **more}


class Server:
    """An API server that lists what it is given; by path."""

    def __init__(self, **lists: list[dict[str, Any]]) -> None:
        kinds = {"secrets": "Secret", "events": "Event"}
        self.answers: dict[str, dict[str, Any]] = {
            "/apis": {"groups": []},
            "/api/v1": {"resources": [{"name": name, "kind": kind, "verbs": ["list"]} for name, kind in kinds.items()]},
            **{f"/api/v1/{name}": {"items": items} for name, items in lists.items()},
        }

    def get(self, path: str) -> dict[str, Any]:
        """Return what is at the path."""
        return self.answers[path]


def test_a_secret_has_its_keys_and_no_object_its_managers() -> None:
    """Passwords do not get into a report; who set which field is half of what there is, and nobody reads it."""
    api: Any = Server(
        secrets=[made("password", data={"key": "dmFsdWU="})], **{"events?fieldSelector=type%3DWarning": []}
    )
    now = snapshot.take(api, "install", None)
    (secret,) = now.all("Secret")
    assert secret["data"] == {"key": ""}
    assert secret["metadata"] == {"name": "password", "namespace": "a"}


def test_of_events_there_are_the_warnings() -> None:
    """A thousand Jobs make ten thousand others."""
    warnings = [made("refused", message="violates PodSecurity")]
    api: Any = Server(secrets=[], **{"events?fieldSelector=type%3DWarning": warnings})
    assert [each["message"] for each in snapshot.take(api, "install", None).all("Event")] == ["violates PodSecurity"]


def test_an_object_is_found_by_its_kind_name_and_namespace() -> None:
    """One without a namespace by none."""
    here, there = {"metadata": {"name": "a", "namespace": "x"}}, {"metadata": {"name": "a", "namespace": "y"}}
    role = {"metadata": {"name": "a"}}
    now = Snapshot(step="install", objects={"Secret": (here, there), "ClusterRole": (role,)}, declared=())
    assert now.find("Secret", "a", "y") is there
    assert now.find("ClusterRole", "a") is role
    assert now.find("Secret", "a") is None
    assert now.find("Role", "a") is None


def test_what_is_not_as_it_is_to_be_is_named_by_its_kind() -> None:
    """Which the objects of a list do not say themselves."""
    late = {"metadata": {"name": "a", "namespace": "b"}, "spec": {"replicas": 2}, "status": {"readyReplicas": 1}}
    fine = {"metadata": {"name": "c"}, "spec": {}, "status": {"readyReplicas": 1, "updatedReplicas": 1}}
    lists = {"deployments": [late, fine], "statefulsets": [], "daemonsets": []}

    class Lists:
        """Answers for three kinds."""

        def get(self, path: str) -> dict[str, Any]:
            """Return a list."""
            return {"items": lists[path.rpartition("/")[2]]}

    assert snapshot.unready(Lists()) == ["Deployment b/a"]  # type: ignore[arg-type]
