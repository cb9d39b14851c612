"""What is said where the cluster does not let a promotion have its Lease. On a real one: tests/integration."""

from typing import Any

import pytest

from infra.errors import CouldNotRun, RunFailed
from infra.release.marker import held, read


class Refuses:
    """kubectl on a cluster without a Lease or a ConfigMap, which lets nobody write one."""

    def __init__(self, why: str) -> None:
        self._why = why

    def run(self, verb: str, *_words: str, **_given: str) -> str:
        """Answer a question, refuse all else."""
        if verb == "get":
            return ""
        raise RunFailed(self._why)


def on(why: str) -> Any:  # noqa: ANN401 - it stands for kubectl
    """Return kubectl on such a cluster."""
    return Refuses(why)


@pytest.mark.parametrize(
    ("why", "said"),
    [
        (
            "kubectl create --filename=-: leases.coordination.k8s.io is forbidden",
            "not had: kubectl create --filename=-: leases.coordination.k8s.io is forbidden; nothing was changed",
        ),
        (
            'kubectl create --filename=-: leases "kiban-promotion" already exists',
            "not had: another process was first: kubectl create",
        ),
        (
            "kubectl replace --filename=-: the object has been modified; please apply your changes",
            "not had: another process was first: kubectl replace",
        ),
    ],
)
def test_another_process_is_blamed_only_where_there_was_one(why: str, said: str) -> None:
    """Else what the cluster says."""
    with pytest.raises(CouldNotRun, match="the lease of promotions was") as raised, held(on(why), print):
        pytest.fail("it was had")
    assert said in str(raised.value)


def test_a_cluster_without_a_marker_has_none() -> None:
    """That is no failure."""
    assert read(on("")) is None
