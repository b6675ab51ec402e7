"""The package in Python, for a camera or a video of any length: frames go in one by one, objects come out.

with stemseg.load("laptop").stream() as stream:
    for frame in camera:
        for seen in stream.step(frame):
            print(seen.index, seen.objects)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stemseg.inference.own_videos import rgb_to_bgr
from stemseg.inference.video_stream import SeenFrame, VideoStream
from stemseg.structures.track_summary import label_of
from stemseg.utils.errors import DataError


@dataclass(frozen=True)
class StreamedObject:
    """One object in one frame of a stream.

    Attributes:
        id: its number, the same in all frames.
        label: name of its class; "object" where the model has none.
        score: in [0, 1], by what is known of it so far.
        mask: [H, W] bool.
        area: pixels of the mask.
        box: rectangle around it: x, y, width, height in pixels.
    """

    id: int
    label: str
    score: float
    mask: np.ndarray
    area: int
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class StreamedFrame:
    """A frame of a stream whose objects are known.

    Attributes:
        index: its number, from 0.
        image: [H, W, 3] uint8, R G B.
        objects: what it shows.
    """

    index: int
    image: np.ndarray
    objects: list[StreamedObject]


class Stream:
    """Segments frames as they come: :meth:`step` with each, in a ``with`` block.

    Memory does not grow with the number of frames. A frame's objects are known at most ``max_delay`` frames later,
    since a clip is labeled when all clips that overlap it have been seen.
    """

    def __init__(self, stream: VideoStream, category_names: Mapping[int, str]) -> None:
        self._stream = stream
        self._names = category_names
        self._is_open = True

    @property
    def max_delay(self) -> int:
        """Frames that may come behind a frame before its objects are known: 2 T - 1, for clips of T frames."""
        return self._stream.max_delay

    def step(self, frame: np.ndarray) -> list[StreamedFrame]:
        """Take in the next frame, [H, W, 3] uint8, R G B; the frames that are known now: at first none, later some.

        Raises:
            DataError: where it is no such image, or of another size than the first, or the stream has ended.
        """
        if not self._is_open:
            raise DataError("the stream has ended; open a new one with segmenter.stream()")
        return [self._convert(seen) for seen in self._stream.step(rgb_to_bgr(frame, "the frame"))]

    def finish(self) -> list[StreamedFrame]:
        """End the stream; the frames that were not known yet."""
        self._is_open = False
        return [self._convert(seen) for seen in self._stream.finish()]

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._is_open = False

    def _convert(self, seen: SeenFrame) -> StreamedFrame:
        objects = [
            StreamedObject(
                found.track_id,
                label_of(found.category_id, self._names),
                found.score,
                found.mask != 0,
                int(found.mask.sum()),
                _box(found.mask),
            )
            for found in seen.objects
        ]
        return StreamedFrame(seen.index, np.ascontiguousarray(seen.image[..., ::-1]), objects)


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top
