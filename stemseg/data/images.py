"""Reads image files, decodes masks, and resizes masks at the cost of their extent only (method.md §1).

Images are B G R uint8 [H, W, 3], as OpenCV gives them, everywhere until normalization; masks are binary uint8 [H, W].
"""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from stemseg.structures.rle import decode_rle
from stemseg.utils.errors import DataError, located
from stemseg.utils.files import MAX_IMAGE_PIXELS, read_bytes

_MAX_BYTES = 1 << 29  # of an image file; a picture of the most pixels has 200 MB uncompressed
_COMPLETE = "check that the dataset is complete and that its folder is the one the annotations were made for"
_SMALL = 0.1  # below this share of the image, resizing only a mask's extent is cheaper (measured: 3 to 8 times)


def read_image(
    path: str | Path, where: str = "", *, expected_size: tuple[int, int] | None = None, turned: bool = False
) -> np.ndarray:
    """Read an image file.

    Args:
        path: of a file in any format that OpenCV reads; gray images come back with three equal channels.
        where: who asks ("sequence 'bear', frame 3"), for the error message.
        expected_size: (height, width) that the annotations give; another size is an error.
        turned: turn the image as its orientation tag says, as one would look at it. Annotations are made on the stored
            pixels.

    Returns:
        [H, W, 3] uint8, B G R.

    Raises:
        DataError: where the file is missing, is not an image, is damaged, or has another size than annotated.
    """
    prefix = f"{where}: " if where else ""
    with located(f"{where}: cannot read the image") if where else located("cannot read the image"):
        content = read_bytes(path, max_bytes=_MAX_BYTES, next_step=_COMPLETE)
    _check_pixels(content, f"{prefix}{path}")
    image = _decode(content, turned)
    if image is None:
        raise DataError(
            f"{prefix}{path} ({len(content)} bytes) is not an image that can be decoded; it is damaged or cut off: "
            "download or extract it again"
        )
    if expected_size is not None and image.shape[:2] != tuple(expected_size):
        raise DataError(
            f"{prefix}{path} is {image.shape[0]} x {image.shape[1]} pixels (height x width), but its annotation says "
            f"{expected_size[0]} x {expected_size[1]}; images and annotation file do not belong together"
        )
    return image


def _check_pixels(content: bytes, where: str) -> None:
    """Refuse an image of more pixels than any picture has, by its header; a small file can unpack to any size."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            pixels = image.width * image.height
    except Image.DecompressionBombError:
        pixels = MAX_IMAGE_PIXELS + 1
    except (OSError, SyntaxError, ValueError, EOFError):
        return  # a format that Pillow does not know, or damage; decoding tells
    if pixels > MAX_IMAGE_PIXELS:
        raise DataError(f"{where} has more than {MAX_IMAGE_PIXELS} pixels, the most that are possible; make it smaller")


def _decode(content: bytes, turned: bool) -> np.ndarray | None:
    """The decoded image; None where the bytes are no image, or a JPEG that ends early (OpenCV 4 fills it with gray)."""
    if content[:2] == b"\xff\xd8" and content.rfind(b"\xff\xd9") < _scan_start(content):
        return None
    try:
        flags = cv2.IMREAD_COLOR if turned else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        return cv2.imdecode(np.frombuffer(content, dtype=np.uint8), flags)
    except cv2.error:
        return None


def _scan_start(content: bytes) -> int:
    """The place in a JPEG at which its pixels begin: behind all headers, one of which may hold a whole small JPEG."""
    place = 2
    while content[place : place + 1] == b"\xff" and content[place + 1 : place + 2] != b"\xda":
        place += 2 + max(2, int.from_bytes(content[place + 2 : place + 4], "big"))
    return place


def decode_mask(counts: str, size: tuple[int, int], where: str) -> np.ndarray:
    """The mask of RLE counts; ``size`` is (height, width).

    Raises:
        DataError: beginning with ``where``, if the counts are damaged or cover another number of pixels.
    """
    try:
        return decode_rle(counts, *size)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def mask_box(mask: np.ndarray) -> tuple[slice, slice] | None:
    """The smallest rows and columns that hold every non-zero pixel; None where there is none."""
    if mask.flags.c_contiguous:
        x, y, width, height = cv2.boundingRect(mask)
    else:  # decoded RLEs are stored column by column; turning the box is cheaper than turning the mask
        y, x, height, width = cv2.boundingRect(np.ascontiguousarray(mask.T))
    return (slice(y, y + height), slice(x, x + width)) if width else None


def resize_mask_into(mask: np.ndarray, output: np.ndarray) -> bool:
    """Resize a mask bilinearly (align_corners False) and write what is above 0.5 into ``output`` (method.md §1).

    Args:
        mask: [H, W] uint8, 0 or 1.
        output: [h, w] uint8, zeros; receives ones.

    Returns:
        whether any pixel was written.
    """
    box = mask_box(mask)
    if box is None:
        return False
    rows, columns = box
    if (rows.stop - rows.start) * (columns.stop - columns.start) < _SMALL * mask.size:
        return _resize_extent(mask, rows, columns, output)
    resized = cv2.resize(mask.astype(np.float32), output.shape[::-1], interpolation=cv2.INTER_LINEAR)
    np.greater(resized, 0.5, out=output.view(bool))
    return bool(output.any())


def _resize_extent(mask: np.ndarray, rows: slice, columns: slice, output: np.ndarray) -> bool:
    """The same, computing only what the given rows and columns reach; OpenCV can't resize a crop at the right phase."""
    reached_rows, reached_columns = (
        _reached(extent, size, new_size)
        for extent, size, new_size in zip((rows, columns), mask.shape, output.shape, strict=True)
    )
    patch = np.pad(mask[rows, columns].astype(np.float32), 1)  # beyond the extent the mask is empty
    patch = _interpolate_rows(patch, rows.start - 1, mask.shape[0], output.shape[0], reached_rows)
    patch = np.ascontiguousarray(patch.T)  # mixing whole rows is several times faster than mixing columns
    patch = _interpolate_rows(patch, columns.start - 1, mask.shape[1], output.shape[1], reached_columns).T
    inside = patch > 0.5
    output[reached_rows, reached_columns] = inside
    return bool(inside.any())


def _interpolate_rows(patch: np.ndarray, first: int, size: int, new_size: int, reached: slice) -> np.ndarray:
    """Output rows ``reached`` of a resize from ``size`` to ``new_size``; ``patch`` begins with input row ``first``."""
    lower, upper, weight = (taps[reached] for taps in _taps(size, new_size))
    above = patch[np.clip(lower - first, 0, len(patch) - 1)]
    below = patch[np.clip(upper - first, 0, len(patch) - 1)]
    below -= above
    below *= weight[:, None]
    below += above
    return below


def _reached(extent: slice, size: int, new_size: int) -> slice:
    """The output indices that read any of the input indices in ``extent``."""
    lower, upper, _ = _taps(size, new_size)
    return slice(int(np.searchsorted(upper, extent.start)), int(np.searchsorted(lower, extent.stop)))


@lru_cache(maxsize=64)
def _taps(size: int, new_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each output index the two input indices that it mixes, and the weight of the second."""
    position = np.clip((np.arange(new_size) + 0.5) * (size / new_size) - 0.5, 0, size - 1)
    lower = np.floor(position).astype(np.intp)
    return lower, np.minimum(lower + 1, size - 1), (position - lower).astype(np.float32)
