"""Stopping a run from outside without losing work."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_logger = logging.getLogger(__name__)
# Ctrl-C, the end of a job, a closed terminal, and the warning that batch systems send before the end
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class InterruptListener:
    """Turns the first SIGINT, SIGTERM, SIGHUP or SIGUSR1 in its ``with`` block into a request to stop.

    A second one ends the process at once. What is ignored stays so: ``nohup`` ignores SIGHUP.
    """

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
        heeded = (number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN)
        self._previous = {number: signal.signal(number, self._handle) for number in heeded}
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


@contextmanager
def children_unheard() -> Iterator[None]:
    """Let no end of a data-loading process interrupt the ``with`` block.

    PyTorch raises from its handler of SIGCHLD, wherever the main thread is. It finds a missing process again when the
    next batch is due, so nothing is lost.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals come to the main thread alone
        return
    previous = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, previous)


def shield_worker() -> None:
    """Called in a data-loading worker: keep signals to the whole process group (Ctrl-C, ``timeout``) away from it.

    The main process decides when its workers end; a worker killed by Ctrl-C would take the last iteration with it.
    """
    os.setpgrp()
