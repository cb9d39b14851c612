"""The agent before a model's server: what callers get, and what is logged. Executed as a process, before a server."""

import contextlib
import functools
import http.client
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from components.scripts import agent
from infra.clusters.waiting import until

BODY = json.dumps({"id": "r-1", "inputs": []}).encode()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Answers each request on a port with what it is told to; `asked` has the requests, each as it came."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.answer: Callable[[socket.socket], Any] = lambda connection: connection.sendall(OK)
        self.connections: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while asked := connection.recv(1 << 20):
                self.asked.append(asked)
                self.answer(connection)

    def idle(self) -> None:
        """End all connections, as a server does with idle ones, and go on."""
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.connections.clear()

    def end(self) -> None:
        """Be gone, as a process that was killed."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.idle()


class Lines:
    """A request log: `got` has the lines that were posted, `status` what it answers."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status = 200
        lines = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if lines.status == http.HTTPStatus.OK:
                    lines.got += [json.loads(line) for line in body.splitlines()]
                self.send_response(lines.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    """Return a server."""
    made = Server()
    yield made
    with contextlib.suppress(OSError):
        made.end()


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Return a request log."""
    made = Lines()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def process(server: Server, lines: Lines) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Return an agent before the server, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environ = {
        "PATH": os.environ["PATH"],
        "PORT": str(port),
        "SERVER_PORT": str(server.port),
        "LOG_URL": f"http://127.0.0.1:{lines.server.server_port}/",
        "MODEL": "digits",
        "VERSION": "3",
        "NO_PROXY": "127.0.0.1",
    }
    started = subprocess.Popen([sys.executable, str(Path(agent.__file__))], env=environ)
    until(functools.partial(answers, port), seconds=10, what="the agent to answer")
    until(lambda: bool(server.connections), seconds=10, what="the agent to watch the server")
    yield started, port
    started.kill()
    started.wait()


@pytest.fixture
def port(process: tuple[subprocess.Popen[bytes], int]) -> int:
    """Return the agent's port."""
    return process[1]


def answers(port: int) -> bool:
    """Return whether something listens."""
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def asked(connection: http.client.HTTPConnection, body: bytes = BODY) -> bytes:
    """Return what a model is answered with."""
    connection.request("POST", "/v2/models/digits/infer", body)
    return connection.getresponse().read()


def caller(port: int) -> http.client.HTTPConnection:
    """Return a connection to the agent that is kept."""
    return http.client.HTTPConnection("127.0.0.1", port, timeout=10)


def test_requests_of_a_kept_connection_are_answered_and_logged(port: int, server: Server, lines: Lines) -> None:
    """Over one connection to the server too, and each is a line."""
    connection = caller(port)
    assert [asked(connection) for _ in range(3)] == [b"ok"] * 3
    assert all(each.endswith(BODY) for each in server.asked)
    until(lambda: len(lines.got) == 3, seconds=5, what="three lines")
    (first, *_) = lines.got
    assert {key: first[key] for key in ("model", "version", "request", "response")} == {
        "model": "digits",
        "version": "3",
        "request": BODY.decode(),
        "response": "ok",
    }
    assert first["time"].endswith("Z")
    assert len({line["event"] for line in lines.got}) == 3
    assert len(server.connections) == 2  # and the one that watches


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwiki\r\n5;x=y\r\npedia\r\n0\r\nT: 1\r\n\r\n",
            b"wikipedia",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000, b"x" * 200_000),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok"),
    ],
    ids=["chunks with a trailer", "a long one", "one that goes on first"],
)
def test_every_kind_of_answer_passes(port: int, server: Server, lines: Lines, answer: bytes, body: bytes) -> None:
    """Twice over a kept connection: where one answer ends is known."""
    server.answer = lambda connection: connection.sendall(answer)
    connection = caller(port)
    assert [asked(connection), asked(connection)] == [body, body]
    until(lambda: len(lines.got) == 2, seconds=5, what="two lines")
    assert lines.got[0]["response"] == body.decode()


