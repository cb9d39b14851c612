"""The `pulumi` process: started so that a Ctrl-C, a kill of Kiban or a kill of itself leaves nothing half told.

What it is asked to do, and what its events mean, is said in infra/engine/__init__.py and infra/engine/events.py.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import IO, Any

import psutil
from pulumi.automation import CommandResult, OnOutput, PulumiCommand
from pulumi.automation.errors import create_command_error
from semver import VersionInfo

from infra import tied

_COLLECTOR = {"GOGC": "400", "GOMEMLIMIT": "1536MiB"}
"""Go's collector in the engine and its plugins: a quarter as often saves a quarter of the engine's time, for some
100 MB at 400 objects; at 4,000 it would be 3 GB each, so beyond the limit it runs as often as that takes."""
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Pulumi(PulumiCommand):
    """Runs one binary, of a version that is known, with `environ` over Kiban's own environment (None: not set).

    The process leads a session of its own, so a Ctrl-C in the terminal reaches Kiban alone. Kiban passes the first
    one on as SIGINT (cancel, finishing what is under way), the second as SIGINT again (terminate), the third kills.
    Output goes to files, not pipes: were Kiban killed, a write to a broken pipe would kill pulumi before it has saved.
    """

    def __init__(self, binary: Path, version: str, environ: Mapping[str, str | None]) -> None:
        self.command = str(binary)
        self.version = VersionInfo.parse(version)
        self.environ = environ
        self.stops = 0
        self.killed = False
        self._process: subprocess.Popen[bytes] | None = None

    def run(
        self,
        args: list[str],
        cwd: str,
        additional_env: Mapping[str, str],
        on_output: OnOutput | None = None,
        on_error: OnOutput | None = None,
    ) -> CommandResult:
        """Run to the end and return what was printed.

        Raises CommandError for a non-zero exit; `stops` then says how often the user asked to stop, `killed` whether
        the process ended by a signal.
        """
        command = tied.command([self.command, "--non-interactive", *args], dies_by=signal.SIGINT)
        with (
            # Each provider writes its kubeconfig, keys too, to a temporary file and leaves it there.
            tempfile.TemporaryDirectory(dir=self.environ.get("PULUMI_HOME"), ignore_cleanup_errors=True) as scratch,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
            self._passing_on_stops(),
        ):
            environ = {
                **_COLLECTOR,
                **os.environ,
                **additional_env,
                "PULUMI_AUTOMATION_API": "true",
                **self.environ,
                "TMPDIR": scratch,
            }
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env={name: value for name, value in environ.items() if value is not None},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            if self.stops:  # it came while the process was being made
                self._process.send_signal(signal.SIGINT)
            code = self._process.wait()
            self.killed = code < 0
            end_session(self._process.pid)
            result = CommandResult(stdout=_text(out, on_output), stderr=_text(err, on_error), code=code)
        if code != 0:
            raise create_command_error(result)
        return result

    @contextlib.contextmanager
    def _passing_on_stops(self) -> Iterator[None]:
        """Pass signals on while the process runs; Python handles signals in its main thread only."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._stop) for number in _STOPS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stops += 1
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT if self.stops <= 2 else signal.SIGKILL)


def end_session(leader: int) -> None:
    """End what a pulumi process that is gone has left: its providers and language hosts are in its session.

    A session's number is not given to another process while a member lives, so this meets nobody else's.
    """
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            if process.pid != leader and os.getsid(process.pid) == leader:
                process.kill()


def _text(stream: IO[bytes], listener: Any) -> str:  # noqa: ANN401
    stream.seek(0)
    text = stream.read().decode(errors="replace")
    if listener:
        for line in text.splitlines():
            listener(line)
    return text
