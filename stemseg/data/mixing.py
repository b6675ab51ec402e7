"""Which dataset each sample of a run comes from, and which of its samples: exact shares in a shuffled order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

# keep the generators for the order and for the epochs apart from each other, and from the samples' own
_ORDER, _EPOCH = 1, 2


class MixSchedule:
    """The plan of a run: sample i is element ``position`` of dataset ``dataset``.

    Every dataset is drawn exactly in its share of the run (rounded by largest remainder), in an order shuffled by the
    seed. A dataset passes through all its elements in a new random order again and again, so that each can be drawn
    even if the run needs fewer than it has.

    Args:
        lengths: number of elements of each dataset.
        weights: share of each dataset; need not add up to 1.
        total: samples of the whole run.
        seed: of the order.
    """

    def __init__(self, lengths: Sequence[int], weights: Sequence[float], total: int, seed: int) -> None:
        self._lengths = tuple(lengths)
        self._seed = seed
        counts = share_out(total, weights)
        order = np.random.default_rng([seed, _ORDER])
        self._dataset = order.permutation(np.repeat(np.arange(len(counts), dtype=np.int16), counts))
        self._turn = np.empty(total, dtype=np.int64)  # the how-manieth sample of its dataset each sample is
        for dataset, count in enumerate(counts):
            self._turn[self._dataset == dataset] = np.arange(count)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[int, int]:
        """(dataset, position) of sample ``index``."""
        dataset, turn = int(self._dataset[index]), int(self._turn[index])
        epoch, offset = divmod(turn, self._lengths[dataset])
        return dataset, int(_epoch_order(self._lengths[dataset], self._seed, dataset, epoch)[offset])


def share_out(total: int, weights: Sequence[float]) -> np.ndarray:
    """Split ``total`` into whole numbers in proportion to ``weights``; they add up to ``total`` exactly."""
    exact = total * np.asarray(weights, dtype=np.float64) / np.sum(weights)
    counts = np.floor(exact).astype(np.int64)
    largest_remainders = np.argsort(counts - exact, kind="stable")[: total - counts.sum()]
    counts[largest_remainders] += 1
    return counts


@lru_cache(maxsize=16)
def _epoch_order(length: int, seed: int, dataset: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, _EPOCH, dataset, epoch]).permutation(length)
