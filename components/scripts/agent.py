"""Stands before a model's server: passes requests on, and sends what was asked and answered to the request log.

Runs in a model's pod, in the place of KServe's agent. What it does for callers who keep a connection:
- The server is watched by a connection of its own. When that ends and no other can be made, the server is gone, and
  every caller's connection is ended at once, so that its next request is to a pod that serves.
- From SIGTERM on each answer ends its connection, by the server's own word: the request is passed on as the last of its
  connection. GET /drained, which the kubelet asks before it ends the server, is answered when all have left.
What is not HTTP/1, such as gRPC, or not any longer, is passed on as it comes, and not logged.
"""
# ruff: noqa: INP001 - a program of its own

import asyncio
import contextlib
import datetime as dt
import http.client
import json
import os
import signal
import sys
import urllib.error
import urllib.request
import uuid
from typing import Any

LEAST, MOST = 5.0, 15.0
"""Seconds for which new connections may come after SIGTERM, and until idle ones are ended."""
FLUSH_SECONDS = 1.0
KEPT = 10_000
"""Lines that are kept while the request log is away; of more, the oldest are lost."""
LOGGED = 8 << 20
"""Bytes of a request or a response that are logged."""
_PIECE = 1 << 16
_END = b"\r\n\r\n"
_ERRORS = (OSError, EOFError, ValueError, asyncio.LimitOverrunError)
"""What a connection that ends, or does not speak HTTP, raises."""

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Log:
    """Sends lines to the request log, some at a time. about: what each line says of its pod."""

    def __init__(self, url: str, about: dict[str, str]) -> None:
        self._url, self._about = url, about
        self._lines: list[bytes] = []

    def add(self, began: float, request: bytes, response: bytes | None) -> None:
        """Add a request that came at a time, and what it was answered if it was."""
        answered = None if response is None else _text(response)
        said: dict[str, str | None] = {"event": str(uuid.uuid4()), "time": _rfc3339(began), **self._about}
        said |= {"request": _text(request), "response": answered}
        self._lines.append(json.dumps(said, separators=(",", ":")).encode() + b"\n")

    async def run(self) -> None:
        """Send what there is, again and again."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Send what there is. What cannot be sent is kept, the newest of it."""
        lines, self._lines = self._lines, []
        if lines and not await asyncio.to_thread(_post, self._url, b"".join(lines)):
            every = lines + self._lines
            self._lines = every[-KEPT:]
            if lost := len(every) - len(self._lines):
                sys.stderr.write(f"{lost} requests are not logged\n")


def _post(url: str, body: bytes) -> bool:
    """Send a body; whether there is nothing left to do with it."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, body), timeout=10).close()  # noqa: S310 - as it is given
    except urllib.error.HTTPError as error:
        sys.stderr.write(f"{url}: {error}\n")
        return error.code == http.HTTPStatus.BAD_REQUEST
    except (OSError, http.client.HTTPException) as error:
        sys.stderr.write(f"{url}: {error}\n")
        return False
    return True


def _text(body: bytes) -> str:
    return body[:LOGGED].decode(errors="replace")


def _rfc3339(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat().replace("+00:00", "Z")


class Head:
    """The first lines of a message: its first line in words, and its headers by lower-case name."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        first, *lines = raw[: -len(_END)].split(b"\r\n")
        self.words = first.split(b" ", 2)
        pairs = (line.partition(b":") for line in lines)
        self.headers = {name.strip().lower(): value.strip() for name, _, value in pairs}

    @property
    def chunked(self) -> bool:
        """Whether its body comes in chunks."""
        return self.headers.get(b"transfer-encoding", b"").lower().endswith(b"chunked")

    @property
    def length(self) -> int | None:
        """How long its body is, where it says so."""
        given = self.headers.get(b"content-length")
        return None if given is None else int(given)

    @property
    def last(self) -> bool:
        """Whether its connection ends with it."""
        named = self.headers.get(b"connection", b"").lower()
        old = b"HTTP/1.0" in (self.words[0], self.words[-1])
        return b"close" in named or (old and b"keep-alive" not in named)


