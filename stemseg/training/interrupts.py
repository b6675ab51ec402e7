"""Ending a run without losing work: stopped from outside, or by an error at any place."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stemseg.training.checkpoints import CheckpointStore, TrainingState
from stemseg.utils.errors import StemsegError, TrainingError
from stemseg.utils.text import first_line

_logger = logging.getLogger(__name__)
_Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None
# Ctrl-C, the end of a job, a closed terminal, and the warning that batch systems send before the end
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class InterruptListener:
    """Turns the first SIGINT, SIGTERM, SIGHUP or SIGUSR1 in its ``with`` block into a request to stop.

    A second one ends the process at once. What is ignored stays so: ``nohup`` ignores SIGHUP.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._previous: dict[int, _Handler] = {}

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


class Rescue:
    """Writes checkpoints of complete iterations only, also when an error ends the loop at any place.

    Args:
        state: what is trained.
        checkpoints: where it is saved.
        is_main: whether this process is the one that saves.
    """

    def __init__(self, state: TrainingState, checkpoints: CheckpointStore, *, is_main: bool) -> None:
        self._state = state
        self._checkpoints = checkpoints
        self._is_main = is_main
        self._saved = state.progress.iterations
        self._save_time = time.monotonic()
        self._is_complete = True
        self._statistics: list[tuple[Tensor, Tensor]] = []

    def begin_iteration(self) -> None:
        """Remember what a forward pass changes: the running statistics of batch norms in training."""
        statistics = running_statistics(self._state.training_loss.network)
        self._statistics = [(buffer, buffer.clone()) for buffer in statistics]

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Enclose what changes the weights and counts the iteration; what an error leaves of it is never saved."""
        self._is_complete = False
        with children_unheard():
            yield
        self._statistics = []
        self._is_complete = True

    def write(self) -> Path:
        """Save the state, which is that of a complete iteration; returns the file."""
        iterations = self._state.progress.iterations
        with children_unheard():
            path = self._checkpoints.save(self._state.capture(), iterations)
        self._saved, self._save_time = iterations, time.monotonic()
        return path

    @property
    def seconds_unsaved(self) -> float:
        """Seconds since the start, or since a checkpoint was written."""
        return time.monotonic() - self._save_time

    def save(self) -> None:
        """Save, after an error, the last complete iteration where that has not been done; raises nothing itself."""
        iterations = self._state.progress.iterations
        if not self._is_main or iterations == self._saved:
            return
        if not self._is_complete:
            _logger.error("the error came while the weights changed; go on from %s", self._checkpoints.newest())
            return
        try:
            for buffer, before in self._statistics:
                buffer.copy_(before)
            _logger.warning("saved the last complete iteration: %s", self.write())
        except Exception as error:
            _logger.error("iteration %d could not be saved: %s", iterations, error)


def running_statistics(network: nn.Module) -> list[Tensor]:
    """The buffers that batch norms change in a forward pass; empty where all are frozen or of another kind."""
    norms = (module for module in network.modules() if isinstance(module, _BatchNorm) and module.training)
    return [buffer for norm in norms for buffer in norm.buffers()]


def explained(error: BaseException) -> BaseException:
    """The error with a message for the user where the machine is to blame; any other error itself."""
    if isinstance(error, StemsegError):
        return error
    text = first_line(error)
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return TrainingError(
            f"the GPU's memory does not suffice: {text}. Lower INPUT.MAX_DIM or INPUT.NUM_FRAMES, or try "
            "TRAINING.AMP=bf16"
        )
    if _is_lost_loader(error):
        return TrainingError(
            f"a data-loading process was ended from outside: {text}. Systems do so when memory runs out; lower "
            "--num_cpu_workers, or give the container more shared memory, and give the same command again"
        )
    if isinstance(error, OSError):
        return TrainingError(f"a file could not be read or written: {text}. Is the disk full, or gone?")
    return error


def _is_lost_loader(error: BaseException) -> bool:
    """Whether PyTorch found a data-loading process gone, or its end of their connection closed first."""
    if isinstance(error, (ConnectionError, EOFError)):
        return True
    text = first_line(error)
    return isinstance(error, RuntimeError) and "DataLoader worker" in text and "Caught" not in text
