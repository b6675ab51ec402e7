"""Small timers for training, inference and the benchmark."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Adds up the wall-clock seconds spent in named stages.

    >>> watch = Stopwatch()
    >>> with watch.stage("backbone"):
    ...     pass
    >>> list(watch.seconds)
    ['backbone']
    """

    def __init__(self, device: torch.device | None = None) -> None:
        """``device``: where it is a GPU, its queued work is waited for at both ends of a stage, and so counted."""
        self.seconds: dict[str, float] = {}
        self._device = device if device is not None and device.type == "cuda" else None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time within the ``with`` block for stage ``name``, also where it ends in an error."""
        start = self._now()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + self._now() - start

    def _now(self) -> float:
        if self._device is not None:
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


class RecentMedian:
    """Median of the last values: a rate that neither the first slow iteration nor a stop for a checkpoint disturbs."""

    def __init__(self, window: int = 50, values: Iterable[float] = ()) -> None:
        self._values: deque[float] = deque(values, maxlen=window)

    def add(self, value: float) -> None:
        """Take in one more value; the oldest beyond the window is forgotten."""
        self._values.append(value)

    @property
    def median(self) -> float:
        """The median of the values in the window; 0 where there is none."""
        return statistics.median(self._values) if self._values else 0.0

    @property
    def values(self) -> list[float]:
        """The values in the window, oldest first."""
        return list(self._values)


def format_duration(seconds: float) -> str:
    """A length of time for people: "0:42", "1:02:03", "2 d 01:02:03"."""
    minutes, second = divmod(round(max(0.0, seconds)), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour:02d}:{minute:02d}:{second:02d}"
    return f"{hour}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
