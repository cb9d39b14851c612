"""How a step ends: status and the line that says why."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.reference.steps import ending
from tests.pipelines.conftest import REFERENCE


@pytest.fixture(autouse=True)
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the container's termination log."""
    file = tmp_path / "termination-log"
    monkeypatch.setattr(ending, "TERMINATION_LOG", file)
    return file


def ended(error: Exception) -> int:
    """The exit status of a step that raises."""

    @ending.step
    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as exit_:
        command()
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def test_a_refusal_ends_with_1_and_its_reason(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The reason is one line, for who reads the log and for the engine."""
    assert ended(ending.Refused("data: 3 rows;\naccepted: more")) == ending.REFUSED
    assert capsys.readouterr().err == "data: 3 rows; accepted: more\n"
    assert log.read_text() == "data: 3 rows; accepted: more"


def test_a_service_that_is_away_ends_with_75(log: Path) -> None:
    """The engine tries that again."""
    assert ended(ConnectionRefusedError("nobody listens")) == ending.UNAVAILABLE
    assert log.read_text() == "ConnectionRefusedError: nobody listens"


def test_what_an_error_was_raised_from_decides() -> None:
    """A client's own exception around a lost connection is the lost connection, one around a refusal a refusal."""
    assert ended(caused(RuntimeError("artifact not stored"), ConnectionResetError())) == ending.UNAVAILABLE
    assert not ending.unavailable(caused(TimeoutError(), Answer(403)))
    assert ending.unavailable(caused(RuntimeError(), Answer(503)))


class Answer(Exception):
    """What botocore raises for an answer of the object store."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}}


def caused(error: Exception, cause: Exception) -> Exception:
    """An exception as it is after `raise error from cause`."""
    error.__cause__ = cause
    return error


def test_a_fault_of_the_step_is_no_refusal(log: Path) -> None:
    """A bug shows its traceback, and the engine its first line."""

    @ending.step
    def command() -> None:
        raise KeyError("digest")

    with pytest.raises(KeyError):
        command()
    assert log.read_text() == "KeyError: 'digest'"


def test_steps_say_what_they_take_without_the_libraries_of_their_image() -> None:
    """Modules import what only the image has where they need it: --help works in this project's environment."""
    for file in sorted((REFERENCE / "steps").glob("*.py")):
        if "click.command" in file.read_text():
            command = [sys.executable, "-m", f"steps.{file.stem}", "--help"]
            done = subprocess.run(command, cwd=REFERENCE, capture_output=True, text=True, check=True)
            assert "--run-uid" in done.stdout
