"""Areas and intersections of run-length encoded masks, computed on the runs: nothing is decoded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask


def mask_areas(counts: Sequence[str], height: int, width: int) -> np.ndarray:
    """Foreground pixels of each mask, [M] int64."""
    if not counts:
        return np.zeros(0, dtype=np.int64)
    return coco_mask.area(_rles(counts, height, width)).astype(np.int64)


def mask_intersections(first: Sequence[str], second: Sequence[str], height: int, width: int) -> np.ndarray:
    """Pixels that each mask of ``first`` shares with each of ``second``, [A, B] int64.

    pycocotools gives no intersections, but with "crowd" set its IoU is intersection / area of the first mask, so one
    call for all pairs and a rounding give them exactly.
    """
    if not first or not second:
        return np.zeros((len(first), len(second)), dtype=np.int64)
    rles = _rles(first, height, width)
    shares = coco_mask.iou(rles, _rles(second, height, width), [True] * len(second))
    return np.rint(shares * coco_mask.area(rles)[:, None]).astype(np.int64)


def video_ious(
    first: Sequence[Sequence[str | None]], second: Sequence[Sequence[str | None]], height: int, width: int
) -> np.ndarray:
    """Spatio-temporal IoU of each track of ``first`` with each of ``second``, [A, B] float64.

    A track is one mask or None per frame; intersections and unions are summed over the frames before they are divided.
    The IoU of two tracks without a pixel is 0.
    """
    intersections = np.zeros((len(first), len(second)), dtype=np.int64)
    if not intersections.size:
        return intersections.astype(np.float64)
    for frame_first, frame_second in zip(zip(*first, strict=True), zip(*second, strict=True), strict=True):
        rows = [i for i, counts in enumerate(frame_first) if counts]
        columns = [j for j, counts in enumerate(frame_second) if counts]
        intersections[np.ix_(rows, columns)] += mask_intersections(
            [frame_first[i] for i in rows], [frame_second[j] for j in columns], height, width
        )
    areas_first, areas_second = (
        np.array([mask_areas([m for m in track if m], height, width).sum() for track in tracks], dtype=np.int64)
        for tracks in (first, second)
    )
    unions = areas_first[:, None] + areas_second[None, :] - intersections
    return np.divide(intersections, unions, out=np.zeros(unions.shape), where=unions > 0)


def _rles(counts: Sequence[str], height: int, width: int) -> list[dict]:
    return [{"size": [height, width], "counts": c.encode("ascii")} for c in counts]
