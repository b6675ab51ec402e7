"""Run-length encoded masks, the form in which masks stand in annotation and result files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from stemseg.utils.errors import DataError
from stemseg.utils.text import shorten

_SHOWN_LENGTH = 25  # characters of damaged counts in messages


def encode_rle(mask: np.ndarray) -> str:
    """Compressed RLE counts (COCO) of a binary mask [H, W]; any value other than 0 is foreground."""
    return coco_mask.encode(np.asfortranarray(mask != 0, dtype=np.uint8))["counts"].decode("ascii")


def decode_rle(counts: str, height: int, width: int) -> np.ndarray:
    """Binary mask [H, W] uint8 of compressed RLE counts.

    Raises:
        DataError: where the counts are damaged or do not add up to ``height * width`` pixels.
    """
    check_rle_size(counts, height, width)
    return coco_mask.decode(*coco_rles([counts], height, width))


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
        DataError: where the text ends within a number, holds foreign characters or makes a run negative.
    """
    groups = np.frombuffer(counts.encode("utf-8"), dtype=np.uint8).astype(np.int64) - 48
    foreign = np.nonzero((groups < 0) | (groups >= 64))[0]
    if len(foreign):
        raise DataError(f"RLE counts '{shorten(counts, _SHOWN_LENGTH)}' hold the character {counts[foreign[0]]!r}")
    is_last = (groups & 0x20) == 0  # of its number
    if len(groups) and not is_last[-1]:
        raise DataError(f"RLE counts '{shorten(counts, _SHOWN_LENGTH)}' end within a number")
    ends = np.nonzero(is_last)[0]
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    lengths = ends - starts + 1  # groups of each number
    shifts = 5 * (np.arange(len(groups)) - np.repeat(starts, lengths))
    runs = np.add.reduceat((groups & 0x1F) << shifts, starts) if len(ends) else groups
    runs = runs - ((groups[ends] & 0x10) > 0) * (1 << 5 * lengths)  # the last group's highest bit is the sign
    for first in (1, 2):  # undo the differences, foreground and background apart; the first run stands alone
        runs[first::2] = np.cumsum(runs[first::2])
    if (runs < 0).any():
        raise DataError(f"RLE counts '{shorten(counts, _SHOWN_LENGTH)}' hold a negative run")
    return runs.tolist()


def check_rle_size(counts: str, height: int, width: int) -> None:
    """Refuse counts that do not cover exactly ``height * width`` pixels (pycocotools would read past its memory)."""
    total = sum(rle_run_lengths(counts))
    if total != height * width:
        raise DataError(
            f"RLE counts '{shorten(counts, _SHOWN_LENGTH)}' cover {total} pixels, expected {height} x {width} = "
            f"{height * width} (height x width of the annotation); was the mask made for another image size?"
        )


def rle_from_coco(segmentation: Any, height: int, width: int) -> str | None:
    """Compressed RLE counts of a COCO "segmentation": polygons, uncompressed or compressed RLE; None without a pixel.

    Raises:
        DataError: where it is none of these or made for another size than ``height`` x ``width``.
    """
    if isinstance(segmentation, Mapping):
        counts = _rle_counts(segmentation, height, width)
    elif isinstance(segmentation, list):
        counts = _polygon_counts(segmentation, height, width)
    else:
        raise DataError(f"segmentation is a {type(segmentation).__name__}, expected polygons or an RLE")
    return counts if rle_area(counts, height, width) else None


def _rle_counts(rle: Mapping[str, Any], height: int, width: int) -> str:
    if "counts" not in rle or "size" not in rle:
        raise DataError(f"RLE has the keys {', '.join(rle)}, expected size and counts")
    if list(rle["size"]) != [height, width]:
        found = " x ".join(map(str, rle["size"]))
        raise DataError(f"mask is {found}, but its image is {height} x {width} (height x width)")
    counts = rle["counts"]
    if isinstance(counts, str):
        check_rle_size(counts, height, width)
        return counts
    if not isinstance(counts, list) or not all(type(run) is int and run >= 0 for run in counts):
        raise DataError("RLE counts are neither a text nor a list of whole numbers from 0")
    if sum(counts) != height * width:
        raise DataError(f"RLE counts cover {sum(counts)} pixels, expected {height} x {width} = {height * width}")
    return coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)["counts"].decode("ascii")


def _polygon_counts(polygons: list, height: int, width: int) -> str:
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise DataError(
                f"polygon {shorten(str(polygon), 40)} is not a list of at least three points x, y, x, y, ..."
            )
    if not polygons:
        raise DataError("segmentation is an empty list, expected at least one polygon")
    return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))["counts"].decode("ascii")


def merge_rles(counts: Sequence[str], height: int, width: int) -> str:
    """Counts of the union of several masks of one size."""
    return coco_mask.merge(coco_rles(counts, height, width), intersect=False)["counts"].decode("ascii")
