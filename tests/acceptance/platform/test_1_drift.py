"""`kiban drift` where every controller of the platform runs: nothing is found until somebody changes something."""

import time

from tests.checkout import Checkout
from tests.conftest import Record


def test_running_controllers_are_no_drift(platform: Checkout, full: bool, record: Record) -> None:  # noqa: FBT001
    """At once and, in the full run, for five minutes; then a label on a namespace is found alone, and gone again."""
    began = time.monotonic()
    looks = 0
    while not looks or (full and time.monotonic() - began < 300):  # seconds
        assert platform.json("drift", "local")["items"] == []
        looks += 1
        time.sleep(20 if full else 0)
    record(
        line="9.4 drift of an untouched environment, controllers running",
        evidence="executed",
        figure=f"no finding in {looks} looks over {time.monotonic() - began:.0f} s",
        goal="no false finding",
        command="./kiban drift local",
    )
    platform.kubectl("local", "label", "namespace", "kiban-metadata", "by-hand=yes")
    (item,) = platform.json("drift", "local", expect=1)["items"]
    assert (item["object"], item["manager"], item["change"]) == ("Namespace kiban-metadata", "kubectl-label", "label")
    platform.kubectl("local", "label", "namespace", "kiban-metadata", "by-hand-")
    assert platform.json("drift", "local")["items"] == []
