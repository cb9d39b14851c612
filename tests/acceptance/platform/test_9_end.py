"""The end of the main job, after all that was done with the platform: down, and nothing left."""

from tests.acceptance.platform.leavings import leavings
from tests.checkout import Checkout
from tests.conftest import Record


def test_destroy_and_down_leave_nothing(
    checkout: Checkout, before: dict[str, set[str]], first_up: tuple[float, str], record: Record
) -> None:
    """After `destroy` and `cluster down` there is no process, interface, mount or file outside the cache.

    What is remembered of models' files is of no cluster, and is kept.
    """
    assert first_up
    checkout.run("destroy", "local", "--yes")
    assert (
        checkout.kubectl("local", "get", "namespaces", "-l", "app.kubernetes.io/managed-by=kiban", "-o", "name") == ""
    )
    checkout.run("cluster", "down", "local")
    after = leavings(checkout)
    after["files"] -= {str(checkout.root / each) for each in (".kiban", ".kiban/models-verified.json")}
    left = {kind: sorted(after[kind] - before[kind]) for kind in after}
    assert left == {kind: [] for kind in after}
    record(
        line="4 destroy and cluster down leave nothing",
        evidence="executed",
        figure="nothing left",
        goal="no process, interface, mount or file",
        command="./kiban destroy local; ./kiban cluster down local",
    )
