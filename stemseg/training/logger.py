"""The log of a run: scalars and pictures for TensorBoard, scalars as lines of JSON, and lines on console and in a file.

None of them ends a run: what can't be written, on a full disk, say, is warned of.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tensorboardX import SummaryWriter
from tqdm import tqdm

from stemseg.utils.errors import OutputError
from stemseg.utils.files import make_folder, write_text
from stemseg.utils.timing import RecentMedian, format_duration

_logger = logging.getLogger(__name__)
METRICS_NAME = "metrics.jsonl"
LOG_NAME = "log.txt"


class IterationRecord(NamedTuple):
    """Numbers of one iteration, means over its micro-batches and processes.

    Attributes:
        losses: each loss term, "total" among them.
        learning_rate: that the weights moved with.
        gradient_norm: L2 norm before clipping.
        seconds: wall-clock time of the iteration.
        data_wait: the part of it spent waiting for data, in seconds.
    """

    losses: dict[str, float]
    learning_rate: float
    gradient_norm: float
    seconds: float
    data_wait: float


class _RunningMeans:
    """Means of named numbers since the last call of :meth:`take`."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.count = 0

    def add(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1

    def take(self) -> dict[str, float]:
        means = {name: total / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        return means


class TrainingLogger:
    """Collects the records of a run and shows their means at intervals.

    Args:
        directory: for TensorBoard's files; None writes and prints nothing (all processes but the main one).
        max_iterations: of the whole run, for the remaining time.
        display_interval, summary_interval: iterations between lines on the console, and between scalars in
            TensorBoard; 0: never.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        max_iterations: int,
        display_interval: int,
        summary_interval: int,
    ) -> None:
        self._directory = directory
        self._writer: SummaryWriter | None = None
        self._is_trimmed = self._is_warned = False
        self._max_iterations = max_iterations
        self._intervals = {"display": display_interval, "summary": summary_interval}
        self._means = {name: _RunningMeans() for name in self._intervals}
        self._rate = RecentMedian()
        self._total_seconds = 0.0
        self._bar: tqdm | None = None

    def add(self, iteration: int, record: IterationRecord) -> None:
        """Take in the record of the iteration that completed as number ``iteration``, counted from 1."""
        self._rate.add(record.seconds)
        self._total_seconds += record.seconds
        self._show_progress(iteration, record)
        scalars = _scalars(record)
        memory = memory_in_use() if self._directory is not None and self._is_due(iteration) else {}
        for name in self._intervals:
            self._means[name].add(scalars)
            if self._is_due(iteration, name):
                means = self._means[name].take() | memory
                if self._directory is not None:
                    self._print(iteration, means) if name == "display" else self.add_scalars(iteration, means)

    def add_scalars(self, iteration: int, scalars: Mapping[str, float]) -> None:
        """Write named numbers to TensorBoard, and as a line of ``metrics.jsonl`` beside it."""
        if self._directory is None:
            return
        with _warned_of("the scalars"):
            self._write_line(self._directory / METRICS_NAME, iteration, scalars)
        with _warned_of("TensorBoard's scalars"):
            if (writer := self._open(iteration)) is not None:
                for name, value in scalars.items():
                    writer.add_scalar(name, value, iteration)

    def add_images(self, iteration: int, images: Mapping[str, np.ndarray]) -> None:
        """Write named images to TensorBoard, each [H, W, 3] uint8, B G R."""
        if self._directory is None:
            return
        with _warned_of("TensorBoard's pictures"):
            if (writer := self._open(iteration)) is not None:
                for name, image in images.items():
                    writer.add_image(name, image[:, :, ::-1], iteration, dataformats="HWC")

    def close(self) -> None:
        """Write out what is pending and end the progress bar."""
        writer, self._writer = self._writer, None
        if writer is not None and not self._is_stuck(writer):
            with _warned_of("the end of TensorBoard's file"):
                writer.close()
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _is_due(self, iteration: int, name: str | None = None) -> bool:
        """Whether an interval, or one of all, ends with an iteration; the last one ends all."""
        intervals = self._intervals.values() if name is None else [self._intervals[name]]
        return any(n > 0 and (iteration % n == 0 or iteration == self._max_iterations) for n in intervals)

    def state_dict(self) -> dict[str, Any]:
        """Plain values with which the log of a resumed run goes on smoothly."""
        return {
            "total_seconds": self._total_seconds,
            "recent_seconds": self._rate.values,
            "means": {name: {"sums": m.sums, "count": m.count} for name, m in self._means.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`; the log of another implementation is left aside."""
        with suppress(AttributeError, KeyError, TypeError, ValueError):
            total, recent = float(state.get("total_seconds", 0.0)), [float(v) for v in state.get("recent_seconds", ())]
            means = {
                name: ({term: float(value) for term, value in saved["sums"].items()}, int(saved["count"]))
                for name, saved in state.get("means", {}).items()
                if name in self._means
            }
            self._total_seconds, self._rate = total, RecentMedian(values=recent)
            for name, (sums, count) in means.items():
                self._means[name].sums, self._means[name].count = sums, count

    def _show_progress(self, iteration: int, record: IterationRecord) -> None:
        """A progress bar where a person looks on (a terminal); elsewhere the lines with the remaining time suffice."""
        if self._directory is None:
            return
        if self._bar is None:
            self._bar = tqdm(
                total=self._max_iterations, initial=iteration - 1, desc="training", unit="iteration", disable=None
            )
        self._bar.set_postfix(loss=f"{record.losses['total']:.3f}", refresh=False)
        self._bar.update()

    def _write_line(self, path: Path, iteration: int, scalars: Mapping[str, float]) -> None:
        """Append a line.

        At first, and after a line that could not be written whole, those are removed that an earlier attempt wrote for
        this iteration and later ones, and what was cut off.
        """
        make_folder(path.parent)
        if not self._is_trimmed and path.is_file():
            write_text(path, "".join(_lines_before(iteration, path)))
        self._is_trimmed = False
        finite = {name: value if math.isfinite(value) else None for name, value in scalars.items()}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"iteration": iteration, **finite}) + "\n")
        self._is_trimmed = True

    def _open(self, iteration: int) -> SummaryWriter | None:
        """TensorBoard's writer; None once it gave up."""
        if self._writer is None:
            # what an earlier attempt wrote behind the checkpoint that this one resumed from is hidden
            self._writer = SummaryWriter(str(self._directory), purge_step=iteration)
        return None if self._is_stuck(self._writer) else self._writer

    def _is_stuck(self, writer: SummaryWriter) -> bool:
        """Whether the thread that writes TensorBoard's file has died: whatever is given to it then waits forever."""
        events = getattr(writer.file_writer, "event_writer", None)
        thread, pending = getattr(events, "_worker", None), getattr(events, "_event_queue", None)
        if thread is None or thread.is_alive():
            return False
        if pending is not None:
            pending.cancel_join_thread()  # the process must not wait for it in the end
        if not self._is_warned:
            _logger.warning("TensorBoard's file can't be written any more; %s and the console go on", METRICS_NAME)
        self._is_warned = True
        return True

    def _print(self, iteration: int, means: Mapping[str, float]) -> None:
        losses = "  ".join(
            f"{name.removeprefix('loss/')} {value:.4f}" for name, value in means.items() if name.startswith("loss/")
        )
        remaining = (self._max_iterations - iteration) * self._rate.median
        _logger.info(
            "iteration %d/%d  %s  lr %.2e  |grad| %.3g  %.2f s/it (data %.2f s)  memory %s  elapsed %s  ETA %s",
            iteration,
            self._max_iterations,
            losses,
            means["optimization/learning_rate"],
            means["optimization/gradient_norm"],
            self._rate.median,
            means["time/data_wait_seconds"],
            _memory_text(means),
            format_duration(self._total_seconds),
            format_duration(remaining),
        )


