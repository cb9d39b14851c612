"""The engine is killed at points spread over an `up`; each time the next `up` converges."""

import subprocess
import time

import psutil

from tests.checkout import Checkout
from tests.conftest import Record


def kill_engine_after(checkout: Checkout, seconds: float) -> bool:
    """Run `./kiban up ci` and kill -9 every pulumi process this long after the first one; return whether it ran."""
    running = subprocess.Popen(
        ["./kiban", "up", "ci"],
        cwd=checkout.root,
        env=checkout.variables(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    engine = wait_for_engine(running, limit=120)
    time.sleep(seconds)  # the point itself, not a wait for something
    killed = engine is not None and engine.is_running()
    if engine is not None and killed:
        engine.kill()
    running.wait(timeout=120)
    return killed


def wait_for_engine(running: subprocess.Popen[bytes], limit: float) -> psutil.Process | None:
    """Return the `pulumi up` process below a running `./kiban up`."""
    end = time.monotonic() + limit
    while time.monotonic() < end and running.poll() is None:
        for child in psutil.Process(running.pid).children(recursive=True):
            try:
                words = child.cmdline()
            except psutil.Error:
                continue
            if words and words[0].endswith("pulumi") and "up" in words[1:3]:
                return child
        time.sleep(0.02)
    return None


def test_killed_anywhere_the_next_up_converges(checkout: Checkout, full: bool, record: Record) -> None:  # noqa: FBT001
    """After each kill -9 an `up` converges: another has nothing to do, and the state knows every labelled object."""
    points = 20 if full else 2
    checkout.run("cluster", "up", "ci", "--env", "ci")
    start = time.monotonic()
    checkout.run("up", "ci")
    span = time.monotonic() - start
    expected = sorted(objects(checkout))
    checkout.run("destroy", "ci", "--yes")
    killed = 0
    for point in range(points):
        killed += kill_engine_after(checkout, span * (point + 0.5) / points)
        checkout.run("up", "ci")
        document = checkout.json("up", "ci")
        assert set(next(item for item in document["items"] if "changes" in item)["changes"]) == {"unchanged"}
        assert checkout.json("sweep", "ci")["items"] == []
        assert sorted(objects(checkout)) == expected
        checkout.run("destroy", "ci", "--yes")
    assert killed >= points // 2
    record(
        line="5 kill -9 of the engine",
        evidence="executed",
        figure=f"{killed} of {points} hit, all converged",
        goal="20 points",
        command="./kiban up ci, killed",
    )


def objects(checkout: Checkout) -> list[str]:
    """Return what Kiban's label finds in the cluster, as kind, namespace and name."""
    kinds = "namespaces,configmaps,resourcequotas,networkpolicies,priorityclasses,validatingadmissionpolicies"
    columns = "custom-columns=KIND:.kind,NS:.metadata.namespace,NAME:.metadata.name"
    listed = checkout.kubectl("ci", "get", kinds, "-A", "-l", "app.kubernetes.io/managed-by=kiban", "-o", columns)
    return listed.splitlines()[1:]
