"""Writes what models were asked and answered to the team's bucket, a line of JSON a request.

Runs in a pod. The agent before each model posts lines of JSON (agent.py): an event's id, time, model, version, and what
was asked and answered as text; the answer is null where the request failed. A line's id is what the caller knows: that
of the V2 request, else of the response, else the event's.
Files: s3://BUCKET/requests/MODEL/YYYY/MM/DD/HHMMSS-UNIQUE.jsonl.
"""
# ruff: noqa: INP001 - a program of its own

import collections
import datetime as dt
import http.server
import itertools
import json
import os
import signal
import sys
import threading
import time
from typing import Any

FLUSH_SECONDS = 5.0
FLUSH_LINES = 1000
MOST = 20_000
"""Requests that are kept while the object store is away; of more, the oldest are lost, and counted."""

Line = dict[str, Any]


class Log:
    """Keeps the lines until they are written."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done: collections.deque[tuple[str, Line]] = collections.deque()
        self.full = threading.Event()
        self.counts = collections.Counter({"lines": 0, "lost": 0, "unanswered": 0})

    def take(self, body: bytes) -> None:
        """Take lines of an agent. Raises ValueError, and takes none, where one is none."""
        lines = [_line(json.loads(each)) for each in body.splitlines()]
        with self._lock:
            self._done.extend((line["model"], line) for line in lines)
            self.counts["unanswered"] += sum(line["response"] is None for line in lines)
            self._bound()
            if len(self._done) >= FLUSH_LINES:
                self.full.set()

    def batches(self, *, everything: bool = False) -> dict[str, list[Line]]:
        """Model to its lines, which are no longer kept here; of many some, if not everything."""
        made: dict[str, list[Line]] = {}
        with self._lock:
            for _ in range(len(self._done) if everything else min(len(self._done), FLUSH_LINES)):
                model, line = self._done.popleft()
                made.setdefault(model, []).append(line)
            if len(self._done) < FLUSH_LINES:
                self.full.clear()
        return made

    def back(self, model: str, lines: list[Line]) -> None:
        """Keep lines after all, which could not be written."""
        with self._lock:
            self._done.extendleft((model, line) for line in reversed(lines))
            self._bound()

    def _bound(self) -> None:
        while len(self._done) > MOST:
            self._done.popleft()
            self.counts["lost"] += 1


def _line(given: Any) -> Line:  # noqa: ANN401 - any JSON
    """What is written of an agent's line."""
    try:
        line = {key: given[key] for key in ("time", "model", "version")}
        request, response = (None if given[key] is None else _content(given[key]) for key in ("request", "response"))
        known = (said["id"] for said in (request, response) if isinstance(said, dict) and said.get("id"))
        return {"id": str(next(known, given["event"])), **line, "request": request, "response": response}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{error!r} of {str(given)[:100]}") from None


def _content(text: str) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(text)
    except ValueError:
        return text


def key(model: str, now: float, unique: str) -> str:
    """Where a batch goes in the bucket."""
    return f"requests/{model}/{dt.datetime.fromtimestamp(now, dt.UTC):%Y/%m/%d/%H%M%S}-{unique}.jsonl"


class Writer(threading.Thread):
    """Writes the lines every few seconds, and once more at the end."""

    def __init__(self, log: Log, store: Any, bucket: str, pod: str) -> None:  # noqa: ANN401 - boto3 has no types
        super().__init__()
        self._log, self._store, self._bucket, self._pod = log, store, bucket, pod
        self._numbers = itertools.count()
        self._ending = threading.Event()

    def run(self) -> None:
        """Write until it is to end."""
        while not self._ending.is_set():
            self._log.full.wait(FLUSH_SECONDS)
            if not self.write(self._log.batches()):
                self._ending.wait(FLUSH_SECONDS)
        self.write(self._log.batches(everything=True))

    def end(self) -> None:
        """Write what there is and end."""
        self._ending.set()
        self._log.full.set()
        self.join()

    def write(self, batches: dict[str, list[Line]]) -> bool:
        """Write each model's lines as one object; whether all were."""
        fine = True
        for model, lines in batches.items():
            body = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
            where = key(model, time.time(), f"{self._pod}-{next(self._numbers)}")
            try:
                self._store.put_object(Bucket=self._bucket, Key=where, Body=body.encode())
            except Exception as error:  # noqa: BLE001 - whatever it is, the lines are kept and the next try may do
                sys.stderr.write(f"{where}: {error}\n")
                self._log.back(model, lines)
                fine = False
            else:
                self._log.counts["lines"] += len(lines)
        return fine


def server(log: Log, port: int) -> http.server.ThreadingHTTPServer:
    """What takes the events, and answers /healthz and /metrics."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 120

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                log.take(body)
            except ValueError as error:
                self._answer(400, f"no lines of an agent: {error}\n")
            else:
                self._answer(200, "")

        def do_GET(self) -> None:
            if self.path == "/healthz":
                self._answer(200, "ok\n")
            elif self.path == "/metrics":
                metrics = (
                    f"# TYPE kiban_request_log_{name}_total counter\nkiban_request_log_{name}_total {count}\n"
                    for name, count in log.counts.items()
                )
                self._answer(200, "".join(metrics))
            else:
                self._answer(404, "")

        def _answer(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing: there is one a request."""

    made = http.server.ThreadingHTTPServer(("", port), Handler)
    made.daemon_threads = True
    return made


def main() -> None:
    """Serve until SIGTERM."""
    import boto3  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 - the rest runs without
    from botocore.config import Config  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415

    store = boto3.client(
        "s3",
        endpoint_url=os.environ["S3_ENDPOINT"],
        config=Config(s3={"addressing_style": "path"}, connect_timeout=5, read_timeout=20),
    )
    log = Log()
    writer = Writer(log, store, os.environ["BUCKET"], os.environ["POD"])
    writer.start()
    serving = server(log, int(os.environ["PORT"]))
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=serving.shutdown).start())
    serving.serve_forever()
    writer.end()


if __name__ == "__main__":
    main()
