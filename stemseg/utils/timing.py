"""Small timers for training, inference and the benchmark."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Adds up the wall-clock seconds spent in named stages; different threads may be in different ones.

    >>> watch = Stopwatch()
    >>> with watch.stage("backbone"):
    ...     pass
    >>> list(watch.seconds)
    ['backbone']

    Args:
        device: for a benchmark: where it is a GPU, a stage counts as long as the GPU works for it, by the GPU's own
            clock. Otherwise what a stage leaves to the GPU is not waited for, and counts where the host has to wait.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self._seconds: dict[str, float] = {}
        self._device = device if device is not None and device.type == "cuda" else None
        self._marks: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds of each stage so far; a GPU that is measured is waited for."""
        if self._marks:
            torch.cuda.synchronize(self._device)
        while self._marks:
            name, start, end = self._marks.pop(0)
            self._add(name, start.elapsed_time(end) / 1000)
        return self._seconds

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time within the ``with`` block for stage ``name``, also where it ends in an error."""
        mark = self._mark()
        start = time.perf_counter()
        try:
            yield
        finally:
            end = self._mark()
            if mark is None or end is None:
                self._add(name, time.perf_counter() - start)
            else:
                self._marks.append((name, mark, end))

    def _add(self, name: str, seconds: float) -> None:
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def _mark(self) -> torch.cuda.Event | None:
        """A mark among the work that waits for the GPU; None where none is measured."""
        if self._device is None:
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event


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
