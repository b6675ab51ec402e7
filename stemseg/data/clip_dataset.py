"""The training set that the data loader reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from torch.utils.data import Dataset

from stemseg.data.clip_preparation import prepare_clip
from stemseg.data.mixing import MixSchedule
from stemseg.data.preprocessing import ImagePreprocessor
from stemseg.data.raw_clip import RawClip
from stemseg.structures.clip import Clip

_SAMPLE = 0  # keeps the samples' generators apart from those of the schedule


class ClipSource(Protocol):
    """A dataset that clips can be drawn from: :class:`VideoClips` or :class:`StillClips`."""

    name: str

    def __len__(self) -> int: ...

    def draw(self, position: int, rng: np.random.Generator) -> RawClip:
        """A random clip of element ``position``, decided by ``rng`` alone."""
        ...


class ClipDataset(Dataset):
    """All samples of a training run, in order.

    Sample i is a pure function of the seed and i: a resumed run, and any number of workers, see the same clips.

    Args:
        sources: the datasets of the mix.
        schedule: which source each sample comes from.
        preprocessor: of the images.
        seed: of all random choices.
    """

    def __init__(
        self, *, sources: Sequence[ClipSource], schedule: MixSchedule, preprocessor: ImagePreprocessor, seed: int
    ) -> None:
        self.sources = list(sources)
        self._schedule = schedule
        self._preprocessor = preprocessor
        self._seed = seed

    def __len__(self) -> int:
        return len(self._schedule)

    def __getitem__(self, index: int) -> Clip:
        """Training sample ``index`` (0 to len - 1).

        Raises:
            IndexError: beyond the run.
            DataError: naming the file that is missing or damaged.
        """
        return prepare_clip(self.draw_raw(index), self._preprocessor)

    def draw_raw(self, index: int) -> RawClip:
        """Sample ``index`` before preprocessing."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of a run of {len(self)}")
        source, position = self._schedule[index]
        return self.sources[source].draw(position, np.random.default_rng([self._seed, _SAMPLE, index]))
