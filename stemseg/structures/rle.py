"""Run-length encoded masks, the form in which masks stand in annotation and result files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from stemseg.utils.errors import DataError
from stemseg.utils.json_values import names_of
from stemseg.utils.text import shorten, shown

_SHOWN_LENGTH = 25  # characters of damaged counts in messages
_MAX_GROUPS = 7  # of 5 bits: 35 bits; the shifts of NumPy and of C differ from 13 groups on
_CHARACTERS = re.compile("([0-o]*[0-O])?")  # the last one ends a number
_LONG_NUMBER = re.compile(f"[P-o]{{{_MAX_GROUPS}}}")


def encode_rle(mask: np.ndarray) -> str:
    """Compressed RLE counts (COCO) of a binary mask [H, W]; any value other than 0 is foreground."""
    return coco_mask.encode(np.asfortranarray(mask != 0, dtype=np.uint8))["counts"].decode("ascii")


def encode_rle_part(part: np.ndarray, top: int, left: int, size: tuple[int, int]) -> str:
    """Compressed RLE counts (COCO) of a mask that is empty outside of a rectangle.

    Args:
        part: [h, w] bool, the rectangle; quickest where it lies column by column in memory.
        top, left: its place in the mask.
        size: (H, W) of the mask.
    """
    height, width = size
    columns = np.zeros((part.shape[1], part.shape[0] + 2), dtype=bool)  # with a row of background at both ends
    columns[:, 1:-1] = part.T
    column, row = np.divmod(np.flatnonzero(columns[:, 1:] != columns[:, :-1]), columns.shape[1] - 1)
    edges = (left + column) * height + top + row  # where runs begin and end, in turns
    touching = np.flatnonzero(edges[1:-1:2] == edges[2::2])  # from the bottom of a column to the top of the next one
    edges = np.delete(edges, np.concatenate([2 * touching + 1, 2 * touching + 2]))
    runs = np.diff(edges, prepend=0, append=height * width)
    counts = runs[: len(runs) - (runs[-1] == 0)].tolist()
    return coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)["counts"].decode("ascii")


def decode_rle(counts: str, height: int, width: int) -> np.ndarray:
    """Binary mask [H, W] uint8 of compressed RLE counts.

    Raises:
        DataError: where the counts are damaged or do not add up to ``height * width`` pixels.
    """
    runs = check_rle_size(counts, height, width)
    is_foreground = (np.arange(len(runs)) & 1).astype(np.uint8)
    return np.repeat(is_foreground, runs).reshape((height, width), order="F")


def paint_rles(masks: Mapping[int, str], height: int, width: int) -> np.ndarray:
    """One map of several masks: [H, W] uint8, each mask's number where it is, 0 elsewhere; the last of them is on top.

    Args:
        masks: compressed RLE counts by number.

    Raises:
        DataError: see :func:`decode_rle`.
    """
    painted = np.zeros(height * width, dtype=np.uint8)
    for number, counts in masks.items():
        edges = np.cumsum(check_rle_size(counts, height, width)).tolist()
        for start, end in zip(edges[::2], edges[1::2], strict=False):
            painted[start:end] = number
    return painted.reshape((height, width), order="F")


def coco_rles(counts: Sequence[str], height: int, width: int) -> list[dict[str, Any]]:
    """Compressed counts of several masks as the objects that pycocotools takes."""
    return [{"size": [height, width], "counts": c.encode("ascii")} for c in counts]


def rle_area(counts: str, height: int, width: int) -> int:
    """Number of foreground pixels, without decoding."""
    return int(coco_mask.area(*coco_rles([counts], height, width)))


def rle_run_lengths(counts: str) -> list[int]:
    """The run lengths behind compressed counts, background first.

    COCO packs each run in 5-bit groups, least significant first, 6th bit = "more follows"; from the fourth run
    on it stores the difference to the run two before.

    Raises:
        DataError: where the text ends within a number, holds foreign characters, an endless number or a negative run.
    """
    name = f"RLE counts {shown_counts(counts)}"
    if not isinstance(counts, str):
        raise DataError(f"{name} are no text, expected compressed counts of COCO; compress the mask with pycocotools")
    foreign = re.search("[^0-o]", counts)
    if foreign:
        raise DataError(f"{name} hold the character {foreign[0]!r}, expected those from '0' to 'o'")
    if counts and counts[-1] >= "P":
        raise DataError(f"{name} end within a number; were they cut off?")
    if _LONG_NUMBER.search(counts):
        raise DataError(f"{name} hold a number of more than {_MAX_GROUPS} groups, too large for any image")
    runs, _, _ = _decode([counts])
    if (runs < 0).any():
        raise DataError(f"{name} hold a negative run")
    return runs.tolist()


def is_decodable(counts: str) -> bool:
    """Whether compressed counts hold the right characters and end with a number, so that C code can read them."""
    return _CHARACTERS.fullmatch(counts) is not None


def are_whole(masks: Sequence[str], pixels: Sequence[int]) -> bool:
    """Whether every one of many compressed counts is sound and covers its number of pixels; 15 us a mask."""
    if not all(map(is_decodable, masks)):
        return False
    runs, first, longest = _decode(masks)
    if longest > _MAX_GROUPS:
        return False
    sums = np.concatenate([[0], np.cumsum(runs)])
    totals = np.diff(sums[np.append(first, len(runs))])
    return bool((runs >= 0).all() and (totals == np.asarray(pixels)).all())


def _decode(masks: Sequence[str]) -> tuple[np.ndarray, np.ndarray, int]:
    """The runs of all masks, one mask behind the other, where each mask's runs begin, and the longest number's groups.

    The masks must be decodable; a number of more than 7 groups comes out wrong.
    """
    groups = np.frombuffer("".join(masks).encode("ascii"), dtype=np.uint8) - 48
    ends = np.flatnonzero((groups & 0x20) == 0)  # of the numbers
    starts = np.concatenate([[0], ends + 1])[:-1]
    lengths = ends - starts + 1
    numbers = _join_groups(groups, starts, lengths)
    text_starts = np.cumsum([0, *map(len, masks)])[:-1]
    first = np.searchsorted(ends, text_starts)
    # undo the differences: sums of every second number over all masks, less what stands before the mask's own
    sums = np.zeros(len(numbers) + 2, dtype=np.int64)
    for parity in (0, 1):
        np.cumsum(numbers[parity::2], out=sums[parity + 2 :: 2])
    own_first = np.repeat(first, np.diff(np.append(first, len(numbers))))
    is_foreground = (np.arange(len(numbers)) - own_first) % 2
    runs = sums[2:] - sums[own_first + 2 - is_foreground]  # the first run of the background is in no difference
    filled = first[first < len(numbers)]
    runs[filled] = numbers[filled]
    return runs, first, int(lengths.max(initial=0))


def _join_groups(groups: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The signed numbers whose groups of 5 bits begin at ``starts``."""
    numbers = (groups[starts] & 0x1F).astype(np.int64)
    for k in range(1, min(lengths.max(initial=0), _MAX_GROUPS)):
        longer = np.flatnonzero(lengths > k)
        numbers[longer] |= (groups[starts[longer] + k] & 0x1F).astype(np.int64) << 5 * k
    negative = np.flatnonzero(groups[starts + lengths - 1] & 0x10)  # the last group's highest bit is the sign
    numbers[negative] -= 1 << 5 * np.minimum(lengths[negative], _MAX_GROUPS)
    return numbers


