"""The request log: what KServe's agent posts, joined and written to a real object store. Executed as a process."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config

from components.scripts import request_log
from components.scripts.request_log import PATIENCE, REQUEST, RESPONSE, Log, key
from infra import toolchain
from infra.clusters.waiting import until

SECRET = "not-a-secret"  # noqa: S105
ASKED = {"id": "r-1", "inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [1.0]}]}
ANSWERED = {"model_name": "digits", "id": "r-1", "outputs": []}


def event(kind: str, number: str, service: str = "digits", **more: str) -> dict[str, str]:
    """Return the headers of a CloudEvent in binary mode, as the agent of KServe 0.20 sends it."""
    return {
        "ce-type": kind,
        "ce-id": number,
        "ce-inferenceservicename": service,
        "ce-time": "2026-01-02T03:04:05Z",
        "ce-annotations": json.dumps({"kiban.dev/model": "digits", "kiban.dev/model-version": "3"}),
        "content-type": "application/json",
        **more,
    }


def taken(*events: tuple[dict[str, str], Any]) -> list[dict[str, Any]]:
    """Return the lines of some events."""
    log = Log()
    for headers, body in events:
        log.take(headers, json.dumps(body).encode(), 0.0)
    return log.batches().get("digits", [])


@pytest.mark.parametrize("turned", [False, True])
def test_a_request_and_its_response_are_one_line(*, turned: bool) -> None:
    """The agent's workers send them in any order."""
    both = [(event(REQUEST, "e"), ASKED), (event(RESPONSE, "e"), ANSWERED)]
    assert taken(*(reversed(both) if turned else both)) == [
        {
            "id": "r-1",
            "time": "2026-01-02T03:04:05Z",
            "model": "digits",
            "version": "3",
            "request": ASKED,
            "response": ANSWERED,
        }
    ]


def test_requests_of_two_pods_with_one_id_are_not_mixed() -> None:
    """A model and its canary, say."""
    lines = taken(
        (event(REQUEST, "e"), ASKED),
        (event(REQUEST, "e", "digits-canary"), ASKED | {"id": "r-2"}),
        (event(RESPONSE, "e", "digits-canary"), ANSWERED | {"id": "r-2"}),
        (event(RESPONSE, "e"), ANSWERED),
    )
    assert [(line["request"]["id"], line["response"]["id"]) for line in lines] == [("r-2", "r-2"), ("r-1", "r-1")]


@pytest.mark.parametrize(
    ("request_body", "response_body", "known"),
    [
        (ASKED, ANSWERED | {"id": "other"}, "r-1"),
        ({"inputs": []}, ANSWERED, "r-1"),
        ({"inputs": []}, {"outputs": []}, "event"),
    ],
)
def test_a_lines_id_is_what_the_caller_knows(request_body: Any, response_body: Any, known: str) -> None:  # noqa: ANN401
    """Labels come later by that id."""
    (line,) = taken((event(REQUEST, "event"), request_body), (event(RESPONSE, "event"), response_body))
    assert line["id"] == known


def test_a_request_without_a_response_is_written_after_a_while() -> None:
    """One that failed has none."""
    log = Log()
    log.take(event(REQUEST, "e"), json.dumps(ASKED).encode(), 100.0)
    log.expire(100.0 + PATIENCE - 1)
    assert log.batches() == {}
    log.expire(100.0 + PATIENCE)
    assert log.batches()["digits"][0]["response"] is None
    assert log.counts["unanswered"] == 1


def test_more_than_can_be_kept_is_lost_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go: a store that is away must not end the pod."""
    monkeypatch.setattr(request_log, "MOST", 2)
    log = Log()
    for number in "abc":
        log.take(event(REQUEST, number), json.dumps({"id": number}).encode(), 0.0)
        log.take(event(RESPONSE, number), b"{}", 0.0)
    assert [line["id"] for line in log.batches()["digits"]] == ["b", "c"]
    assert log.counts["lost"] == 1


def test_a_key_is_by_model_and_day() -> None:
    """1767322245 is 2026-01-02 02:50:45 UTC."""
    assert key("digits", 1767322245.0, "pod-0") == "requests/digits/2026/01/02/025045-pod-0.jsonl"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Any]:
    """Return a client of a real object store with the bucket `vision`."""
    port = free_port()
    (tmp_path / "data").mkdir()
    command = [str(toolchain.resolve("versitygw")["versitygw"]), f"--port=127.0.0.1:{port}", "--access=root"]
    server = subprocess.Popen([*command, f"--secret={SECRET}", "--quiet", "posix", str(tmp_path / "data")])
    try:
        until(lambda: answers(port), seconds=10, what="the object store to answer")
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id="root",
            aws_secret_access_key=SECRET,
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )
        client.create_bucket(Bucket="vision")
        yield client
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found: int = free.getsockname()[1]
    return found


def answers(port: int) -> bool:
    """Return whether something listens."""
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def test_at_its_end_the_program_writes_what_it_has(store: Any) -> None:  # noqa: ANN401
    """Also a request that has no response yet; and what is no event is refused."""
    port = free_port()
    program = subprocess.Popen(
        [sys.executable, str(Path(request_log.__file__))],
        env={
            "PATH": os.environ["PATH"],
            "PORT": str(port),
            "BUCKET": "vision",
            "POD": "pod-1",
            "S3_ENDPOINT": store.meta.endpoint_url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "root",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "NO_PROXY": "127.0.0.1",
        },
    )
    try:
        until(lambda: answers(port), seconds=10, what="the request log to answer")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            for number in range(30):
                client.post("/", headers=event(REQUEST, f"e-{number}"), json=ASKED | {"id": f"r-{number}"})
                client.post("/", headers=event(RESPONSE, f"e-{number}"), json=ANSWERED | {"id": f"r-{number}"})
            client.post("/", headers=event(REQUEST, "late"), json=ASKED | {"id": "late"})
            assert client.post("/", json={}).status_code == httpx.codes.BAD_REQUEST
            assert client.get("/healthz").status_code == httpx.codes.OK
        program.send_signal(signal.SIGTERM)
        assert program.wait(30) == 0
    finally:
        program.kill()
        program.wait()
    found = store.list_objects_v2(Bucket="vision", Prefix="requests/digits/")["Contents"]
    lines = [
        json.loads(line)
        for each in found
        for line in store.get_object(Bucket="vision", Key=each["Key"])["Body"].read().decode().splitlines()
    ]
    assert {line["id"] for line in lines} == {f"r-{number}" for number in range(30)} | {"late"}
    assert [line["id"] for line in lines if line["response"] is None] == ["late"]
