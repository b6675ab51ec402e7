"""Clips from the dataset to the training loop, through worker processes.

A batch is cut into *micro-batches*, the clips of one forward pass. Losses are means over a micro-batch, so what the
gradient of a batch is depends on how it is cut, never on who computes which piece: K processes take every K-th
micro-batch each, and average to what one process accumulates over all of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from stemseg.data.preprocessing import PackedBatch, PackedClip
from stemseg.training.interrupts import shield_worker
from stemseg.utils import distributed
from stemseg.utils.distributed import ProcessInfo
from stemseg.utils.errors import ConfigError, DataError, StemsegError, TrainingError

_logger = logging.getLogger(__name__)


class SampleSource(Protocol):
    """A dataset as training needs it: sample i is a pure function of i, whoever asks and in whatever order."""

    def __getitem__(self, index: int) -> PackedClip:
        """Sample ``index`` of the run."""
        ...

    def __len__(self) -> int:
        """Number of samples of the whole run."""
        ...


def build_loader(
    dataset: SampleSource,
    sampler: MicroBatchSampler,
    collate: Callable[[Sequence[PackedClip]], PackedBatch],
    *,
    num_workers: int,
    pin_memory: bool,
    skip_bad_samples: int = 0,
) -> DataLoader:
    """Load the sampler's micro-batches, in its order, in ``num_workers`` processes (0: on demand, in this one).

    :class:`WaitMeter` takes what it gives; others stand in for up to ``skip_bad_samples`` that can't be loaded.
    """
    if num_workers > 0:
        # OpenCV's threads end before workers are forked, which would inherit a pool without them, and wait
        cv2.setNumThreads(1)
    return DataLoader(
        _MicroBatches(dataset, collate, skip_bad_samples),
        batch_sampler=sampler,
        collate_fn=_as_it_is,
        num_workers=num_workers,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
    )


class _Loaded(NamedTuple):
    """A micro-batch, or why there is none, and the messages of the samples that others stand in for."""

    batch: PackedBatch | StemsegError
    skipped: list[str]


class _MicroBatches(Dataset[_Loaded]):
    """Loads whole micro-batches; others stand in for up to ``skip_bad_samples`` samples that can't be loaded.

    An error of ours is handed on as it is, since PyTorch would add a traceback to it.
    """

    def __init__(
        self, dataset: SampleSource, collate: Callable[[Sequence[PackedClip]], PackedBatch], skip_bad_samples: int
    ) -> None:
        self._dataset = dataset
        self._collate = collate
        self._skip_bad_samples = skip_bad_samples

    def __getitems__(self, indices: Sequence[int]) -> _Loaded:
        skipped: list[str] = []
        try:
            return _Loaded(self._collate([self._load(index, skipped) for index in indices]), skipped)
        except StemsegError as error:
            return _Loaded(error, skipped)

    def _load(self, index: int, skipped: list[str]) -> PackedClip:
        """A sample, or the one that stands in for it: the same in every run."""
        candidate = index
        for attempt in range(self._skip_bad_samples + 1):
            try:
                return self._dataset[candidate]
            except DataError as error:
                skipped.append(f"sample {candidate} of the run can't be loaded: {error}")
            draw = np.random.default_rng([index, attempt])
            candidate = int(draw.integers(len(self._dataset)))
        raise DataError(
            f"{skipped[-1]}. Mend it, leave its sequence out of the annotation file, or go on past up to N such "
            "samples with --skip_bad_samples N"
        )


def _as_it_is(loaded: Any) -> Any:
    """A micro-batch that is collated already."""
    return loaded


class WaitMeter(Iterator[PackedBatch]):
    """Passes batches on, counts the seconds that the loop had to wait for them, and logs samples that were skipped.

    Raises:
        StemsegError: where a sample could not be loaded, and more than ``skip_bad_samples`` of this process could not.
    """

    def __init__(self, loaded: Iterator[_Loaded], *, skip_bad_samples: int = 0) -> None:
        self._loaded = loaded
        self._seconds = 0.0
        self._allowed = skip_bad_samples
        self._skipped = 0

    def __next__(self) -> PackedBatch:
        start = time.perf_counter()
        try:
            batch, skipped = next(self._loaded)
        finally:
            self._seconds += time.perf_counter() - start
        if isinstance(batch, StemsegError):
            raise batch
        for message in skipped:
            self._skip(message)
        return batch

    def _skip(self, message: str) -> None:
        self._skipped += 1
        if self._skipped > self._allowed:
            raise DataError(
                f"{message}. That is one more than --skip_bad_samples {self._allowed}; mend them, or allow more"
            )
        _logger.warning("%s; another one stands in (%d of %d)", message, self._skipped, self._allowed)

    def take_seconds(self) -> float:
        """The seconds since the last call of this method."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


def _start_worker(worker_id: int) -> None:
    shield_worker()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)  # workers share the cores by being many


def take_together(
    batches: Iterator[PackedBatch], number: int, process: ProcessInfo, device: torch.device
) -> Iterator[PackedBatch]:
    """The next ``number`` micro-batches. Several processes end together where one of them can't load its own."""
    if process.world_size == 1:
        return batches
    ready, failure = [], None
    try:
        ready = [next(batches) for _ in range(number)]
    except Exception as error:
        failure = error
    if distributed.any_process(failure is not None, device):
        raise failure or TrainingError("another process of this run could not load its data; its message says why")
    return iter(ready)


class MicroBatchSampler(Sampler[list[int]]):
    """Yields the sample indices of each micro-batch that this process computes, iteration after iteration.

    Iteration i consists of the samples i * batch_size ... (i + 1) * batch_size - 1, so where a run goes on is given by
    its iteration alone.
    """

    def __init__(
        self,
        *,
        first_iteration: int,
        last_iteration: int,
        batch_size: int,
        micro_batch_size: int,
        process: ProcessInfo,
    ) -> None:
        """The micro-batches of the iterations from ``first_iteration`` up to, not including, ``last_iteration``.

        Raises:
            ConfigError: where the batch cannot be shared evenly.
        """
        if batch_size % (micro_batch_size * process.world_size) != 0:
            raise ConfigError(
                f"'TRAINING.BATCH_SIZE' is {batch_size}, which {process.world_size} processes with "
                f"'TRAINING.MAX_SAMPLES_PER_GPU' {micro_batch_size} cannot share evenly; make it a multiple of "
                f"{micro_batch_size * process.world_size}, or start fewer processes"
            )
        self._iterations = range(first_iteration, last_iteration)
        self._batch_size = batch_size
        self._micro_batch_size = micro_batch_size
        self._process = process

    def __len__(self) -> int:
        return len(self._iterations) * len(self.first_samples(0))

    def __iter__(self) -> Iterator[list[int]]:
        for iteration in self._iterations:
            for first in self.first_samples(iteration):
                yield list(range(first, first + self._micro_batch_size))

    def first_samples(self, iteration: int) -> range:
        """The first sample of each micro-batch of this process in one iteration."""
        start = iteration * self._batch_size
        stride = self._micro_batch_size * self._process.world_size
        return range(start + self._micro_batch_size * self._process.rank, start + self._batch_size, stride)


def random_seed(seed: int, first_sample: int) -> int:
    """The seed of PyTorch's random numbers (dropout, noise) for the micro-batch that begins with ``first_sample``.

    This makes them a function of the position in the run: a resumed run draws the same numbers, and so do any number
    of processes, without random states in the checkpoint.
    """
    return int(np.random.SeedSequence([seed, first_sample]).generate_state(1, np.uint64)[0])
