"""A video that never ends: frame after frame in, and each frame's objects out, a bounded number of frames later."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from stemseg.data.preprocessing import ImagePreprocessor
from stemseg.inference.online_engine import InferenceEngine
from stemseg.inference.track_scores import PIXELS, score_tracks
from stemseg.inference.tracks import MaskResizer
from stemseg.utils.errors import DataError


class SeenObject(NamedTuple):
    """One object in one frame.

    Attributes:
        track_id: its number, from 1, the same in all frames.
        category_id: the class that most of its pixels so far voted for; 1 in a class-agnostic model.
        score: of what is known so far, in [0, 1].
        mask: [H, W] uint8, 0 or 1.
    """

    track_id: int
    category_id: int
    score: float
    mask: np.ndarray


@dataclass(frozen=True)
class SeenFrame:
    """A frame whose objects are known.

    Attributes:
        index: its number, from 0.
        image: [H, W, 3] uint8, B G R.
        objects: in the order of their numbers.
    """

    index: int
    image: np.ndarray
    objects: list[SeenObject]


class VideoStream:
    """Segments a video while it arrives, in memory that does not grow with its length.

    Args:
        engine: new.
        preprocessor: shared with training.
        prepare: makes the network's input [1, 3, h, w] of an image [H, W, 3] uint8.
        score: what an object's score says, see :func:`stemseg.inference.track_scores.score_tracks`.
        min_score: objects of less, by what is known so far, are left out.
    """

    def __init__(
        self,
        engine: InferenceEngine,
        preprocessor: ImagePreprocessor,
        *,
        prepare: Callable[[np.ndarray], Tensor],
        score: str = PIXELS,
        min_score: float = 0.0,
    ) -> None:
        self._engine = engine
        self._preprocessor = preprocessor
        self._prepare = prepare
        self._score = score
        self._min_score = min_score
        self._waiting: deque[np.ndarray] = deque()
        self._next = 0  # the first of the waiting frames
        self._resizer: MaskResizer | None = None
        self._size: tuple[int, int] | None = None

    @property
    def max_delay(self) -> int:
        """Frames that may arrive behind a frame before its objects are known: two clips of them, less one."""
        return self._engine.max_delay

    def step(self, image: np.ndarray) -> list[SeenFrame]:
        """Take in the next frame, [H, W, 3] uint8, B G R; the frames whose objects are known now, mostly none.

        Raises:
            DataError: where the frame's size differs from the first one's.
        """
        size = image.shape[:2]
        self._size = self._size or size
        if size != self._size:
            raise DataError(f"a frame of {size[0]} x {size[1]} pixels (height x width) follows frames of {self._size}")
        self._waiting.append(image)
        self._engine.step(self._prepare(image))
        return self._collect()

    def finish(self) -> list[SeenFrame]:
        """End the video; the frames that are left."""
        if self._waiting:
            self._engine.finish()
        return self._collect()

    def score_tracks(self, track_ids: Sequence[int]) -> dict[int, float]:
        """The scores of some tracks, among each other, by all that is known so far."""
        return score_tracks(self._engine.store.measure(track_ids), self._score)

    def _collect(self) -> list[SeenFrame]:
        frames = []
        while self._next < len(self._engine.store):
            frames.append(SeenFrame(self._next, self._waiting.popleft(), self._objects(self._next)))
            self._engine.store.forget(self._next)
            self._next += 1
        return frames

    def _objects(self, frame: int) -> list[SeenObject]:
        store = self._engine.store
        labels = store.labels(frame)
        resizer = self._resizer = self._resizer or self._new_resizer(labels.shape)
        scores = self.score_tracks(list(store.records))
        objects = []
        for number, mask in resizer.resize(labels).items():
            record = store.records[number]
            if mask.any() and scores[number] >= self._min_score:
                objects.append(SeenObject(number, record.category, scores[number], mask))
        return objects

    def _new_resizer(self, label_size: tuple[int, ...]) -> MaskResizer:
        height, width = self._size or (0, 0)
        return MaskResizer(
            label_size=(label_size[0], label_size[1]),
            label_stride=self._engine.store.label_stride,
            network_size=self._preprocessor.output_size(height, width),
            video_size=(height, width),
        )
