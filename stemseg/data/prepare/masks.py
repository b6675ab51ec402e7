"""Checks images against their annotations, and turns id maps into the masks of the standard JSON."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from stemseg.data.images import read_image
from stemseg.structures.rle import encode_rle
from stemseg.utils.errors import DataError

_COUNTED_IDS = 1 << 17  # panoptic ids are too large to be counted


def image_problems(path: Path, size: tuple[int, int]) -> list[str]:
    """Problems of an image that should decode to (height, width) = ``size``: at most one message."""
    try:
        read_image(path, expected_size=size)
    except DataError as error:
        return [str(error)]
    return []


def check_map_size(ids: np.ndarray, size: tuple[int, int], path: Path) -> None:
    """Refuse an id map that does not cover its image of (height, width) = ``size``."""
    if ids.shape != size:
        raise DataError(f"{path} is {_by(ids.shape)}, but its image is {_by(size)} (height x width)")


def encode_ids(ids: np.ndarray, leave_out: Collection[int] = (0,)) -> dict[int, str]:
    """RLE counts of each id of an id map [H, W], in ascending order."""
    return {i: encode_rle(ids == i) for i in present_ids(ids) if i not in leave_out}


def present_ids(ids: np.ndarray) -> list[int]:
    """The different values of an id map [H, W], ascending."""
    if ids.max() < _COUNTED_IDS:
        return np.flatnonzero(np.bincount(ids.ravel())).tolist()  # 3.7 ms where sorting takes 13.9 (480 x 854)
    return np.unique(ids).tolist()


def _by(size: Any) -> str:
    return " x ".join(str(v) for v in size)