class Agent:
    """Passes connections on to the server on a port of the pod."""

    def __init__(self, port: int, log: Log) -> None:
        self._port, self._log = port, log
        self._callers: dict[asyncio.StreamWriter, bool] = {}  # and whether a request of its is under way
        self._ending = False
        self._drained = asyncio.Event()
        self._told: set[asyncio.Future[None]] = set()

    async def watch(self) -> None:
        """End all callers' connections whenever the server is gone."""
        while True:
            try:
                reader, writer = await self._server()
            except ConnectionRefusedError:
                for caller in list(self._callers):
                    caller.transport.abort()
            except OSError as error:
                sys.stderr.write(f"the server: {error}\n")
            else:
                with contextlib.suppress(OSError):
                    while await reader.read(_PIECE):
                        pass
                writer.close()
                continue
            await asyncio.sleep(0.1)

    async def drain(self) -> None:
        """From now on end connections, at the latest the idle ones after a while; return when there are none."""
        self._ending = True
        now = asyncio.get_running_loop().time
        began = now()
        while self._callers or now() < began + LEAST:
            await asyncio.sleep(0.1)
            for caller in [each for each, busy in self._callers.items() if not busy] if now() > began + MOST else ():
                caller.close()
                self._callers.pop(caller)
        self._drained.set()
        await asyncio.gather(*self._told)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass a caller's requests on, one after the other."""
        self._callers[writer] = False
        server: Stream | None = None
        try:
            while True:
                head = Head(await reader.readuntil(_END))
                self._callers[writer] = True
                if head.words[:2] == [b"GET", b"/drained"]:
                    self._callers.pop(writer)
                    await self._tell(writer)
                    return
                server = await self._exchange(head, (reader, writer), server)
                if server is None:
                    return
                self._callers[writer] = False
        except _ERRORS:
            if self._callers.get(writer):
                writer.transport.abort()
        finally:
            self._callers.pop(writer, None)
            for each in (writer, *([server[1]] if server else [])):
                each.close()

    async def _tell(self, writer: asyncio.StreamWriter) -> None:
        """Answer when all callers have left."""
        told = asyncio.get_running_loop().create_future()
        self._told.add(told)
        try:
            await self._drained.wait()
            writer.write(_answer(b"200 OK"))
            await writer.drain()
        finally:
            told.set_result(None)

    async def _exchange(self, head: Head, caller: Stream, server: Stream | None) -> Stream | None:
        """Pass one request on, and its response back; return the server's connection if it can be used again."""
        reader, writer = caller
        began = dt.datetime.now(dt.UTC).timestamp()
        if head.words[-1] not in (b"HTTP/1.1", b"HTTP/1.0"):
            server = await self._server()
            server[1].write(head.raw)
            await _tunnel(caller, server)
            return None
        if head.headers.get(b"expect", b"").lower() == b"100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        wire, body = await _body(head, reader)
        last = head.last or self._ending
        raw = head.raw[:-2] + b"Connection: close\r\n\r\n" if self._ending else head.raw
        try:
            server, answer = await self._ask(raw + wire, server)
        except _ERRORS:
            writer.write(_answer(b"502 Bad Gateway"))
            if body:
                self._log.add(began, body, None)
            return None
        again = False
        try:
            writer.write(answer.raw)
            if answer.words[1] == b"101":
                await _tunnel(caller, server)
                return None
            bare = head.words[0] == b"HEAD" or answer.words[1] in (b"204", b"304")
            content = bytearray()
            async for piece, part in _pieces(answer, server[0], bare=bare):
                writer.write(piece)
                await writer.drain()
                content += part[: LOGGED - len(content)]
            bounded = bare or answer.chunked or answer.length is not None
            again = bounded and not (last or answer.last)
        finally:
            if not again:
                server[1].close()
        if body:
            self._log.add(began, body, bytes(content) if answer.words[1] == b"200" else None)
        return server if again else None

    async def _ask(self, request: bytes, server: Stream | None) -> tuple[Stream, Head]:
        """Send a request; by a new connection where the kept one has been ended before anything came back."""
        for kept in (server, None):
            if kept is not None and (kept[0].at_eof() or kept[1].is_closing()):
                kept[1].close()
                continue
            if kept is None and server is not None:
                server[1].close()
            there = kept or await self._server()
            try:
                there[1].write(request)
                await there[1].drain()
                answer = Head(await there[0].readuntil(_END))
                while answer.words[1] == b"100":
                    answer = Head(await there[0].readuntil(_END))
            except (ConnectionError, EOFError) as error:
                there[1].close()
                if kept is None or (isinstance(error, asyncio.IncompleteReadError) and error.partial):
                    raise
            else:
                return there, answer
        raise ConnectionError

    async def _server(self) -> Stream:
        return await asyncio.open_connection("127.0.0.1", self._port, limit=_PIECE)


def _answer(status: bytes) -> bytes:
    return b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


async def _tunnel(caller: Stream, server: Stream) -> None:
    """Pass everything on as it comes, both ways, until either side ends."""
    ways = [asyncio.create_task(_pump(one[0], other[1])) for one, other in ((caller, server), (server, caller))]
    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    for way in ways:
        way.cancel()
    server[1].close()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await source.read(_PIECE):
            target.write(piece)
            await target.drain()


async def _body(head: Head, reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """A request's body as it came, and its content."""
    if not head.chunked and head.length is None:
        return b"", b""
    wire, body = bytearray(), bytearray()
    async for piece, content in _pieces(head, reader):
        wire += piece
        body += content
    return bytes(wire), bytes(body)


async def _pieces(head: Head, reader: asyncio.StreamReader, *, bare: bool = False) -> Any:  # noqa: ANN401
    """Parts of a message's body as they come: what is passed on, and the content in it."""
    if bare:
        return
    if head.chunked:
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            if not size:
                break
            content = await reader.readexactly(size + 2)
            yield line + content, content[:-2]
        while line != b"\r\n":  # trailers
            yield line, b""
            line = await reader.readuntil(b"\r\n")
        yield line, b""
        return
    left = head.length
    while left != 0:
        content = await reader.read(_PIECE if left is None else min(left, _PIECE))
        if not content and left is None:
            return
        if not content:
            raise EOFError
        left = left and left - len(content)
        yield content, content


async def main() -> None:
    """Serve until SIGTERM, and until nobody is left."""
    environ = os.environ
    about = {"model": environ["MODEL"], "version": environ["VERSION"]}
    log = Log(environ["LOG_URL"], about)
    agent = Agent(int(environ["SERVER_PORT"]), log)
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    listener = await asyncio.start_server(agent.serve, port=int(environ["PORT"]), backlog=1024, limit=_PIECE)
    others = asyncio.gather(agent.watch(), log.run())
    await ending.wait()
    await agent.drain()
    listener.close()
    others.cancel()
    await log.flush()


if __name__ == "__main__":
    asyncio.run(main())
