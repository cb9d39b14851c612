"""Writes what models were asked and answered to the team's bucket, a line of JSON a request.

Runs in a pod. KServe's agent beside each model posts two CloudEvents a request, of types
`org.kubeflow.serving.inference.request` and `.response`, with one id (KServe 0.20, pkg/logger). A request that failed
has no response event: its line is written after PATIENCE, with null. A line's id is what the caller knows: that of the
V2 request, else of the response, else the event's.
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
PATIENCE = 60.0
"""Seconds for a response to follow its request."""
MOST = 20_000
"""Requests that are kept while the object store is away; of more, the oldest are lost, and counted."""
REQUEST = "org.kubeflow.serving.inference.request"
RESPONSE = "org.kubeflow.serving.inference.response"

Line = dict[str, Any]


class Log:
    """Joins requests with responses and keeps the lines until they are written."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[str, str], tuple[float, Line]] = {}
        self._early: dict[tuple[str, str], tuple[float, Any]] = {}
        self._done: collections.deque[tuple[str, Line]] = collections.deque()
        self.full = threading.Event()
        self.counts = collections.Counter({"lines": 0, "lost": 0, "unanswered": 0})

    def take(self, headers: dict[str, str], body: bytes, now: float) -> None:
        """Take one event. headers: lower-case. Raises ValueError for what is none of a model's."""
        kind, service = headers.get("ce-type"), headers.get("ce-inferenceservicename", "")
        if kind not in (REQUEST, RESPONSE) or not service or not headers.get("ce-id"):
            raise ValueError(f"type {kind!r}")
        key = (service, headers["ce-id"])
        content = _content(body)
        with self._lock:
            if kind == REQUEST:
                if not body:
                    return  # a GET: of metadata or health
                labels = json.loads(headers.get("ce-annotations", "{}"))
                line = {
                    "id": key[1],
                    "time": headers.get("ce-time") or _rfc3339(now),
                    "model": labels.get("kiban.dev/model", service.removesuffix("-canary")),
                    "version": labels.get("kiban.dev/model-version", ""),
                    "request": content,
                    "response": None,
                }
                if key in self._early:
                    self._finish(line, self._early.pop(key)[1])
                else:
                    self._open[key] = (now, line)
            elif key in self._open:
                self._finish(self._open.pop(key)[1], content)
            else:
                self._early[key] = (now, content)  # the agent's workers send in any order
            self._bound()

    def expire(self, now: float) -> None:
        """Give up waiting for what has waited too long."""
        with self._lock:
            for key in [key for key, (since, _) in self._open.items() if since + PATIENCE <= now]:
                self.counts["unanswered"] += 1
                self._finish(self._open.pop(key)[1], None)
            for key in [key for key, (since, _) in self._early.items() if since + PATIENCE <= now]:
                del self._early[key]

    def batches(self, *, everything: bool = False) -> dict[str, list[Line]]:
        """Model to its lines, which are no longer kept here. everything: also those without a response yet."""
        if everything:
            self.expire(float("inf"))
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

    def _finish(self, line: Line, response: Any) -> None:  # noqa: ANN401 - any JSON
        line["response"] = response
        for said in (line["request"], response):
            if isinstance(said, dict) and said.get("id"):
                line["id"] = str(said["id"])
                break
        self._done.append((line["model"], line))
        if len(self._done) >= FLUSH_LINES:
            self.full.set()

    def _bound(self) -> None:
        while len(self._done) > MOST:
            self._done.popleft()
            self.counts["lost"] += 1
        for kept in (self._open, self._early):
            while len(kept) > MOST:
                del kept[next(iter(kept))]
                self.counts["lost"] += 1


def _content(body: bytes) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def _rfc3339(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat().replace("+00:00", "Z")


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
            self._log.expire(time.time())
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
                log.take({name.lower(): value for name, value in self.headers.items()}, body, time.time())
            except ValueError as error:
                self._answer(400, f"no event of a model: {error}\n")
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
