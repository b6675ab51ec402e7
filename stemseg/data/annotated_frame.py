"""Frames and clips with their ground truth before preprocessing: bytes at the images' own size, cheap to change.

The instances of a frame are small uint8 images that hold instance numbers. A frame with ten instances costs one byte
per pixel instead of ten; where instances overlap, the later one goes to a further layer, so that no pixel of any
instance is lost. Binary masks appear only in the last step, at network size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np

from stemseg.data.images import mask_box
from stemseg.structures.clip import ABSENT

_VALUES_PER_LAYER = ABSENT - 1


class Place(NamedTuple):
    """The place of an instance: its pixels are those of layer ``layer`` that hold ``value`` (1 to 254)."""

    layer: int
    value: int


@dataclass(frozen=True)
class IdMap:
    """The instances visible in one frame.

    Attributes:
        height, width: of the frame, in pixels.
        layers: L images [H, W] uint8, 0 where no instance is; none where the frame is empty.
        places: for each instance number (its index in the clip) where it stands.
    """

    height: int
    width: int
    layers: tuple[np.ndarray, ...]
    places: dict[int, Place]

    def mask(self, instance: int) -> np.ndarray:
        """Binary mask [H, W] uint8 of one instance; empty where it is not in this frame."""
        place = self.places.get(instance)
        if place is None:
            return np.zeros((self.height, self.width), dtype=np.uint8)
        return (self.layers[place.layer] == place.value).view(np.uint8)

    def foreground(self) -> np.ndarray:
        """[H, W] bool, true where any instance is."""
        covered = np.zeros((self.height, self.width), dtype=bool)
        for layer in self.layers:
            covered |= layer != 0
        return covered

    def transformed(self, transform: Callable[[np.ndarray], np.ndarray]) -> IdMap:
        """The same instances after a geometric change that moves values without mixing them (flip, nearest warp)."""
        layers = tuple(transform(layer) for layer in self.layers)
        height, width = layers[0].shape if layers else (self.height, self.width)
        return IdMap(height, width, layers, self.places)


def pack_masks(masks: Iterable[tuple[int, np.ndarray]], height: int, width: int) -> IdMap:
    """Pack binary masks into as few layers as their overlaps allow.

    Args:
        masks: instance number and mask [H, W] uint8 (0 or 1), any number; consumed one by one.
        height, width: of every mask.
    """
    layers: list[np.ndarray] = []
    used: list[int] = []  # values taken in each layer
    places: dict[int, Place] = {}
    for instance, mask in masks:
        box = mask_box(mask)
        if box is None:
            continue
        inside = np.ascontiguousarray(mask[box])
        index = _first_free_layer(layers, used, box, inside)
        if index == len(layers):
            layers.append(np.zeros((height, width), dtype=np.uint8))
            used.append(0)
        used[index] += 1
        layers[index][box] += inside * np.uint8(used[index])  # nothing stands there yet
        places[instance] = Place(index, used[index])
    return IdMap(height, width, tuple(layers), places)


def _first_free_layer(layers: list[np.ndarray], used: list[int], box: tuple[slice, slice], inside: np.ndarray) -> int:
    for index, layer in enumerate(layers):
        if used[index] < _VALUES_PER_LAYER and not np.logical_and(layer[box], inside).any():
            return index
    return len(layers)


@dataclass(frozen=True)
class AnnotatedFrame:
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
class AnnotatedClip:
    """Frames of one size, T of them.

    Attributes:
        frames: in the order of training.
        category_ids: of instance i = 0, 1, ..., in the training category space; the frames' id maps hold these i.
        name: where the clip comes from, for pictures and error messages.
    """

    frames: Sequence[AnnotatedFrame]
    category_ids: tuple[int, ...]
    name: str

    def flipped(self) -> AnnotatedClip:
        """Mirrored left to right."""
        return replace(self, frames=[_flip(frame) for frame in self.frames])

    def reordered(self, order: Sequence[int]) -> AnnotatedClip:
        """The frames in another order."""
        return replace(self, frames=[self.frames[t] for t in order])

    def with_ignored_background(self) -> AnnotatedClip:
        """Every pixel outside the instances ignored (DAVIS: objects that nobody annotated stand there)."""
        frames = [replace(f, ignore=np.logical_not(f.ids.foreground()).view(np.uint8)) for f in self.frames]
        return replace(self, frames=frames)


def _flip(frame: AnnotatedFrame) -> AnnotatedFrame:
    mirror = _mirrored
    return AnnotatedFrame(
        image=mirror(frame.image),
        ids=frame.ids.transformed(mirror),
        ignore=None if frame.ignore is None else mirror(frame.ignore),
        valid=None if frame.valid is None else mirror(frame.valid),
    )


def _mirrored(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[:, ::-1])


class ClipSource(Protocol):
    """A dataset that clips can be drawn from: :class:`VideoClips` or :class:`StillClips`."""

    name: str

    def __len__(self) -> int: ...

    def draw(self, position: int, rng: np.random.Generator) -> AnnotatedClip:
        """A random clip of element ``position``, decided by ``rng`` alone."""
        ...
