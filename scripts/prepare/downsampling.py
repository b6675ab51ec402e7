"""Smaller copies of images and of their id maps."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from scripts.prepare.masks import image_size
from stemseg.data.images import read_image
from stemseg.utils.errors import DataError

_JPEG_QUALITY = 95


def shrunk_size(height: int, width: int, *, short_side: int) -> tuple[int, int]:
    """(height, width) with the shorter side at most ``short_side`` pixels and the same aspect ratio."""
    scale = min(1.0, short_side / min(height, width))
    return round(scale * height), round(scale * width)


def resize_ids(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The id map [H, W] at another size [h, w]: the id at the centre of each new pixel."""
    rows, columns = (((np.arange(n) + 0.5) * old / n).astype(int) for n, old in zip(size, ids.shape, strict=True))
    return ids[rows[:, None], columns]


def write_downsampled(source: Path, target: Path, size: tuple[int, int], *, overwrite: bool) -> None:
    """Write ``source`` at (height, width) = ``size`` as a JPEG, whole or not at all; keeps a copy of that size.

    Raises:
        DataError: where the source cannot be read or the copy cannot be written.
    """
    if not overwrite and target.exists() and image_size(target) == size:
        return
    image = read_image(source)
    if image.shape[:2] != size:
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    done, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise DataError(f"{source} could not be encoded as a JPEG")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".part")
    temporary.write_bytes(content.tobytes())
    temporary.replace(target)
