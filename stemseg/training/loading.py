"""Clips from the dataset to the training loop, through worker processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import cv2
import torch
from torch.utils.data import DataLoader

from stemseg.structures.clip import Clip, ClipBatch
from stemseg.training.interrupts import shield_worker
from stemseg.training.sampler import MicroBatchSampler


class ClipSource(Protocol):
    """What training needs of a dataset: sample i is a pure function of i, whoever asks and in whatever order."""

    def __getitem__(self, index: int) -> Clip:
        """Sample ``index`` of the run."""
        ...

    def __len__(self) -> int:
        """Number of samples of the whole run."""
        ...


def build_loader(
    dataset: ClipSource,
    sampler: MicroBatchSampler,
    collate: Callable[[Sequence[Clip]], ClipBatch],
    *,
    num_workers: int,
    pin_memory: bool,
) -> DataLoader:
    """Load the sampler's micro-batches, in its order, in ``num_workers`` processes (0: on demand, in this one)."""
    if num_workers > 0:
        # ends OpenCV's threads before the workers are forked, which would inherit the pool without its threads and wait
        # for them forever
        cv2.setNumThreads(1)
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=num_workers,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
    )


class WaitMeter(Iterator[ClipBatch]):
    """Passes batches on and counts the seconds that the loop had to wait for them."""

    def __init__(self, batches: Iterator[ClipBatch]) -> None:
        self._batches = batches
        self._seconds = 0.0

    def __next__(self) -> ClipBatch:
        start = time.perf_counter()
        try:
            return next(self._batches)
        finally:
            self._seconds += time.perf_counter() - start

    def take_seconds(self) -> float:
        """The seconds since the last call of this method."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


def _start_worker(worker_id: int) -> None:
    shield_worker()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)  # workers share the cores by being many
