"""Find the objects that were segmented worst, for each of the three evaluations."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stemseg.evaluation.davis.measures import DavisReport, DavisVideo
from stemseg.evaluation.ground_truth import GroundTruth, GroundTruthTrack, GroundTruthVideo
from stemseg.evaluation.kitti_mots.clear_mots import MATCH_IOU
from stemseg.evaluation.kitti_mots.files import MOTS_CLASSES
from stemseg.evaluation.kitti_mots.measures import LoadedPair, MotsPair, class_frames
from stemseg.evaluation.masks import mask_areas, video_ious
from stemseg.evaluation.report import WorstCase
from stemseg.structures.rle import decode_rle
from stemseg.structures.tracks import Track, VideoTracks


class _Miss(NamedTuple):
    """An annotated track, and the result of its class that fits it best, if any does."""

    iou: float
    video: GroundTruthVideo
    truth: GroundTruthTrack
    found: Track | None


def worst_tracks(
    results: Sequence[VideoTracks], ground_truth: GroundTruth, count: int, *, class_agnostic: bool = False
) -> list[WorstCase]:
    """The annotated tracks that no result of their class overlaps well, each in the frame with most wrong pixels."""
    by_id = {str(result.sequence_id): result for result in results}
    misses = [
        miss
        for video in ground_truth.videos
        for miss in _misses(video, by_id[video.id].tracks if video.id in by_id else [], class_agnostic)
    ]
    worst = heapq.nsmallest(count, misses, key=lambda miss: miss.iou)
    return [_track_case(miss, by_id.get(miss.video.id), ground_truth.category_labels) for miss in worst]


def worst_objects(report: DavisReport, videos: Sequence[DavisVideo], count: int) -> list[WorstCase]:
    """The objects of lowest mean J&F, each in the frame where it is lowest."""
    by_name = {video.name: video for video in videos}
    worst = heapq.nsmallest(count, report.objects, key=lambda scores: scores.row()[0])
    cases = []
    for scores in worst:
        video = by_name[scores.sequence]
        frame = scores.frames[int(np.argmin(scores.region + scores.boundary))]
        prediction = video.prediction.read(frame)
        cases.append(
            WorstCase(
                sequence=video.name,
                image_path=video.image_paths[frame],
                score=scores.row()[0],
                measure="J&F",
                title=f"object {scores.object_id}, frame {frame}",
                truth=video.truth.read(frame) == scores.object_id,
                results={int(i): prediction == i for i in np.unique(prediction) if i},
                captions={scores.prediction_id: "compared"},
            )
        )
    return cases


def worst_mots_tracks(pairs: Sequence[MotsPair], count: int) -> list[WorstCase]:
    """The objects matched in the smallest share of their frames, the longest first among equals."""
    found = [
        (share, -len(missed), pair.name, class_id, object_id, missed)
        for pair in pairs
        for class_id in MOTS_CLASSES
        for object_id, (share, missed) in _shares(pair.load(), class_id).items()
    ]
    by_name = {pair.name: pair for pair in pairs}
    return [
        _mots_case(by_name[name], class_id, object_id, share, missed)
        for share, _, name, class_id, object_id, missed in heapq.nsmallest(count, found)
        if missed
    ]


def _misses(video: GroundTruthVideo, tracks: Sequence[Track], class_agnostic: bool) -> list[_Miss]:
    truths = [track for track in video.tracks if not track.is_crowd]
    ious = video_ious([t.segmentations for t in truths], [t.segmentations for t in tracks], video.height, video.width)
    misses = []
    for truth, row in zip(truths, ious, strict=True):
        fits = [(iou, i) for i, iou in enumerate(row) if class_agnostic or tracks[i].category_id == truth.category_id]
        best, index = max(fits, default=(0.0, -1))
        misses.append(_Miss(float(best), video, truth, tracks[index] if best > 0 else None))
    return misses


def _track_case(miss: _Miss, result: VideoTracks | None, labels: dict[int, str]) -> WorstCase:
    video, truth = miss.video, miss.truth
    size = (video.height, video.width)
    frame = _worst_frame(truth.segmentations, miss.found.segmentations if miss.found else None, size)
    tracks = [track for track in (result.tracks if result else []) if track.segmentations[frame]]
    return WorstCase(
        sequence=video.id,
        image_path=video.image_paths[frame],
        score=miss.iou,
        measure="best IoU",
        title=f"{labels.get(truth.category_id, truth.category_id)}, frame {frame}",
        truth=_decode(truth.segmentations[frame], size),
        results={track.track_id: _decode(track.segmentations[frame], size) for track in tracks},
        captions={t.track_id: f"{labels.get(t.category_id, t.category_id)} {t.score:.2f}" for t in tracks},
    )


def _worst_frame(truth: Sequence[str | None], found: Sequence[str | None] | None, size: tuple[int, int]) -> int:
    """The frame with most pixels in only one of the two tracks."""
    wrong = []
    for t, counts in enumerate(truth):
        pair = [masks for masks in (counts, found[t] if found else None) if masks]
        areas = mask_areas(pair, *size).sum()
        shared = np.logical_and(*(_decode(c, size) for c in pair)).sum() if len(pair) == 2 else 0
        wrong.append(int(areas - 2 * shared))
    return int(np.argmax(wrong))


def _shares(pair: LoadedPair, class_id: int) -> dict[int, tuple[float, list[int]]]:
    """For each object the share of its frames in which it is matched, and the frames in which it is not."""
    present: dict[int, int] = {}
    missed: dict[int, list[int]] = {}
    for t, frame in enumerate(class_frames(pair, class_id)):
        matched = frame.ious.max(axis=1, initial=0.0) > MATCH_IOU
        for object_id, is_matched in zip(frame.truth_ids.tolist(), matched, strict=True):
            present[object_id] = present.get(object_id, 0) + 1
            missed.setdefault(object_id, [])
            if not is_matched:
                missed[object_id].append(t)
    return {i: (1 - len(missed[i]) / number, missed[i]) for i, number in present.items()}


def _mots_case(pair: MotsPair, class_id: int, object_id: int, share: float, missed: Sequence[int]) -> WorstCase:
    loaded = pair.load()
    size = (loaded.truth.height, loaded.truth.width)
    masks = {t: item.counts for t in missed for item in loaded.truth.frames.get(t, []) if item.track_id == object_id}
    frame = max(masks, key=lambda t: mask_areas([masks[t]], *size)[0])
    results = [item for item in loaded.result.frames.get(frame, []) if item.class_id == class_id]
    return WorstCase(
        sequence=pair.name,
        image_path=f"{pair.name}/{frame:06d}.png",
        score=share,
        measure="matched share",
        title=f"{MOTS_CLASSES[class_id]} {object_id}, frame {frame}",
        truth=_decode(masks[frame], size),
        results={item.track_id: _decode(item.counts, size) for item in results},
        captions={item.track_id: str(item.track_id) for item in results},
    )


def _decode(counts: str | None, size: tuple[int, int]) -> np.ndarray:
    return decode_rle(counts, *size) if counts else np.zeros(size, dtype=np.uint8)
