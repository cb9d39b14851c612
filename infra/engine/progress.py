"""What people see while the engine runs: one live line in a terminal, a line now and then where there is none."""

import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from infra.engine.events import Run, short_name

_SHOWN = ("created", "updated", "replaced", "deleted", "refreshed", "imported", "failed", "unchanged")
_EVERY = 10.0  # seconds between plain lines
_AT_ONCE = 3  # resources named as under way


class Progress:
    """Shows a run until the block ends. `title` says what is done to which environment: `up local`."""

    def __init__(self, title: str, run: Run, console: Console) -> None:
        self._title = title
        self._run = run
        self._console = console
        self._live: Live | None = None
        self._over = threading.Event()
        self._plain = threading.Thread(target=self._lines, daemon=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=lambda: Text(self.line(), no_wrap=True, overflow="ellipsis"),
                console=self._console,
                refresh_per_second=5,
                transient=True,
            )
            self._live.start()
        else:
            self._plain.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._live is not None:
            self._live.stop()
        else:
            self._plain.join()

    def line(self) -> str:
        """Where the run stands: counts, what is under way the longest, time."""
        now = time.monotonic()
        oldest = sorted(self._run.running.copy().items(), key=lambda item: item[1])
        names = [f"{short_name(urn)} ({now - since:.0f} s)" for urn, since in oldest[:_AT_ONCE]]
        more = [f"{len(oldest) - _AT_ONCE} more"] if len(oldest) > _AT_ONCE else []
        under_way = f"; under way: {', '.join(names + more)}" if names else ""
        return f"{self._title}: {summary(self._run) or 'starting'}{under_way} [{self._run.seconds:.0f} s]"

    def _lines(self) -> None:
        while not self._over.wait(_EVERY):
            self._console.print(self.line(), markup=False)


def summary(run: Run) -> str:
    """`12 created, 3 updated, 40 unchanged`, without those of which there are none."""
    counts = run.counts
    return ", ".join(f"{counts[word]} {word}" for word in _SHOWN if counts[word])
