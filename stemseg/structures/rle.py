"""Run-length encoded masks, the form in which masks stand in annotation and result files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from stemseg.utils.errors import DataError


def encode_rle(mask: np.ndarray) -> str:
    """Compressed RLE counts (COCO) of a binary mask [H, W]; any value other than 0 is foreground."""
    return coco_mask.encode(np.asfortranarray(mask != 0, dtype=np.uint8))["counts"].decode("ascii")


def decode_rle(counts: str, height: int, width: int) -> np.ndarray:
    """Binary mask [H, W] uint8 of compressed RLE counts.

    Raises:
        DataError: where the counts are damaged or do not add up to ``height * width`` pixels.
    """
    check_rle_size(counts, height, width)
    return coco_mask.decode({"size": [height, width], "counts": counts.encode("ascii")})


def rle_area(counts: str, height: int, width: int) -> int:
    """Number of foreground pixels, without decoding."""
    return int(coco_mask.area({"size": [height, width], "counts": counts.encode("ascii")}))


def rle_run_lengths(counts: str) -> list[int]:
    """The run lengths behind compressed counts, background first.

    COCO packs each run in 5-bit groups, least significant first, 6th bit = "more follows"; from the fourth run
    on it stores the difference to the run two before.

    Raises:
        DataError: where the text ends within a number, holds foreign characters or makes a run negative.
    """
    runs: list[int] = []
    position, length = 0, len(counts)
    while position < length:
        value, shift, more = 0, 0, True
        while more:
            if position >= length:
                raise DataError(f"RLE counts '{_shorten(counts)}' end within a number")
            group = ord(counts[position]) - 48
            if not 0 <= group < 64:
                raise DataError(f"RLE counts '{_shorten(counts)}' hold the character {counts[position]!r}")
            value |= (group & 0x1F) << shift
            more = bool(group & 0x20)
            position += 1
            shift += 5
            if not more and group & 0x10:
                value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        if runs[-1] < 0:
            raise DataError(f"RLE counts '{_shorten(counts)}' hold a negative run")
    return runs


def check_rle_size(counts: str, height: int, width: int) -> None:
    """Refuse counts that do not cover exactly ``height * width`` pixels (pycocotools would read past its memory)."""
    total = sum(rle_run_lengths(counts))
    if total != height * width:
        raise DataError(
            f"RLE counts '{_shorten(counts)}' cover {total} pixels, expected {height} x {width} = {height * width} "
            "(height x width of the annotation); was the mask made for another image size?"
        )


def merge_rles(counts: Sequence[str], height: int, width: int) -> str:
    """Counts of the union of several masks of one size."""
    rles = [{"size": [height, width], "counts": c.encode("ascii")} for c in counts]
    return coco_mask.merge(rles, intersect=False)["counts"].decode("ascii")


def _shorten(counts: str) -> str:
    return counts if len(counts) <= 24 else counts[:24] + "..."
