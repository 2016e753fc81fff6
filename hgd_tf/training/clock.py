"""What a training run's time goes to."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator

import tensorflow as tf


class Clock:
    """Adds up the seconds spent waiting for input, and crafting attacks."""

    def __init__(self):
        self._seconds: dict[str, float] = defaultdict(float)

    def waiting(self) -> contextlib.AbstractContextManager:
        """For the time until the next images are there."""
        return self._measured("waiting")

    def crafting(self) -> contextlib.AbstractContextManager:
        """For the time that attacks take."""
        return self._measured("crafting")

    def read_and_reset(self) -> tuple[float, float]:
        """Seconds of waiting and of crafting since the last call."""
        seconds, self._seconds = self._seconds, defaultdict(float)
        return seconds["waiting"], seconds["crafting"]

    def timed(self, data: tf.data.Dataset) -> tf.data.Dataset:
        """The same elements; the time that each takes to come is waiting."""

        def elements() -> Iterator:
            iterator = iter(data)
            while True:
                with self.waiting():
                    element = next(iterator, None)
                if element is None:
                    return
                yield element

        return tf.data.Dataset.from_generator(elements, output_signature=data.element_spec)

    @contextlib.contextmanager
    def _measured(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[what] += time.perf_counter() - start
