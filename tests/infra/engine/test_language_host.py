"""Kiban's language host as a process, asked the way the engine asks; tests/integration has the real engine."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from google.protobuf import empty_pb2  # type: ignore[import-untyped]
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

from infra.clusters.waiting import until

Host = tuple["subprocess.Popen[str]", language_pb2_grpc.LanguageRuntimeStub]
HOST = [sys.executable, "-m", "infra.language_host", "--tracing", "x", "127.0.0.1:1"]


@pytest.fixture
def host() -> Iterator[Host]:
    """Return a running host and a client of it."""
    process = subprocess.Popen(HOST, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with grpc.insecure_channel(f"127.0.0.1:{int(process.stdout.readline())}") as channel:
        yield process, language_pb2_grpc.LanguageRuntimeStub(channel)
    process.kill()
    process.communicate()


def test_it_answers_what_an_up_asks(
    host: Host,
) -> None:
    """Its version, its Python, and that it needs nothing installed."""
    _, stub = host
    info: plugin_pb2.PluginInfo = stub.GetPluginInfo(empty_pb2.Empty())
    assert info.version == "3.259.0"
    about = stub.About(language_pb2.AboutRequest())
    assert about.executable == sys.executable
    assert about.version == sys.version.split()[0]
    assert list(stub.GetRequiredPackages(language_pb2.GetRequiredPackagesRequest()).packages) == []
    assert list(stub.InstallDependencies(language_pb2.InstallDependenciesRequest())) == []


def test_what_it_cannot_do_it_says(host: Host) -> None:
    """Policy packs and components in Python need the official host, and the error says so."""
    _, stub = host
    with pytest.raises(grpc.RpcError, match="put the official pulumi-language-python on PATH"):
        list(stub.RunPlugin(language_pb2.RunPluginRequest()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_quietly_when_told(host: Host, number: signal.Signals) -> None:
    """Stopped by the engine it exits 0 and prints no traceback."""
    process, stub = host
    stub.Cancel(empty_pb2.Empty())
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")


def test_it_ends_when_the_engine_is_gone(tmp_path: Path) -> None:
    """A killed engine cannot stop its host: the host notices."""
    note = tmp_path / "pid"
    code = (
        "import pathlib, subprocess, sys, time\n"
        f"host = subprocess.Popen({json.dumps(HOST)}, stdout=subprocess.PIPE)\n"
        "host.stdout.readline()\n"
        f"pathlib.Path({str(note)!r}).write_text(str(host.pid))\n"
        "time.sleep(1000)\n"
    )
    engine = subprocess.Popen([sys.executable, "-c", code])
    until(lambda: note.exists() and note.read_text() != "", seconds=20, what="the host")
    host = psutil.Process(int(note.read_text()))
    engine.kill()
    engine.wait()
    until(lambda: not host.is_running(), seconds=10, what="the host's end")
