"""Waiting on a condition with a bound. Nothing here knows what is waited for."""

import time
from collections.abc import Callable

from infra.errors import RunFailed


def until(condition: Callable[[], bool], *, seconds: float, what: str, every: float = 0.03) -> None:
    """Return once the condition holds; raise RunFailed naming `what` when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RunFailed(f"{what}: not within {seconds:g} s")
        time.sleep(every)
