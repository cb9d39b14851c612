"""What a measure comes to at most while something goes on."""

import threading
from collections.abc import Callable
from typing import Self


class Largest:
    """The largest of what a measure says, asked every so many seconds while this lasts."""

    def __init__(self, measure: Callable[[], int], every: float) -> None:
        self.largest = 0
        self._measure, self._every = measure, every
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(self._every):
            self.largest = max(self.largest, self._measure())
