"""How MLflow and the object store are reached; kubectl is a script that says what the real one does (1.36.3)."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from infra import kubectl, paths
from infra.clusters import Cluster
from infra.clusters.waiting import until
from infra.errors import RunFailed
from infra.kubectl import Kubectl
from infra.metadata import Metadata, Mlflow

Script = Callable[[str], Kubectl]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Return what makes a kubectl of a shell script that runs in the test's folder, after it has written its number."""

    def make(text: str) -> Kubectl:
        file = tmp_path / "kubectl"
        file.write_text(f"#!/bin/sh\ncd {tmp_path}\necho $$ > number\n{text}")
        file.chmod(0o755)
        return Kubectl(binary=file)

    return make


def gone(number: Path) -> bool:
    """Whether the process has ended."""
    try:
        return psutil.Process(int(number.read_text())).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_forwarded_port_lasts_as_long_as_the_block(script: Script, tmp_path: Path) -> None:
    """Its number is kubectl's own choice; a line a connection does not fill the pipe; and it ends with the block."""
    lines = 'i=0; while [ $i -lt 4000 ]; do echo "Handling connection for 4242"; i=$((i+1)); done; touch written\n'
    forwarding = script(f'echo "Forwarding from 127.0.0.1:4242 -> 5000"\n{lines}exec sleep 600')
    with forwarding.port_forward("service/mlflow", 5000, namespace="kiban-metadata") as port:
        assert port == 4242
        until((tmp_path / "written").exists, seconds=30, what="4000 lines to be written")
        assert not gone(tmp_path / "number")
    assert gone(tmp_path / "number")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('echo "error: unable to forward port because pod is not running" >&2; exit 1', "pod is not running"),
        ("exec sleep 600", "nothing within 0 s"),
    ],
    ids=["refused", "silent"],
)
def test_a_port_that_leads_nowhere_is_told(
    text: str, why: str, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In kubectl's words, or after a while; nothing is left running."""
    monkeypatch.setattr(kubectl, "_FORWARDED_WITHIN", 30.0 if "error" in text else 0.3)
    with (
        pytest.raises(RunFailed, match=f"port-forward service/mlflow of kiban-metadata: .*{why}"),
        script(text).port_forward("service/mlflow", 5000, namespace="kiban-metadata"),
    ):
        pass
    assert gone(tmp_path / "number")


def test_a_forwarded_port_ends_where_kiban_is_killed(script: Script, tmp_path: Path) -> None:
    """No process is left that holds a way into the cluster."""
    script('echo "Forwarding from 127.0.0.1:4242 -> 5000"; touch forwarding\nexec sleep 600')
    program = (
        "import pathlib, signal\n"
        "from infra.kubectl import Kubectl\n"
        f"with Kubectl(binary=pathlib.Path({str(tmp_path / 'kubectl')!r})).port_forward('x', 1, namespace='y'):\n"
        "    signal.pause()\n"
    )
    kiban = subprocess.Popen([sys.executable, "-c", program], cwd=paths.ROOT)
    until((tmp_path / "forwarding").exists, seconds=60, what="the port to be forwarded")
    os.kill(kiban.pid, signal.SIGKILL)
    kiban.wait()
    until(lambda: gone(tmp_path / "number"), seconds=10, what="kubectl to end")


def mlflow(answer: Callable[[httpx.Request], httpx.Response]) -> Mlflow:
    """Return a client of a server that answers so."""
    return Mlflow(httpx.Client(base_url="http://mlflow", transport=httpx.MockTransport(answer)))


def test_all_pages_are_read() -> None:
    """MLflow hands out a thousand runs at a time."""

    def answer(request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)
        assert request.url.path == "/api/2.0/mlflow/runs/search"
        assert asked["experiment_ids"] == ["7"]
        if "page_token" not in asked:
            return httpx.Response(200, json={"runs": [{"info": {"run_id": "a"}}], "next_page_token": "more"})
        return httpx.Response(200, json={"runs": [{"info": {"run_id": "b"}}]})

    assert [run["info"]["run_id"] for run in mlflow(answer).runs(["7"])] == ["a", "b"]
    assert mlflow(answer).runs([]) == []


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (httpx.Response(400, json={"error_code": "X", "message": "Invalid\nfilter"}), "400 Invalid filter"),
        (httpx.Response(403, text="Invalid Host header"), "403 Invalid Host header"),
    ],
)
def test_what_mlflow_refuses_is_told_in_one_line(response: httpx.Response, said: str) -> None:
    """With the status and the server's own message."""
    with pytest.raises(RunFailed, match=f"MLflow, experiments/search: {said}"):
        mlflow(lambda _: response).experiments()


def test_an_object_store_outside_the_cluster_is_asked_itself(tmp_path: Path) -> None:
    """Only what has no address outside the cluster goes through a forwarded port."""
    metadata = Metadata(Cluster(name="box", kubeconfig=tmp_path / "none", context="x", uid="1"))
    endpoint = "https://s3.example.org"
    with metadata.object_store(endpoint, region="eu-central-1", access="a", secret="b") as store:  # noqa: S106
        assert store.meta.endpoint_url == endpoint
