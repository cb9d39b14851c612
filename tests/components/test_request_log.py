"""The request log: what agents post is written to a real object store. Executed as a process."""

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
from components.scripts.request_log import Log, key
from infra import toolchain
from infra.clusters.waiting import until

SECRET = "not-a-secret"  # noqa: S105
ASKED = {"id": "r-1", "inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [1.0]}]}
ANSWERED = {"model_name": "digits", "id": "r-1", "outputs": []}


def line(number: str, request: object = ASKED, response: object = ANSWERED, model: str = "digits") -> bytes:
    """Return a line as the agent before a model sends it."""
    said = {"event": number, "time": "2026-01-02T03:04:05Z", "model": model, "version": "3"}
    texts = {"request": json.dumps(request), "response": None if response is None else json.dumps(response)}
    return json.dumps(said | texts).encode() + b"\n"


def taken(*given: bytes) -> list[dict[str, Any]]:
    """Return what is written of some lines."""
    log = Log()
    log.take(b"".join(given))
    return log.batches().get("digits", [])


def test_a_request_and_its_response_are_one_line() -> None:
    """As JSON where they are that."""
    assert taken(line("e")) == [
        {
            "id": "r-1",
            "time": "2026-01-02T03:04:05Z",
            "model": "digits",
            "version": "3",
            "request": ASKED,
            "response": ANSWERED,
        }
    ]
    (text,) = taken(line("e").replace(rb'"{\"id\": \"r-1\"', rb'"no {\"id\": \"r-1\"', 1))
    assert text["request"].startswith("no {")


@pytest.mark.parametrize(
    ("request_body", "response_body", "known"),
    [
        (ASKED, ANSWERED | {"id": "other"}, "r-1"),
        ({"inputs": []}, ANSWERED, "r-1"),
        ({"inputs": []}, {"outputs": []}, "event"),
        ([1], None, "event"),
    ],
)
def test_a_lines_id_is_what_the_caller_knows(request_body: object, response_body: object, known: str) -> None:
    """Labels come later by that id."""
    (written,) = taken(line("event", request_body, response_body))
    assert written["id"] == known


def test_a_request_that_failed_has_no_response_and_is_counted() -> None:
    """Also for who looks at the metrics."""
    log = Log()
    log.take(line("e", response=None) + line("f"))
    assert [each["response"] for each in log.batches()["digits"]] == [None, ANSWERED]
    assert log.counts["unanswered"] == 1


@pytest.mark.parametrize("given", [b"no JSON", b"[]", b"{}", line("e").replace(b'"version"', b'"vision"')])
def test_of_a_body_with_a_line_that_is_none_nothing_is_taken(given: bytes) -> None:
    """Whoever sent it is told."""
    log = Log()
    with pytest.raises(ValueError, match=r".+"):
        log.take(line("e") + given)
    assert log.batches() == {}


def test_more_than_can_be_kept_is_lost_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go: a store that is away must not end the pod."""
    monkeypatch.setattr(request_log, "MOST", 2)
    log = Log()
    for number in "abc":
        log.take(line(number, {"id": number}))
    assert [each["id"] for each in log.batches()["digits"]] == ["b", "c"]
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
    """And what is no line is refused."""
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
                client.post("/", content=line(f"e-{number}", ASKED | {"id": f"r-{number}"}))
            client.post("/", content=line("e", ASKED | {"id": "failed"}, None))
            assert client.post("/", json={}).status_code == httpx.codes.BAD_REQUEST
            assert client.get("/healthz").status_code == httpx.codes.OK
        program.send_signal(signal.SIGTERM)
        assert program.wait(30) == 0
    finally:
        program.kill()
        program.wait()
    found = store.list_objects_v2(Bucket="vision", Prefix="requests/digits/")["Contents"]
    lines = [
        json.loads(written)
        for each in found
        for written in store.get_object(Bucket="vision", Key=each["Key"])["Body"].read().decode().splitlines()
    ]
    assert {each["id"] for each in lines} == {f"r-{number}" for number in range(30)} | {"failed"}
    assert [each["id"] for each in lines if each["response"] is None] == ["failed"]
