"""Requests to an API server that has something to say about when to ask."""

import contextlib
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infra.clusters.embedded import pki
from infra.clusters.embedded.api import Api, Refused

OK, TOO_MANY, UNAVAILABLE = 200, 429, 503


@contextlib.contextmanager
def answering(folder: Path, *answers: tuple[int, str | None]) -> Iterator[tuple[Api, list[str]]]:
    """Yield an API whose server gives these answers (status, Retry-After) in turn, and the paths that it was asked."""
    asked: list[str] = []
    left = iter(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append(self.path)
            status, later = next(left)
            body = b'{"message": "storage is (re)initializing"}'
            self.send_response(status)
            if later is not None:
                self.send_header("Retry-After", later)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    pki.ensure(folder, addresses=("127.0.0.1",))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "apiserver.crt", folder / "apiserver.key")
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Api(f"https://127.0.0.1:{server.server_port}", pki=folder), asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_one_that_asks_to_be_asked_again_is(tmp_path: Path) -> None:
    """As for a kind whose store is being made again, which lasts for seconds."""
    with answering(tmp_path, (TOO_MANY, "0"), (TOO_MANY, "1"), (OK, None)) as (api, asked):
        assert api.get("/apis/a/v1/b")
    assert asked == ["/apis/a/v1/b"] * 3


@pytest.mark.parametrize("answer", [(TOO_MANY, None), (TOO_MANY, "3600"), (UNAVAILABLE, "0")])
def test_any_other_error_is_said_at_once(tmp_path: Path, answer: tuple[int, str | None]) -> None:
    """Also where it would have to be waited for longer than a request may take."""
    said = r"GET /b: storage is \(re\)initializing"
    with answering(tmp_path, answer) as (api, asked), pytest.raises(Refused, match=said) as refused:
        api.get("/b")
    assert refused.value.status == answer[0]
    assert asked == ["/b"]
