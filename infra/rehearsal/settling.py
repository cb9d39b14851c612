"""Waiting for a controller to decide on each of some objects, where a refusal may be taken back."""

import math
import time
from collections.abc import Callable
from typing import TypeVar

_EVERY, _LONGEST = 0.1, 5.0
"""Seconds between two readings, at least and at most."""
_REST = 4
"""How many times as long as it took to read nothing is read: long lists take the time of those who are to decide."""
_STANDS = 2.0
Each = TypeVar("Each")


def settle(
    read: Callable[[], list[Each]], *, done: Callable[[Each], bool], refused: Callable[[Each], bool], seconds: float
) -> list[Each]:
    """What is read last: all done; or all that is not has been refused for two seconds; or none more for `seconds`.

    Two seconds, since what was refused may be looked at again when the others are there (the scheduler does so after
    one).
    """
    since = None
    fewest, end = math.inf, 0.0
    while True:
        began = time.monotonic()
        found = read()
        rest = [each for each in found if not done(each)]
        now = time.monotonic()
        if len(rest) < fewest:
            fewest, end = len(rest), now + seconds
        since = (since or now) if all(map(refused, rest)) else None
        if not rest or now > end or (since is not None and now - since > _STANDS):
            return found
        time.sleep(min(max(_EVERY, _REST * (now - began)), _LONGEST))
