"""Tracks as people read them: label, score, and in which frames an object is, how large and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from stemseg.structures.rle import coco_rles
from stemseg.structures.tracks import VideoTracks

UNNAMED = "object"  # the label of every track of a class-agnostic model


@dataclass(frozen=True)
class TrackSummary:
    """One object through a video, without its masks.

    Attributes:
        id: its number, from 1, as in results and pictures.
        label: name of its class; "object" where the model has none.
        score: in [0, 1]: pixels in all frames, relative to the track with most.
        frames: the frames that show it, ascending.
        areas: its pixels in each of these frames.
        boxes: [len(frames), 4] float, the rectangle around it in each of them: x, y, width, height in pixels.
    """

    id: int
    label: str
    score: float
    frames: list[int]
    areas: list[int]
    boxes: np.ndarray

    @property
    def stretches(self) -> list[tuple[int, int]]:
        """First and last frame of each stretch without a gap."""
        breaks = [i for i in range(1, len(self.frames)) if self.frames[i] != self.frames[i - 1] + 1]
        starts, ends = [0, *breaks], [*breaks, len(self.frames)]
        return [(self.frames[a], self.frames[b - 1]) for a, b in zip(starts, ends, strict=True)]


def summarize_tracks(video: VideoTracks, category_names: Mapping[int, str]) -> list[TrackSummary]:
    """The tracks of a video in their order; categories without a name are called by their number."""
    return [
        _summarize(track.track_id, label_of(track.category_id, category_names), track.score, track.segmentations, video)
        for track in video.tracks
    ]


def label_of(category_id: int, category_names: Mapping[int, str]) -> str:
    """The name of a category; "object" for a class-agnostic model's."""
    return category_names.get(category_id, f"class {category_id}") if category_names else UNNAMED


def count_labels(tracks: Iterable[TrackSummary]) -> str:
    """The number of objects of each label: "3 objects", or "2 person, 1 dog"."""
    counts = Counter(track.label for track in tracks)
    if set(counts) <= {UNNAMED}:
        total = counts[UNNAMED]
        return f"{total} object" if total == 1 else f"{total or 'no'} objects"
    return ", ".join(f"{number} {label}" for label, number in counts.most_common())


def _summarize(
    number: int, label: str, score: float, segmentations: Sequence[str | None], video: VideoTracks
) -> TrackSummary:
    frames = [frame for frame, counts in enumerate(segmentations) if counts is not None]
    rles = coco_rles([counts for counts in segmentations if counts is not None], video.height, video.width)
    areas = [int(area) for area in coco_mask.area(rles)] if rles else []
    boxes = coco_mask.toBbox(rles) if rles else np.zeros((0, 4))
    return TrackSummary(number, label, score, frames, areas, boxes)
