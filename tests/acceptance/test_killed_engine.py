"""The engine is killed at points spread over an `up`; each time the next `up` converges."""

import subprocess
import time
from typing import Any

import psutil
import pytest

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


@pytest.mark.parametrize("durable", [False, True], ids=["throwaway", "durable"])
def test_killed_anywhere_the_next_up_converges(
    checkout: Checkout,
    full: bool,  # noqa: FBT001
    durable: bool,  # noqa: FBT001
    record: Record,
) -> None:
    """After each kill -9 an `up` converges: another has nothing to do, and the state knows every labelled object.

    At a point on simulated nodes; the full run has twenty, and two with all controllers and databases in real pods.
    """
    choose_state(checkout, durable=durable)
    killed = sum(
        kill_at(checkout, points, real=real) for real, points in ((True, 2 if full else 0), (False, 20 if full else 1))
    )
    points = 22 if full else 2
    assert killed >= points / 2
    record(
        line=f"5 kill -9 of the engine, {'durable' if durable else 'throwaway'} state",
        evidence="executed",
        figure=f"{killed} of {points} hit, all converged",
        goal="20 points, all converged",
        command="./kiban up ci, killed",
    )


def kill_at(checkout: Checkout, points: int, *, real: bool) -> int:
    """Kill an `up` at so many points spread over its time, bring each to its end, and return how many hit."""
    if not points:
        return 0
    new_cluster(checkout, real=real)
    span = done(checkout.json("up", "ci"))["seconds"]
    expected = sorted(objects(checkout))
    killed = 0
    for point in range(points):
        new_cluster(checkout, real=real)
        killed += kill_engine_after(checkout, span * (point + 0.5) / points)
        checkout.run("up", "ci")
        assert set(done(checkout.json("up", "ci"))["changes"]) == {"unchanged"}
        assert checkout.json("sweep", "ci")["items"] == []
        assert sorted(objects(checkout)) == expected
    return killed


def new_cluster(checkout: Checkout, *, real: bool) -> None:
    """Start with a control plane that has nothing of the platform, and an empty stack."""
    checkout.run("cluster", "down", "ci")
    checkout.run("cluster", "up", "ci", "--env", "ci", KIBAN_REAL_NODE="1" if real else "0")
    checkout.run("env", "ci")


def choose_state(checkout: Checkout, *, durable: bool) -> None:
    """Write into stacks/ci.py how carefully its state is kept."""
    path = checkout.root / "stacks" / "ci.py"
    text = path.read_text().replace("THROWAWAY", "State").replace("state=State,", f"state=State(durable={durable}),")
    path.write_text(text.replace("state=State(durable=False),", f"state=State(durable={durable}),"))


def done(document: dict[str, Any]) -> dict[str, Any]:
    """Return what a run says of itself."""
    return next(item for item in document["items"] if "done" in item)


def objects(checkout: Checkout) -> list[str]:
    """Return what Kiban's label finds in the cluster, as kind, namespace and name."""
    kinds = "namespaces,configmaps,resourcequotas,networkpolicies,priorityclasses,validatingadmissionpolicies"
    columns = "custom-columns=KIND:.kind,NS:.metadata.namespace,NAME:.metadata.name"
    listed = checkout.kubectl("ci", "get", kinds, "-A", "-l", "app.kubernetes.io/managed-by=kiban", "-o", columns)
    return listed.splitlines()[1:]
