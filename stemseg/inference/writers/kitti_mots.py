"""Results as KITTI-MOTS wants them: ``results/<sequence>.txt``, lines "frame track class height width rle"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from stemseg.inference.result_folder import ResultWriter
from stemseg.structures.rle import coco_rles
from stemseg.structures.tracks import Track, VideoTracks
from stemseg.utils.errors import ConfigError
from stemseg.utils.files import file_name, write_text

_TRACKS_PER_CLASS = 1000  # ids are 1000 * class + number


@dataclass(frozen=True, kw_only=True)
class TrackFilter:
    """Requirements on the tracks of one class to be written.

    Attributes:
        min_area: pixels; smaller masks are dropped.
        min_box_fill: masks that fill less of their bounding box are dropped.
        min_length: tracks with fewer masks are dropped.
        max_gap_ratio: tracks that miss more than this share of the frames from their first to their last are dropped.
    """

    min_area: float
    min_box_fill: float
    min_length: int
    max_gap_ratio: float

    def apply(self, segmentations: Sequence[str | None], height: int, width: int) -> list[str | None]:
        """The masks that remain, None in the other frames."""
        masks = {frame: counts for frame, counts in enumerate(segmentations) if counts is not None}
        rles = coco_rles(list(masks.values()), height, width)
        kept = {frame for frame, good in zip(masks, self._good_masks(rles), strict=True) if good}
        if not self._is_good_track(sorted(kept)):
            kept = set()
        return [counts if frame in kept else None for frame, counts in enumerate(segmentations)]

    def _good_masks(self, rles: list[dict]) -> np.ndarray:
        if not rles:
            return np.zeros(0, dtype=bool)
        areas = coco_mask.area(rles)
        boxes = coco_mask.toBbox(rles)  # [N, 4] x, y, width, height
        fill = areas / np.maximum(boxes[:, 2] * boxes[:, 3], 1)
        return (areas >= self.min_area) & (fill >= self.min_box_fill)

    def _is_good_track(self, frames: list[int]) -> bool:
        if len(frames) < max(self.min_length, 1):
            return False
        return 1 - len(frames) / (frames[-1] - frames[0] + 1) <= self.max_gap_ratio


class KittiMotsWriter(ResultWriter):
    """Writes one text file for each sequence; a sequence without tracks gets an empty one.

    Args:
        output_dir: the files go into its ``results``.
        filters: for each class (car 1, pedestrian 2) what its tracks must have; classes not named are not filtered.
    """

    def __init__(self, output_dir: Path, filters: dict[int, TrackFilter] | None = None) -> None:
        self._results = output_dir / "results"
        self._filters = filters or {}

    def write_sequence(self, tracks: VideoTracks) -> None:
        """Write a sequence's file, sorted by frame.

        Raises:
            ConfigError: where a sequence has more tracks than the format has ids.
        """
        if len(tracks.tracks) > _TRACKS_PER_CLASS:
            raise ConfigError(
                f"sequence '{tracks.sequence_id}' has {len(tracks.tracks)} tracks, but KITTI-MOTS ids allow "
                f"{_TRACKS_PER_CLASS}; give a smaller --max_tracks"
            )
        lines = [line for track in tracks.tracks for line in self._lines(track, tracks)]
        text = "".join(f"{frame} {rest}\n" for frame, rest in sorted(lines))
        write_text(self._results / f"{file_name(tracks.sequence_id)}.txt", text)

    def _lines(self, track: Track, video: VideoTracks) -> list[tuple[int, str]]:
        segmentations, rule = track.segmentations, self._filters.get(track.category_id)
        if rule is not None:
            segmentations = rule.apply(segmentations, video.height, video.width)
        # ids of a class are 1000 x class and the 999 behind it
        track_id = _TRACKS_PER_CLASS * track.category_id + track.track_id % _TRACKS_PER_CLASS
        start = f"{track_id} {track.category_id} {video.height} {video.width}"
        return [(frame, f"{start} {counts}") for frame, counts in enumerate(segmentations) if counts is not None]