def memory_in_use() -> dict[str, float]:
    """GiB of this process now (Linux), and the most that PyTorch has had on the GPU."""
    figures = {}
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        figures["memory/host_gib"] = pages * os.sysconf("SC_PAGE_SIZE") / 2**30
    if torch.cuda.is_initialized():
        figures["memory/gpu_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return figures


def _memory_text(figures: Mapping[str, float]) -> str:
    host, gpu = figures.get("memory/host_gib"), figures.get("memory/gpu_gib")
    return ("?" if host is None else f"{host:.1f} GiB") + ("" if gpu is None else f" (GPU {gpu:.1f})")


def log_to_file(path: Path) -> None:
    """Write what the console is told to a file too, behind earlier attempts' lines, until logging is set up anew."""
    handler = _LogFile(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(levelname)s  %(message)s"))
    logging.getLogger().addHandler(handler)


class _LogFile(logging.FileHandler):
    """A file that is given up where it can't be written."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; the file is opened with the first."""
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Called in place of an error's traceback on the console."""
        logging.getLogger().removeHandler(self)
        _logger.warning("%s can't be written any more; the console goes on", self.baseFilename)


@contextmanager
def _warned_of(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, OutputError) as error:
        _logger.warning("%s could not be written: %s", what, error)


def _lines_before(iteration: int, path: Path) -> Iterator[str]:
    """The whole lines of ``metrics.jsonl`` of iterations before this one; a line cut off by a crash is left out."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        with suppress(ValueError, KeyError, TypeError):
            if line.endswith("\n") and json.loads(line)["iteration"] < iteration:
                yield line


def _scalars(record: IterationRecord) -> dict[str, float]:
    return {
        **{f"loss/{name}": value for name, value in record.losses.items()},
        "optimization/learning_rate": record.learning_rate,
        "optimization/gradient_norm": record.gradient_norm,
        "time/iteration_seconds": record.seconds,
        "time/data_wait_seconds": record.data_wait,
    }
