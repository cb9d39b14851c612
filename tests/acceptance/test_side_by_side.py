"""Two clusters at once, the same cluster twice, and a port that another program has."""

import json
import socket

import psutil
import pytest

from tests.checkout import Checkout
from tests.conftest import Record

pytestmark = pytest.mark.full


def processes(checkout: Checkout, name: str) -> dict[str, int]:
    """Return the process numbers of a cluster's processes."""
    items = checkout.json("cluster", "status", name)["items"]
    return {item["process"]: item["pid"] for item in items if "process" in item}


def test_two_clusters_and_the_same_one_twice(checkout: Checkout, record: Record) -> None:
    """Clusters of other names do not meet; a second `cluster up` of a name leaves every process as it is."""
    names = ("one", "two")
    try:
        for name in names:
            checkout.run("cluster", "up", name)
        first = {name: processes(checkout, name) for name in names}
        assert not set(first["one"].values()) & set(first["two"].values())
        checkout.kubectl("one", "create", "configmap", "only-here")
        listed = checkout.kubectl("two", "get", "configmaps", "-o", "name")
        assert "only-here" not in listed
        for name in names:
            checkout.run("cluster", "up", name)
        assert {name: processes(checkout, name) for name in names} == first
        checkout.run("cluster", "down", "one")
        assert processes(checkout, "two") == first["two"]
    finally:
        for name in names:
            checkout.run("cluster", "down", name)
    record(
        line="6 two clusters side by side",
        evidence="executed",
        figure="apart, unchanged by a second up",
        goal="apart, unchanged",
        command="./kiban cluster up one; ./kiban cluster up two",
    )


def test_a_taken_port_is_gone_around(checkout: Checkout, record: Record) -> None:
    """On loopback a port that another program has taken while the cluster was down is replaced, and said."""
    try:
        checkout.run("cluster", "up", "ports", "--env", "local", KIBAN_NETNS="0")
        items = checkout.json("cluster", "status", "ports")["items"]
        port = int(next(item["server"] for item in items if "server" in item).rsplit(":", 1)[1])
        running = [psutil.Process(pid) for pid in processes(checkout, "ports").values()]
        for process in running:
            process.kill()
        assert not psutil.wait_procs(running, timeout=30)[1]
        with socket.create_server(("127.0.0.1", port)):
            again = checkout.run("cluster", "up", "ports", "--env", "local", KIBAN_NETNS="0")
            assert str(port) in again.stderr
            assert json.loads(checkout.kubectl("ports", "get", "--raw", "/version"))["gitVersion"].startswith("v1.")
    finally:
        checkout.run("cluster", "down", "ports", KIBAN_NETNS="0")
    record(
        line="6 a taken port",
        evidence="executed",
        figure="another port, said in one line",
        goal="clear error or another",
        command="KIBAN_NETNS=0 ./kiban cluster up ports",
    )
