"""Which clips go through the network together, in which process and in which order.

A batch is cut into *micro-batches*, the clips of one forward pass. Losses are means over a micro-batch, so what the
gradient of a batch is depends on how it is cut, never on who computes which piece: K processes take every K-th
micro-batch each, and average to what one process accumulates over all of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from stemseg.utils.distributed import ProcessInfo
from stemseg.utils.errors import ConfigError


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