def check_rle_size(counts: str, height: int, width: int) -> np.ndarray:
    """The run lengths of counts that cover exactly ``height * width`` pixels; pycocotools would read past its memory.

    Raises:
        DataError: where they cover more or fewer, or are damaged.
    """
    if isinstance(counts, str) and is_decodable(counts):
        runs, _, longest = _decode([counts])
        if longest <= _MAX_GROUPS and (runs >= 0).all() and runs.sum() == height * width:
            return runs
    runs = np.asarray(rle_run_lengths(counts))
    total = int(runs.sum())
    if total != height * width:
        raise DataError(
            f"RLE counts {shown_counts(counts)} cover {total} pixels, expected {height} x {width} = "
            f"{height * width} (height x width of the annotation); was the mask made for another image size?"
        )
    return runs


def shown_counts(counts: Any) -> str:
    """The start of counts, in quotes, for messages."""
    return f"'{shorten(counts, _SHOWN_LENGTH)}'" if isinstance(counts, str) else shown(counts)


def rle_from_coco(segmentation: Any, height: int, width: int) -> str | None:
    """Compressed RLE counts of a COCO "segmentation": polygons, uncompressed or compressed RLE; None without a pixel.

    Everything is checked here, since the C code behind pycocotools loops or crashes on values of a wrong kind.

    Raises:
        DataError: where it is none of these or made for another size than ``height`` x ``width``.
    """
    if isinstance(segmentation, Mapping):
        counts = _rle_counts(segmentation, height, width)
    elif isinstance(segmentation, list):
        counts = _polygon_counts(segmentation, height, width)
    else:
        raise DataError(
            f"segmentation is {shown(segmentation)}, expected polygons [[x, y, ...], ...] or an RLE (size and counts)"
        )
    return counts if rle_area(counts, height, width) else None


