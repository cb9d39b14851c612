"""The process that runs pulumi: its environment, its output, its session, and what a Ctrl-C does to it.

A shell script stands in for pulumi; tests/integration/test_engine.py has the real one.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from pulumi.automation import CommandError

from infra.clusters.waiting import until
from infra.engine.command import Pulumi, end_session

Script = Callable[..., Pulumi]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Return a function that makes a Pulumi of a shell script."""

    def make(text: str, **environ: str | None) -> Pulumi:
        path = tmp_path / "pulumi"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return Pulumi(path, "3.259.0", environ)

    return make


def test_what_it_prints_comes_back(script: Script, tmp_path: Path) -> None:
    """Standard output and errors are returned whole, and the command is never asked to prompt."""
    result = script('echo "$@"; echo two; echo oops >&2').run(["up"], str(tmp_path), {})
    assert (result.stdout.split("\n")[:2], result.stderr.strip()) == (["--non-interactive up", "two"], "oops")


def test_a_failure_says_what_was_printed(script: Script, tmp_path: Path) -> None:
    """A non-zero exit is the Automation API's own error."""
    with pytest.raises(CommandError, match="no such thing"):
        script("echo no such thing >&2; exit 7").run(["up"], str(tmp_path), {})


def test_its_environment_is_the_targets(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of the target wins over the user's, and one that must not be set is not."""
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "theirs")
    made = script(
        'echo "${PULUMI_CONFIG_PASSPHRASE-unset} $PULUMI_STACK"', PULUMI_CONFIG_PASSPHRASE=None, PULUMI_STACK="a"
    )
    assert made.run([], str(tmp_path), {"PULUMI_STACK": "b"}).stdout.strip() == "unset a"


def test_the_collector_is_the_users_to_set(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs seldom and within a limit, unless the user has said otherwise of either."""
    monkeypatch.delenv("GOGC", raising=False)
    monkeypatch.setenv("GOMEMLIMIT", "4GiB")
    assert script('echo "$GOGC $GOMEMLIMIT"').run([], str(tmp_path), {}).stdout.strip() == "400 4GiB"
    monkeypatch.delenv("GOMEMLIMIT")
    assert script('echo "$GOMEMLIMIT"').run([], str(tmp_path), {}).stdout.strip() == "1536MiB"


def test_the_terminal_does_not_reach_it(script: Script, tmp_path: Path) -> None:
    """It leads a session of its own."""
    assert script("ps -o sid= -p $$; echo $$").run([], str(tmp_path), {}).stdout.split()[0] != str(os.getsid(0))


def test_the_first_stop_is_passed_on_and_waited_for(script: Script, tmp_path: Path) -> None:
    """One Ctrl-C asks it to cancel; it ends in its own time, and with its own exit status."""
    ready = tmp_path / "ready"
    made = script(f"trap 'echo cancelled; exit 9' INT; touch {ready}; while :; do sleep 0.05; done")

    def stop() -> None:
        until(ready.exists, seconds=10, what="the script")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(CommandError, match="cancelled"):
        made.run([], str(tmp_path), {})
    thread.join()
    assert (made.stops, made.killed) == (1, False)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_third_stop_kills(script: Script, tmp_path: Path) -> None:
    """A process that does not end when asked twice is ended."""
    ready = tmp_path / "ready"
    made = script(f"trap '' INT; touch {ready}; while :; do sleep 0.05; done")

    def stop() -> None:
        until(ready.exists, seconds=10, what="the script")
        for already in range(3):
            until(lambda already=already: made.stops == already, seconds=10, what="the signal before")  # type: ignore[misc]
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(CommandError):
        made.run([], str(tmp_path), {})
    thread.join()
    assert made.killed


def test_what_it_leaves_is_ended_with_it(script: Script, tmp_path: Path) -> None:
    """A provider that outlives a killed pulumi is in its session, and goes."""
    pid = int(script("sleep 1000 & echo $!").run([], str(tmp_path), {}).stdout)
    until(lambda: not psutil.pid_exists(pid), seconds=10, what="the process that was left")


def test_only_that_session_is_ended() -> None:
    """Processes of other sessions are not touched."""
    other = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        end_session(os.getpid())
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_it_is_asked_to_cancel_when_kiban_is_killed(tmp_path: Path) -> None:
    """After a kill -9 of Kiban, pulumi cancels as on a Ctrl-C, and can still print while it does."""
    ready, done = tmp_path / "ready", tmp_path / "done"
    script = tmp_path / "pulumi"
    trap = f"trap 'sleep 0.2; echo cancelled; touch {done}; exit 1' INT"
    script.write_text(f"#!/bin/sh\n{trap}\ntouch {ready}\nwhile :; do sleep 0.05; done\n")
    script.chmod(0o755)
    code = (
        "import pathlib; from infra.engine.command import Pulumi; "
        f"Pulumi(pathlib.Path({str(script)!r}), '3.259.0', {{}}).run([], '.', {{}})"
    )
    kiban = subprocess.Popen([sys.executable, "-c", code])
    until(ready.exists, seconds=20, what="the script")
    kiban.kill()
    kiban.wait()
    until(done.exists, seconds=10, what="the cancellation")
