"""A clip before preprocessing: bytes and id maps at the original image size, cheap to flip, warp and paste."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stemseg.data.id_maps import IdMap


@dataclass(frozen=True)
class Frame:
    """One image with its ground truth.

    Attributes:
        image: [H, W, 3] uint8, B G R.
        ids: where its instances are.
        ignore: [H, W] uint8, 1 where pixels belong to nothing known; None for nowhere.
        valid: [H, W] uint8, 0 where a warp looked beyond the image; None where all of it is image.
    """

    image: np.ndarray
    ids: IdMap
    ignore: np.ndarray | None = None
    valid: np.ndarray | None = None


@dataclass(frozen=True)
class RawClip:
    """Frames of one size, T of them.

    Attributes:
        frames: in the order of training.
        category_ids: of instance i = 0, 1, ..., in the training category space; the frames' id maps hold these i.
        name: where the clip comes from, for pictures and error messages.
    """

    frames: Sequence[Frame]
    category_ids: tuple[int, ...]
    name: str

    def flipped(self) -> RawClip:
        """Mirrored left to right."""
        return replace(self, frames=[_flip(frame) for frame in self.frames])

    def reordered(self, order: Sequence[int]) -> RawClip:
        """The frames in another order."""
        return replace(self, frames=[self.frames[t] for t in order])

    def with_ignored_background(self) -> RawClip:
        """Every pixel outside the instances ignored (DAVIS: objects that nobody annotated stand there)."""
        frames = [replace(f, ignore=np.logical_not(f.ids.foreground()).view(np.uint8)) for f in self.frames]
        return replace(self, frames=frames)


def _flip(frame: Frame) -> Frame:
    mirror = _mirrored
    return Frame(
        image=mirror(frame.image),
        ids=frame.ids.transformed(mirror),
        ignore=None if frame.ignore is None else mirror(frame.ignore),
        valid=None if frame.valid is None else mirror(frame.valid),
    )


def _mirrored(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[:, ::-1])
