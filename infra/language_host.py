"""Kiban's own Python language host: what the `pulumi` command starts where the official one is missing.

Answers the part of Pulumi's LanguageRuntime protocol (3.259) that up, preview, refresh, destroy and about ask for, and
runs the program in this process. No virtual environments, debuggers, policy packs or generated code: those need the
official host, which is used wherever it is installed (infra/target.py).
"""

import asyncio
import concurrent.futures
import importlib.metadata
import os
import queue
import runpy
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc

_Method = Callable[[bytes, grpc.ServicerContext], bytes]
_SERVICE = "pulumirpc.LanguageRuntime"


def main() -> None:
    """Serve until the engine says stop or is gone; the first line on stdout is the port."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _end())
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    engine = os.getppid()
    programs: queue.SimpleQueue[tuple[bytes, concurrent.futures.Future[bytes]]] = queue.SimpleQueue()

    def run(request: bytes, _: grpc.ServicerContext) -> bytes:
        done: concurrent.futures.Future[bytes] = concurrent.futures.Future()
        programs.put((request, done))
        return done.result()

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((_handlers(run),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)  # noqa: T201
    threading.Thread(target=_end_with, args=(engine,), daemon=True).start()
    while True:
        request, done = programs.get()
        try:
            done.set_result(_run(request))
        except Exception as error:  # noqa: BLE001  the engine is told, whatever it was
            done.set_exception(error)


def _handlers(run: _Method) -> grpc.GenericRpcHandler:
    """The methods, on raw messages: importing Pulumi's own takes 0.3 s, and the engine asks two processes an `up`."""
    nothing: _Method = lambda _request, _context: b""  # noqa: E731
    answers: dict[str, _Method] = {
        "Run": run,
        "About": lambda *_: _text(1, sys.executable) + _text(2, sys.version.split()[0]),
        "GetPluginInfo": lambda *_: _text(1, importlib.metadata.version("pulumi")),
        "GetRequiredPackages": nothing,
        "GetRequiredPlugins": nothing,
        "GetProgramDependencies": nothing,
        "RuntimeOptionsPrompts": nothing,
        "Handshake": nothing,
        "Cancel": nothing,
    }
    handlers = {name: grpc.unary_unary_rpc_method_handler(answer) for name, answer in answers.items()}
    handlers["InstallDependencies"] = grpc.unary_stream_rpc_method_handler(lambda *_: iter(()))
    handlers["RunPlugin"] = grpc.unary_stream_rpc_method_handler(_refuse_plugin)
    return grpc.method_handlers_generic_handler(_SERVICE, handlers)


def _refuse_plugin(_request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    context.abort(
        grpc.StatusCode.UNIMPLEMENTED,
        "Kiban's language host runs programs only; for policy packs and components in Python put the official "
        "pulumi-language-python on PATH",
    )
    yield b""


def _run(request: bytes) -> bytes:
    """Run the program that a RunRequest names; return a RunResponse."""
    from pulumi.runtime.proto import language_pb2  # noqa: PLC0415  see _handlers

    message = language_pb2.RunRequest.FromString(request)
    program = Path(message.info.program_directory, message.info.entry_point)
    shown = _execute(message, program)
    return bytes(language_pb2.RunResponse(bail=shown).SerializeToString())


def _execute(request: Any, program: Path) -> bool:  # noqa: ANN401  a generated message
    """Run the program against the engine; whether it failed, with the error already shown to the user."""
    import pulumi  # noqa: PLC0415  see _handlers

    def run() -> None:
        runpy.run_path(str(program), run_name="__main__")

    workers = max(request.parallel, 1) * 4
    pulumi.runtime.set_all_config(dict(request.config), list(request.configSecretKeys))
    pulumi.runtime.reset_options(
        project=request.project,
        stack=request.stack,
        root_directory=request.info.root_directory,
        parallel=request.parallel,
        engine_address=sys.argv[-1],
        monitor_address=request.monitor_address,
        preview=request.dryRun,
        organization=request.organization or "organization",
    )
    sys.argv[:-1] = [str(program), *request.args]
    os.chdir(request.pwd)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(workers))
    # A program that fails leaves futures that nobody awaits; asyncio would print each of them.
    loop.set_exception_handler(lambda *_: None)
    try:
        loop.run_until_complete(pulumi.runtime.run_in_stack(run))
    except pulumi.RunError as error:
        pulumi.log.error(str(error))
    except grpc.RpcError as error:
        if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):  # else the engine is stopping
            pulumi.log.error(f"the engine answered: {error.details()}")
    except BaseException as error:  # noqa: BLE001  a program may raise anything, SystemExit too
        pulumi.log.error(
            f"{type(error).__name__}: {error}\n{_user_traceback(error, Path(request.info.root_directory))}"
        )
    else:
        return False
    return True


def _user_traceback(error: BaseException, root: Path) -> str:
    """The traceback from the first frame on that is the project's own."""
    summary = traceback.TracebackException.from_exception(error)
    ours = [
        index
        for index, frame in enumerate(summary.stack)
        if Path(frame.filename).is_relative_to(root)
        and Path(frame.filename) != Path(__file__)
        and "site-packages" not in Path(frame.filename).parts
    ]
    summary.stack = traceback.StackSummary.from_list(summary.stack[ours[0] if ours else 0 :])
    return "".join(summary.format())


def _text(field: int, text: str) -> bytes:
    """A string field of a protobuf message."""
    data = text.encode()
    length, size = len(data), b""
    while length > 127:
        size += bytes([length & 127 | 128])
        length >>= 7
    return bytes([field << 3 | 2]) + size + bytes([length]) + data


def _end() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _end_with(engine: int) -> None:
    """End this process soon after the engine: a killed one cannot say stop."""
    while os.getppid() == engine:
        time.sleep(0.5)
    _end()


if __name__ == "__main__":
    main()
