"""Says how the making of a tool goes: one ticking line in a terminal, a line now and then elsewhere."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from rich.status import Status

from infra import console
from infra.errors import Interrupted

Say = Callable[[str], None]

INTERVAL = 15.0
"""Seconds between two lines where no terminal shows one that ticks."""


class Progress:
    """One tool on its way. `doing` names the step; `tick`, called often, shows the seconds so far."""

    def __init__(self, label: str, say: Say, status: Status | None, stop: threading.Event) -> None:
        self.say = say
        self._label = label
        self._status = status
        self._stop = stop
        self._step = "waiting"
        self._began = self._spoke = time.monotonic()

    def doing(self, step: str) -> None:
        """Name what goes on now; said at once where the step may last."""
        self._step = step
        if self._status is None:
            self.say(f"tools: {self._label} {step}")
        self.tick()

    def tick(self) -> None:
        """Show that time passes. Raises Interrupted once the build is not wanted any more."""
        if self._stop.is_set():
            raise Interrupted(f"tools: {self._label} stopped; what is done is kept, run again to go on")
        now = time.monotonic()
        if self._status is not None:
            self._status.update(f"tools: {self._label} {self._step}, {now - self._began:.0f} s")
        elif now - self._spoke >= INTERVAL:
            self._spoke = now
            self.say(f"tools: {self._label} {self._step}, {now - self._began:.0f} s")

    def done(self, what: str) -> None:
        """Say what became of it, and how long it took."""
        self.say(f"tools: {self._label} {what} in {time.monotonic() - self._began:.0f} s")


@contextlib.contextmanager
def shown(label: str, say: Say, stop: threading.Event | None = None) -> Iterator[Progress]:
    """The progress of one tool. The ticking line is for the foreground of a terminal, and only for the default say.

    stop: set by whoever started a build in the background and does not want it any more.
    """
    in_terminal = say is console.say and console.console.is_terminal and stop is None
    with contextlib.ExitStack() as stack:
        status = stack.enter_context(console.console.status(f"tools: {label}")) if in_terminal else None
        yield Progress(label, say, status, stop or threading.Event())
