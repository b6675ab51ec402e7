"""Masks as metrics take them: areas and overlaps of run-length encoded ones, and id maps of whole frames.

Areas and intersections are computed on the runs, nothing is decoded. Id maps are palette PNGs on disk, or tracks in
memory painted frame by frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from pycocotools import mask as coco_mask

from stemseg.structures.id_maps import read_id_map
from stemseg.structures.rle import coco_rles
from stemseg.utils.errors import DataError

VOID = 255  # the id of pixels that count neither for nor against, in ground truth


def mask_areas(counts: Sequence[str], height: int, width: int) -> np.ndarray:
    """Foreground pixels of each mask, [M] int64."""
    if not counts:
        return np.zeros(0, dtype=np.int64)
    return coco_mask.area(coco_rles(counts, height, width)).astype(np.int64)


def mask_intersections(first: Sequence[str], second: Sequence[str], height: int, width: int) -> np.ndarray:
    """Pixels that each mask of ``first`` shares with each of ``second``, [A, B] int64.

    pycocotools gives no intersections, but with "crowd" set its IoU is intersection / area of the first mask, so one
    call for all pairs and a rounding give them exactly.
    """
    if not first or not second:
        return np.zeros((len(first), len(second)), dtype=np.int64)
    rles = coco_rles(first, height, width)
    shares = coco_mask.iou(rles, coco_rles(second, height, width), [True] * len(second))
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
    return ious(intersections, areas_first, areas_second)


def ious(intersections: np.ndarray, first_areas: np.ndarray, second_areas: np.ndarray) -> np.ndarray:
    """IoU [A, B] float64 from intersections [A, B] and areas [A] and [B]; 0 for two masks without a pixel."""
    unions = first_areas[:, None] + second_areas[None, :] - intersections
    return np.divide(intersections, unions, out=np.zeros(unions.shape), where=unions > 0)


class IdMapSource(Protocol):
    """The id maps of one video, read one by one: 0 is background, objects count from 1."""

    def __len__(self) -> int:
        """Number of frames."""

    def read(self, frame: int) -> np.ndarray:
        """The id map of a frame, [H, W] unsigned integers."""


@dataclass(frozen=True)
class PngIdMaps:
    """Id maps as ``folder/<frame name>.png``, palette or gray."""

    folder: Path
    frame_names: Sequence[str]

    def __len__(self) -> int:
        return len(self.frame_names)

    def read(self, frame: int) -> np.ndarray:
        """The id map of a frame, [H, W] uint8.

        Raises:
            DataError: where the file is missing, damaged or no map of ids from 0 to 255.
        """
        ids = read_id_map(
            self.folder / f"{self.frame_names[frame]}.png",
            next_step=f"each of the {len(self)} frames of sequence '{self.folder.name}' needs a PNG, also where "
            "nothing is found; did inference stop early?",
        )
        if ids.max(initial=0) > VOID:
            raise DataError(
                f"{self.folder / self.frame_names[frame]}.png holds the id {ids.max()}, expected 0 to {VOID}; was it "
                "written for another dataset?"
            )
        return ids.astype(np.uint8)


@dataclass(frozen=True)
class PaintedIdMaps:
    """Tracks in memory as id maps: each paints its masks (counts or None, one per frame) in its id, in their order."""

    height: int
    width: int
    num_frames: int
    tracks: Mapping[int, Sequence[str | None]]

    def __len__(self) -> int:
        return self.num_frames

    def read(self, frame: int) -> np.ndarray:
        """The id map of a frame, [H, W] uint32."""
        id_map = np.zeros((self.height, self.width), dtype=np.uint32)
        for track_id, segmentations in self.tracks.items():
            if counts := segmentations[frame]:
                (rle,) = coco_rles([counts], self.height, self.width)
                id_map[coco_mask.decode(rle) != 0] = track_id
        return id_map
