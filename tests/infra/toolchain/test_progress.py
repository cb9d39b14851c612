"""A build that lasts shows that it goes on: a ticking line in a terminal, a line now and then elsewhere."""

import io
import threading

import pytest
from rich.console import Console

from infra import console
from infra.errors import Interrupted
from infra.toolchain import progress


def test_outside_a_terminal_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log gets a line with the seconds so far once the interval is over, not one a tick."""
    lines: list[str] = []
    with progress.shown("tiny (2 of 9)", lines.append) as shown:
        shown.doing("building")
        shown.tick()
        assert lines == ["tools: tiny (2 of 9) building"]
        monkeypatch.setattr(progress, "INTERVAL", 0.0)
        shown.tick()
        shown.done("built")
    assert lines[1:] == ["tools: tiny (2 of 9) building, 0 s", "tools: tiny (2 of 9) built in 0 s"]


def test_in_a_terminal_one_line_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal shows one line that is written over, and keeps only the last word."""
    screen = io.StringIO()
    monkeypatch.setattr(console, "console", Console(file=screen, force_terminal=True, highlight=False))
    with progress.shown("tiny (2 of 9)", console.say) as shown:
        shown.doing("building")
        shown.tick()
        shown.done("built")
    written = screen.getvalue()
    assert "tools: tiny (2 of 9) building, 0 s" in written
    assert "\x1b[2K" in written
    assert written.count("tools: tiny (2 of 9) built in 0 s") == 1


def test_in_the_background_nothing_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build in the background leaves the terminal's last line to what goes on in front."""
    screen = io.StringIO()
    monkeypatch.setattr(console, "console", Console(file=screen, force_terminal=True, highlight=False))
    with progress.shown("tiny (2 of 9)", console.say, threading.Event()) as shown:
        shown.doing("building")
        shown.tick()
    assert screen.getvalue() == "tools: tiny (2 of 9) building\n"


def test_a_build_that_is_not_wanted_any_more_stops_at_the_next_tick() -> None:
    """Whoever started a build in the background can end it."""
    stop = threading.Event()
    with progress.shown("tiny (1 of 1)", lambda _: None, stop) as shown:
        shown.tick()
        stop.set()
        with pytest.raises(Interrupted, match="run again to go on"):
            shown.tick()
