"""The instances of one frame as small uint8 images that hold instance numbers.

A frame with ten instances costs one byte per pixel instead of ten; where instances overlap, the later one goes to a
further layer, so that no pixel of any instance is lost. Binary masks appear only in the last step, at network size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stemseg.data.masks import mask_box

_VALUES_PER_LAYER = 255


class Place(NamedTuple):
    """Where an instance stands: its pixels are those of layer ``layer`` that hold ``value`` (1 to 255)."""

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
