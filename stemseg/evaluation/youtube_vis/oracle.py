"""AP with one thing of the results replaced by the truth: which share of AP is lost to what.

After TIDE (Bolya et al., ECCV 2020), for tracks: each of :data:`ORACLES` mends one kind of error and leaves all others
as they are. Gains don't add up, since one error may hide another.

A mask belongs to the object of its frame that it overlaps most, by at least :data:`SAME_OBJECT` in IoU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stemseg.evaluation.ground_truth import GroundTruth, GroundTruthTrack, GroundTruthVideo
from stemseg.evaluation.masks import video_ious
from stemseg.evaluation.report import MetricTable
from stemseg.evaluation.youtube_vis.average_precision import ApReport, evaluate_average_precision, match_results
from stemseg.structures.tracks import Track, VideoTracks

SAME_OBJECT = 0.1  # as in TIDE
_COLUMNS = {"AP": "ap", "AP50": "ap50", "AP75": "ap75"}
_Oracle = Callable[[VideoTracks, GroundTruthVideo, bool], list[Track]]


@dataclass(frozen=True)
class OracleReport:
    """AP as it is, and with one thing replaced by the truth.

    Attributes:
        found: as it is.
        oracles: by what is replaced, in the order of :data:`ORACLES`.
    """

    found: ApReport
    oracles: Mapping[str, ApReport]

    def tables(self) -> list[MetricTable]:
        """The tables of the results as they are; then one row per oracle, with the AP that it gains."""
        reports = {"nothing": self.found, **self.oracles}
        rows = {name: [getattr(r.overall, field) for field in _COLUMNS.values()] for name, r in reports.items()}
        columns = (*_COLUMNS, "AP gained")
        table = {name: [*row, row[0] - rows["nothing"][0]] for name, row in rows.items()}
        return [*self.found.tables(), MetricTable("true", columns, table)]

    def scalars(self) -> dict[str, float]:
        """The figures as they are, and the AP of each oracle: "AP, true order"."""
        return self.found.scalars() | {f"AP, true {name}": r.overall.ap for name, r in self.oracles.items()}


def evaluate_oracles(
    results: Sequence[VideoTracks], ground_truth: GroundTruth, found: ApReport, *, class_agnostic: bool = False
) -> OracleReport:
    """AP with each of :data:`ORACLES`; "classes" is left out where they don't count.

    Args:
        results: at most one entry per video.
        found: the report of the results as they are.
        class_agnostic: as in :func:`evaluate_average_precision`.
    """
    videos = {video.id: video for video in ground_truth.videos}
    by_id = match_results(results, ground_truth)
    reports = {}
    for name, oracle in ORACLES.items():
        if name != "classes" or not class_agnostic:
            mended = [replace(r, tracks=oracle(r, videos[key], class_agnostic)) for key, r in by_id.items()]
            reports[name] = evaluate_average_precision(mended, ground_truth, class_agnostic=class_agnostic)
    return OracleReport(found, reports)


def true_order(result: VideoTracks, video: GroundTruthVideo, class_agnostic: bool) -> list[Track]:
    """Tracks whose score is the IoU with the object, of their class, that they fit best: the headroom of scores."""
    objects, overlaps = _video_overlaps(result, video)
    categories = np.array([truth.category_id for truth in objects])
    scores = []
    for track, row in zip(result.tracks, overlaps, strict=True):
        counted = row if class_agnostic else row[categories == track.category_id]
        scores.append(float(counted.max(initial=0.0)))
    return [replace(track, score=score) for track, score in zip(result.tracks, scores, strict=True)]


def true_classes(result: VideoTracks, video: GroundTruthVideo, class_agnostic: bool) -> list[Track]:
    """Tracks of the class of the object that they fit best, whatever its class; of their own where they meet none."""
    objects, overlaps = _video_overlaps(result, video)
    return [
        replace(track, category_id=objects[int(row.argmax())].category_id) if row.max(initial=0.0) > 0 else track
        for track, row in zip(result.tracks, overlaps, strict=True)
    ]


def true_masks(result: VideoTracks, video: GroundTruthVideo, class_agnostic: bool) -> list[Track]:
    """Tracks whose masks are, frame by frame, those of the objects that they belong to, whichever these are."""
    objects = _objects(video)
    masks = [list(track.segmentations) for track in result.tracks]
    for frame in range(len(video)):
        overlaps = _frame_overlaps(result.tracks, objects, frame, video)
        for i, row in enumerate(overlaps):
            if row.max(initial=0.0) >= SAME_OBJECT:
                masks[i][frame] = objects[int(row.argmax())].segmentations[frame]
    return [replace(track, segmentations=m) for track, m in zip(result.tracks, masks, strict=True)]


def true_identities(result: VideoTracks, video: GroundTruthVideo, class_agnostic: bool) -> list[Track]:
    """One track for each object, of the best mask that belongs to it in each frame, and what is left of all tracks.

    An object's track has the score and the class of the track that gave most of its masks.
    """
    objects = _objects(video)
    left = [list(track.segmentations) for track in result.tracks]
    chosen: list[dict[int, int]] = [{} for _ in objects]  # of each object: frame -> track
    for frame in range(len(video)):
        overlaps = _frame_overlaps(result.tracks, objects, frame, video)
        for g in range(len(objects)):
            mine = np.where(overlaps.argmax(axis=1) == g, overlaps[:, g], 0.0) if len(overlaps) else np.zeros(0)
            if mine.max(initial=0.0) >= SAME_OBJECT:
                chosen[g][frame] = int(mine.argmax())
                left[chosen[g][frame]][frame] = None
    made = [_join(result.tracks, frames, len(video)) for frames in chosen if frames]
    rest = [replace(track, segmentations=m) for track, m in zip(result.tracks, left, strict=True) if any(m)]
    return [replace(track, track_id=number) for number, track in enumerate([*made, *rest], start=1)]


ORACLES: dict[str, _Oracle] = {
    "order": true_order,
    "identity": true_identities,
    "masks": true_masks,
    "classes": true_classes,
}


def _join(tracks: Sequence[Track], frames: Mapping[int, int], num_frames: int) -> Track:
    """The masks of frame -> track as one track; of the track that gives most of them, the first among equals."""
    (most, _), *_ = Counter(frames.values()).most_common()
    masks = [tracks[frames[t]].segmentations[t] if t in frames else None for t in range(num_frames)]
    return replace(tracks[most], segmentations=masks)


def _objects(video: GroundTruthVideo) -> list[GroundTruthTrack]:
    return [track for track in video.tracks if not track.is_crowd]


def _video_overlaps(result: VideoTracks, video: GroundTruthVideo) -> tuple[list[GroundTruthTrack], np.ndarray]:
    """The objects of a video, G, and the IoU of each of its D tracks with each of them, [D, G]."""
    objects = _objects(video)
    found, truths = ([track.segmentations for track in tracks] for tracks in (result.tracks, objects))
    return objects, video_ious(found, truths, video.height, video.width)


def _frame_overlaps(
    tracks: Sequence[Track], objects: Sequence[GroundTruthTrack], frame: int, video: GroundTruthVideo
) -> np.ndarray:
    """The IoU of each track's mask with each object's in a frame, [D, G]; 0 where there is no mask."""
    found, truths = ([[item.segmentations[frame]] for item in items] for items in (tracks, objects))
    return video_ious(found, truths, video.height, video.width)  # of videos of one frame
