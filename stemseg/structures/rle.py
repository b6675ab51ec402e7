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
    groups = np.frombuffer(counts.encode("utf-8"), dtype=np.uint8).astype(np.int64) - 48
    foreign = np.nonzero((groups < 0) | (groups >= 64))[0]
    if len(foreign):
        raise DataError(f"RLE counts '{_shorten(counts)}' hold the character {counts[foreign[0]]!r}")
    is_last = (groups & 0x20) == 0  # of its number
    if len(groups) and not is_last[-1]:
        raise DataError(f"RLE counts '{_shorten(counts)}' end within a number")
    ends = np.nonzero(is_last)[0]
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    lengths = ends - starts + 1  # groups of each number
    shifts = 5 * (np.arange(len(groups)) - np.repeat(starts, lengths))
    runs = np.add.reduceat((groups & 0x1F) << shifts, starts) if len(ends) else groups
    runs = runs - ((groups[ends] & 0x10) > 0) * (1 << 5 * lengths)  # the last group's highest bit is the sign
    for first in (1, 2):  # undo the differences, foreground and background apart; the first run stands alone
        runs[first::2] = np.cumsum(runs[first::2])
    if (runs < 0).any():
        raise DataError(f"RLE counts '{_shorten(counts)}' hold a negative run")
    return runs.tolist()


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