def _rle_counts(rle: Mapping[str, Any], height: int, width: int) -> str:
    if "counts" not in rle or "size" not in rle:
        raise DataError(f"RLE has the keys {names_of(rle)}, expected size and counts")
    size = rle["size"]
    if not isinstance(size, list) or [type(side) in (int, float) for side in size] != [True, True]:
        raise DataError(f"'size' of the RLE is {shown(size)}, expected [height, width] = [{height}, {width}]")
    if size != [height, width]:
        raise DataError(
            f"mask is {size[0]} x {size[1]}, but its image is {height} x {width} (height x width); was it made for "
            "another image?"
        )
    counts = rle["counts"]
    if isinstance(counts, str):
        check_rle_size(counts, height, width)
        return counts
    if not isinstance(counts, list):
        raise DataError(
            f"RLE counts are {shown(counts)}, expected a text or a list of whole numbers; write the mask again"
        )
    for i, run in enumerate(counts):
        if type(run) is not int or run < 0:
            raise DataError(f"RLE counts hold {shown(run)} at {i}, expected whole numbers from 0; write the mask again")
    if sum(counts) != height * width:
        raise DataError(
            f"RLE counts cover {shown(sum(counts))} pixels, expected {height} x {width} = {height * width}; was the "
            "mask made for another image size?"
        )
    return coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)["counts"].decode("ascii")


def _polygon_counts(polygons: list, height: int, width: int) -> str:
    if not polygons:
        raise DataError("segmentation is an empty list, expected at least one polygon")
    for polygon in polygons:
        _check_polygon(polygon, max(height, width))
    return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))["counts"].decode("ascii")


def _check_polygon(polygon: Any, side: int) -> None:
    """Refuse what is no list x, y, x, y, ... of at least three points, none farther outside than an image's side."""
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        raise DataError(
            f"polygon {shown(polygon)} is not a list of at least three points x, y, x, y, ...; correct or remove it"
        )
    for value in polygon:
        if type(value) not in (int, float) or not -side <= value <= 2 * side:
            raise DataError(
                f"polygon {shown(polygon)} has the coordinate {shown(value)}, expected finite numbers within the "
                "image; correct or remove it"
            )


def merge_rles(counts: Sequence[str], height: int, width: int) -> str:
    """Counts of the union of several masks of one size."""
    return coco_mask.merge(coco_rles(counts, height, width), intersect=False)["counts"].decode("ascii")
