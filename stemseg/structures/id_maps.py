"""Masks in PNGs, a number for each pixel: palette, gray and 16-bit maps of ids, and the panoptic ones in color."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from stemseg.utils.errors import DataError
from stemseg.utils.files import MAX_IMAGE_PIXELS, open_file

_BYTE_MODES = ("P", "L", "1")
_ID_MODES = (*_BYTE_MODES, "I", "I;16", "I;16B")
# what Pillow raises for files that are damaged, cut off, or larger than any picture
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def read_id_map(path: Path, *, next_step: str = "") -> np.ndarray:
    """The ids [H, W] int32 of a palette, 8-bit or 16-bit PNG.

    Args:
        next_step: what a user can do where it is missing.

    Raises:
        DataError: where the file is missing, damaged, too large or a color picture.
    """
    with _open(path, next_step) as image:
        if image.mode not in _ID_MODES:
            raise DataError(
                f"{path} is a picture of mode {image.mode}, expected one number per pixel (palette, 8-bit or 16-bit "
                "PNG); was it converted by another program? Take the original file"
            )
        return _pixels(image, path).astype(np.int32)


def read_color_ids(path: Path) -> np.ndarray:
    """The ids [H, W] int32 of a panoptic PNG, R + 256 G + 65536 B.

    Raises:
        DataError: where the file is missing, damaged, too large or no color picture.
    """
    with _open(path) as image:
        if image.mode not in ("RGB", "RGBA"):
            raise DataError(
                f"{path} is a picture of mode {image.mode}, expected a panoptic RGB PNG; is it another file?"
            )
        return _pixels(image, path)[:, :, :3].astype(np.int32) @ np.array([1, 256, 65536], dtype=np.int32)


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) from an image's header.

    Raises:
        DataError: where the file is missing, too large or no image.
    """
    with _open(path) as image:
        return image.height, image.width


def _open(path: Path, next_step: str = "") -> Image.Image:
    open_file(path, next_step=next_step or "is the download or the folder complete?").close()
    try:
        image = Image.open(path)
    except UnidentifiedImageError:
        raise DataError(f"{path} is no image; download or write it again") from None
    except _DAMAGE as error:
        raise DataError(f"{path} cannot be read as an image ({error}); download or write it again") from None
    if image.width * image.height > MAX_IMAGE_PIXELS:
        raise DataError(
            f"{path} is {image.height} x {image.width} (height x width), expected at most {MAX_IMAGE_PIXELS} pixels; "
            "make it smaller"
        )
    return image


def _pixels(image: Image.Image, path: Path) -> np.ndarray:
    try:
        return np.array(image)
    except _DAMAGE as error:
        raise DataError(f"{path} is damaged ({error}); download or write it again") from None
