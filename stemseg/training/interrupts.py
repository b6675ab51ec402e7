"""Stopping a run from outside without losing work."""

from __future__ import annotations

import logging
import os
import signal
from types import FrameType

_logger = logging.getLogger(__name__)
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class InterruptListener:
    """Turns the first SIGINT or SIGTERM in its ``with`` block into a request; a second one ends the process at once."""

    def __init__(self) -> None:
        self._received: int | None = None
        self._previous: dict[int, object] = {}

    @property
    def requested(self) -> bool:
        """Whether the run should stop at the next good moment."""
        return self._received is not None

    @property
    def exit_code(self) -> int:
        """The exit code after a signal, as shells have it: 128 + its number; SIGTERM's where another process got it."""
        return 128 + (self._received or signal.SIGTERM)

    def __enter__(self) -> InterruptListener:
        self._previous = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            os._exit(128 + number)  # sys.exit could be caught, or wait for data-loading workers
        self._received = number
        _logger.warning(
            "%s: finishing this iteration and saving; send it again to exit at once", signal.Signals(number).name
        )


def shield_worker() -> None:
    """Called in a data-loading worker: keep signals to the whole process group (Ctrl-C, ``timeout``) away from it.

    The main process decides when its workers end; a worker killed by Ctrl-C would take the last iteration with it.
    """
    os.setpgrp()