def test_a_piece_of_an_answer_is_passed_on_at_once(port: int, server: Server) -> None:
    """Words of a language model are read while it goes on."""
    go_on = threading.Event()

    def slowly(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        go_on.wait(10)
        connection.sendall(b"0\r\n\r\n")

    server.answer = slowly
    connection = caller(port)
    connection.request("POST", "/", BODY)
    response = connection.getresponse()
    assert response.read(5) == b"first"
    go_on.set()
    assert response.read() == b""


def test_an_answer_without_a_length_ends_with_its_connection(port: int, server: Server) -> None:
    """As HTTP/1.0 has it."""

    def once(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nto the end")
        connection.shutdown(socket.SHUT_RDWR)

    server.answer = once
    assert asked(caller(port)) == b"to the end"


def test_chunks_are_sent_as_they_came(port: int, server: Server, lines: Lines) -> None:
    """And logged without their lengths."""
    connection = caller(port)
    connection.request("POST", "/", iter([b"{", b"}"]), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    assert connection.getresponse().read() == b"ok"
    assert b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n" in server.asked[-1]
    until(lambda: bool(lines.got), seconds=5, what="a line")
    assert lines.got[0]["request"] == "{}"


def test_who_asks_whether_to_go_on_is_told_to(port: int) -> None:
    """Before the body, for which the server is not asked."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_a_request_that_failed_has_no_answer_and_what_has_no_body_is_no_request(
    port: int, server: Server, lines: Lines
) -> None:
    """A GET is for health or metadata."""
    connection = caller(port)
    connection.request("GET", "/v2")
    assert connection.getresponse().read() == b"ok"
    server.answer = lambda there: there.sendall(b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno")
    assert asked(connection) == b"no"
    until(lambda: bool(lines.got), seconds=5, what="a line")
    assert [line["response"] for line in lines.got] == [None]


def test_what_is_not_http_passes(port: int, server: Server) -> None:
    """GRPC, say, which begins with a line of its own."""
    server.answer = lambda connection: connection.sendall(b"\x00\x01")
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(preface)
        assert connection.recv(2, socket.MSG_WAITALL) == b"\x00\x01"
        until(lambda: b"".join(server.asked) == preface, seconds=5, what="all of it")


def test_an_upgrade_that_the_server_takes_is_passed_on(port: int, server: Server) -> None:
    """After its answer the connection is no longer HTTP's."""
    server.answer = lambda there: there.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n\x01")
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        until(lambda: connection.recv(1000, socket.MSG_PEEK).endswith(b"\r\n\r\n\x01"), seconds=5, what="the answer")
        connection.recv(1000)
        server.answer = lambda there: there.sendall(b"\x03")
        connection.sendall(b"\x02")
        assert connection.recv(1) == b"\x03"
    assert server.asked[-1] == b"\x02"


def test_an_upgrade_that_the_server_does_not_take_changes_nothing(port: int, server: Server, lines: Lines) -> None:
    """Java's client offers one with its first request."""
    connection = caller(port)
    connection.request("POST", "/", BODY, {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c"})
    assert connection.getresponse().read() == b"ok"
    assert asked(connection) == b"ok"
    until(lambda: len(lines.got) == 2, seconds=5, what="two lines")
    assert len(server.connections) == 2


def test_a_caller_of_http_1_0_is_answered_and_logged(port: int, lines: Lines) -> None:
    """And its connection ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}")
        answer = b""
        while piece := connection.recv(1000):
            answer += piece
    assert answer == OK
    until(lambda: len(lines.got) == 1, seconds=5, what="a line")


def test_a_caller_that_leaves_leaves_nothing_open(port: int, server: Server) -> None:
    """In the middle of an answer, say."""
    left = threading.Event()

    def endlessly(there: socket.socket) -> None:
        there.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        try:
            while True:
                there.sendall(b"x" * 100_000)
        except OSError:
            left.set()

    server.answer = endlessly
    connection = caller(port)
    connection.request("POST", "/", BODY)
    connection.getresponse().read(10)
    connection.close()
    assert left.wait(10)


def test_a_server_may_end_idle_connections(port: int, server: Server) -> None:
    """The caller's is kept: its next request goes by a new one."""
    connection = caller(port)
    assert asked(connection) == b"ok"
    server.idle()
    time.sleep(0.2)
    kept = connection.sock
    assert asked(connection) == b"ok"
    assert connection.sock is kept


def test_a_request_on_a_connection_that_ends_meanwhile_is_sent_again(port: int, server: Server) -> None:
    """Nothing of an answer has come back, and the server is there."""
    connection = caller(port)
    assert asked(connection) == b"ok"

    def leave(there: socket.socket) -> None:
        server.answer = lambda other: other.sendall(OK)
        there.shutdown(socket.SHUT_RDWR)

    server.answer = leave
    assert asked(connection) == b"ok"


def test_when_the_server_is_gone_callers_are_let_go_at_once(port: int, server: Server) -> None:
    """An idle connection ends, so that its caller makes another one; a request is answered 502, once a connection."""
    idle = caller(port)
    assert asked(idle) == b"ok"
    server.end()
    assert idle.sock
    idle.sock.settimeout(1)
    with contextlib.suppress(ConnectionResetError):
        assert idle.sock.recv(1) == b""
    late = caller(port)
    late.request("POST", "/", BODY)
    response = late.getresponse()
    assert (response.status, response.headers["Connection"]) == (502, "close")


def test_an_answer_that_breaks_off_is_not_taken_for_whole(port: int, server: Server) -> None:
    """Its connection is reset."""

    def half(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        connection.shutdown(socket.SHUT_RDWR)

    server.answer = half
    connection = caller(port)
    connection.request("POST", "/", BODY)
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        connection.getresponse().read()


def test_from_sigterm_on_answers_end_their_connections(
    process: tuple[subprocess.Popen[bytes], int], server: Server, lines: Lines
) -> None:
    """New ones are still served for a while; who asks /drained is answered when all have left; then it is over."""
    program, port = process
    kept, drained = caller(port), caller(port)
    assert asked(kept) == b"ok"
    drained.timeout = 30
    drained.request("GET", "/drained")
    program.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    server.answer = lambda there: there.sendall(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    for connection in (kept, caller(port)):
        connection.request("POST", "/", BODY)
        response = connection.getresponse()
        assert (response.read(), response.headers["Connection"]) == (b"ok", "close")
        assert b"\r\nConnection: close\r\n\r\n" in server.asked[-1]
    began = time.monotonic()
    assert drained.getresponse().status == http.HTTPStatus.OK
    assert time.monotonic() - began < agent.LEAST + 2
    assert program.wait(5) == 0
    assert len(lines.got) == 3


def test_an_idle_caller_is_waited_for_and_then_let_go(process: tuple[subprocess.Popen[bytes], int]) -> None:
    """Whoever goes on within that time is told; a request that is under way is not broken off."""
    program, port = process
    idle = caller(port)
    assert asked(idle) == b"ok"
    program.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert idle.sock
    idle.sock.settimeout(agent.MOST + 5)
    assert idle.sock.recv(1) == b""
    assert time.monotonic() - began > agent.MOST - 1
    assert program.wait(5) == 0


def test_lines_are_kept_while_the_log_is_away(port: int, lines: Lines) -> None:
    """In their order."""
    lines.status = 503
    connection = caller(port)
    for number in range(3):
        asked(connection, json.dumps(number).encode())
    time.sleep(agent.FLUSH_SECONDS * 2)
    lines.status = 200
    until(lambda: len(lines.got) == 3, seconds=5, what="the lines")
    assert [line["request"] for line in lines.got] == ["0", "1", "2"]
