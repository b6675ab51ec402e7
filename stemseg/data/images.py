"""Reads image files, decodes masks, and resizes masks, all of a frame at once (method.md §1).

Images are B G R uint8 [H, W, 3], as OpenCV gives them, everywhere until normalization; masks are binary uint8 [H, W].
"""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stemseg.structures.rle import decode_rle
from stemseg.utils.errors import DataError, located
from stemseg.utils.files import MAX_IMAGE_PIXELS, read_bytes

_MAX_BYTES = 1 << 29  # of an image file; a picture of the most pixels has 200 MB uncompressed
_COMPLETE = "check that the dataset is complete and that its folder is the one the annotations were made for"


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


def resize_ids(ids: np.ndarray, output: np.ndarray) -> None:
    """Resize an id map as if the mask of each id were resized bilinearly (align_corners False) and cut at 0.5.

    The cost does not depend on the number of ids, but on the rectangle around them: where the four pixels that a
    resized one mixes agree, and that is nearly everywhere, nothing is weighed.

    Args:
        ids: [H, W] uint8, any ids, 0 for none.
        output: [h, w] uint8; receives at most one id per pixel, since no two masks can have more than half of it.
    """
    output[...] = 0
    box = mask_box(ids)
    if box is None:
        return
    axes = [bilinear_taps(size, new_size) for size, new_size in zip(ids.shape, output.shape, strict=True)]
    rows, columns = (_touching(taps, side) for taps, side in zip(axes, box, strict=True))
    ids, output = ids[rows.inputs, columns.inputs], output[rows.outputs, columns.outputs]
    if not output.size:  # they fall between what is mixed
        return
    # always one of the four; whole rows are gathered in a third of the time of single pixels
    output[...] = cv2.transpose(cv2.transpose(ids)[columns.taps.nearest])[rows.taps.nearest]
    y, x = _mixed_pixels(ids, rows.taps, columns.taps)
    corners = _corners(ids, y, x, rows.taps, columns.taps)
    output[y, x] = _majority(corners, rows.taps.weight[y], columns.taps.weight[x])


class Taps(NamedTuple):
    """For each output index along one axis the two input indices that it mixes, and the weight of the second."""

    lower: np.ndarray
    upper: np.ndarray
    weight: np.ndarray

    @property
    def nearest(self) -> np.ndarray:
        """Of the two indices the one with the larger weight."""
        return np.where(self.weight > 0.5, self.upper, self.lower)


class _Part(NamedTuple):
    """Input indices along one axis, the output indices that mix any of them, and their taps within the inputs."""

    inputs: slice
    outputs: slice
    taps: Taps


@lru_cache(maxsize=64)
def bilinear_taps(size: int, new_size: int) -> Taps:
    """Of a resize from ``size`` to ``new_size``, align_corners False; positions in double precision, as OpenCV's."""
    position = np.clip((np.arange(new_size) + 0.5) * (size / new_size) - 0.5, 0, size - 1)
    lower = np.floor(position).astype(np.intp)
    return Taps(lower, np.minimum(lower + 1, size - 1), (position - lower).astype(np.float32))


def _touching(taps: Taps, side: slice) -> _Part:
    """The part of an axis that depends on the input indices ``side``, with one more input on either side of them."""
    first = max(side.start - 1, 0)
    outputs = slice(int(np.searchsorted(taps.upper, side.start)), int(np.searchsorted(taps.lower, side.stop)))
    part = Taps(taps.lower[outputs] - first, taps.upper[outputs] - first, taps.weight[outputs])
    return _Part(slice(first, side.stop + 1), outputs, part)


def _mixed_pixels(ids: np.ndarray, rows: Taps, columns: Taps) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the output pixels that mix different ids."""
    flat, width = ids.ravel(), ids.shape[1]
    differs, across = np.zeros(flat.shape, dtype=bool), np.zeros(flat.shape, dtype=bool)  # at the upper left of four
    # also from the end of a row to the next one's start, where a few pixels are then weighed in vain
    across[:-1] = flat[:-1] != flat[1:]
    differs[:-width] = flat[:-width] != flat[width:]
    differs[:-width] |= across[width:]
    row, column = np.divmod(np.flatnonzero(differs | across), width)
    which, y = _mixing(row, rows.lower, ids.shape[0])
    other, x = _mixing(column[which], columns.lower, ids.shape[1])
    return y[other], x


def _mixing(inputs: np.ndarray, lower: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The output indices whose lower input is one of ``inputs``: where in ``inputs`` that is, and the output index."""
    first = np.searchsorted(lower, np.arange(size + 1))
    counts = (first[1:] - first[:-1])[inputs]
    which = np.repeat(np.arange(len(inputs)), counts)
    offset = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    return which, first[inputs][which] + offset


def _corners(ids: np.ndarray, y: np.ndarray, x: np.ndarray, rows: Taps, columns: Taps) -> np.ndarray:
    """The ids [4, P] that output pixels mix: above left, below left, above right and below right."""
    width = ids.shape[1]
    above, below = ((inputs * width)[y] for inputs in (rows.lower, rows.upper))
    left, right = columns.lower[x], columns.upper[x]
    return ids.ravel()[np.stack([above + left, below + left, above + right, below + right])]


def _majority(corners: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """The id that has more than half of each pixel, or 0.

    Args:
        corners: [4, P], ids above left, below left, above right and below right.
        down, across: [P] float32, weights of the lower and of the right ones.
    """
    first = corners[0]
    other = np.where(corners[1] != first, corners[1], np.where(corners[2] != first, corners[2], corners[3]))
    winners = np.where(_share(corners, first, down, across) > 0.5, first, 0)
    won = _share(corners, other, down, across) > 0.5
    winners[won] = other[won]
    # a third id has more than half of hardly any pixel; those that hold one are weighed again
    several = np.flatnonzero(((corners != first) & (corners != other)).any(axis=0))
    for candidate in corners[:, several]:
        won = _share(corners[:, several], candidate, down[several], across[several]) > 0.5
        winners[several[won]] = candidate[won]
    return winners


def _share(corners: np.ndarray, ids: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """The share [P] float32 of an id in each pixel, see :func:`_majority`."""
    above_left, below_left, above_right, below_right = (corners == ids).astype(np.float32)
    left = above_left + (below_left - above_left) * down
    right = above_right + (below_right - above_right) * down
    return left + (right - left) * across


def resize_planes(planes: Tensor, height: int, width: int) -> Tensor:
    """Resize [..., H, W] float bilinearly (align_corners False), with positions as exact as OpenCV's.

    ``torch.nn.functional.interpolate`` computes them in single precision: a hundredth of a gray level.
    """
    for dim, size in ((-2, height), (-1, width)):
        lower, upper, weight = _taps_on(planes.device, planes.shape[dim], size)
        weight = weight[:, None] if dim == -2 else weight
        planes = torch.lerp(planes.index_select(dim, lower), planes.index_select(dim, upper), weight)
    return planes


@lru_cache(maxsize=64)
def _taps_on(device: torch.device, size: int, new_size: int) -> tuple[Tensor, ...]:
    taps = bilinear_taps(size, new_size)
    return tuple(torch.from_numpy(values).to(device, non_blocking=True) for values in taps)
