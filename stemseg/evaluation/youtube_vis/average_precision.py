"""Average precision over videos as YouTube-VIS and OVIS define it.

Detections are tracks. Two tracks' IoU sums intersections and unions over all frames; a crowd region is an ignored
ground truth that any number of detections may match, by the same IoU (unlike COCO's); area ranges are over the mean
area of the frames where a track is visible. All else is COCO's protocol, for which pycocotools' ``COCOeval`` is used.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from stemseg.evaluation.ground_truth import GroundTruth, GroundTruthTrack, GroundTruthVideo
from stemseg.evaluation.masks import mask_areas, video_ious
from stemseg.evaluation.report import MetricTable
from stemseg.structures.tracks import Track, VideoTracks
from stemseg.utils.errors import DataError
from stemseg.utils.text import shorten_list

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
# upper limits in pixels of small and medium objects: larger than COCO's, since the areas are of whole-frame objects
_SMALL, _MEDIUM, _LARGE = 128.0**2, 256.0**2, 1e5**2
_AREAS = {"all": (0.0, _LARGE), "small": (0.0, _SMALL), "medium": (_SMALL, _MEDIUM), "large": (_MEDIUM, _LARGE)}
_MAX_DETECTIONS = (1, 10, 100)  # per video, and per class unless class-agnostic
_ANY_CATEGORY = -1  # stands for every category in a class-agnostic comparison


@dataclass(frozen=True)
class ApValues:
    """Average precision (AP) and recall (AR), fractions from 0 to 1; NaN where there is no ground truth.

    ``ap``: mean over IoU 0.5 to 0.95; ``ap50``, ``ap75``: at one IoU; ``ap_small``, ``ap_medium``, ``ap_large``: by
    area (limits 128^2 and 256^2 pixels); ``ar1``, ``ar10``, ``ar100``: recall with that many detections per video.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar1: float
    ar10: float
    ar100: float

    def row(self) -> list[float]:
        """The figures in the order of :data:`AP_COLUMNS`."""
        return [getattr(self, field) for field in _AP_FIELDS.values()]


_AP_FIELDS = {
    "AP": "ap", "AP50": "ap50", "AP75": "ap75", "AP_S": "ap_small", "AP_M": "ap_medium", "AP_L": "ap_large",
    "AR1": "ar1", "AR10": "ar10", "AR100": "ar100",
}  # fmt: skip
AP_COLUMNS = tuple(_AP_FIELDS)


@dataclass(frozen=True)
class ApReport:
    """AP over all classes and of each.

    Attributes:
        overall: mean over the classes that have ground truth.
        per_class: by class name, every class of the ground truth file.
        ap_per_threshold: AP at each of :data:`IOU_THRESHOLDS`, [10].
    """

    overall: ApValues
    per_class: dict[str, ApValues]
    ap_per_threshold: np.ndarray

    def tables(self) -> list[MetricTable]:
        """The mean, and one row per class."""
        rows = {"mean": self.overall.row()}
        return [MetricTable("class", AP_COLUMNS, rows | {name: v.row() for name, v in self.per_class.items()})]

    def scalars(self) -> dict[str, float]:
        """The mean's figures by their usual names."""
        return dict(zip(AP_COLUMNS, self.overall.row(), strict=True))


def evaluate_average_precision(
    results: Sequence[VideoTracks], ground_truth: GroundTruth, *, class_agnostic: bool = False
) -> ApReport:
    """AP of tracks.

    Args:
        results: at most one entry per video; a video without an entry has no detections.
        class_agnostic: compare without regard to categories, as if all were one.

    Raises:
        DataError: where a result's video is unknown or its size or length differs from the ground truth's.
    """
    by_id = match_results(results, ground_truth)
    _warn_unknown_categories(results, ground_truth, class_agnostic)
    videos = sorted(ground_truth.videos, key=_official_order)
    categories = [_ANY_CATEGORY] if class_agnostic else sorted(ground_truth.category_labels)
    evaluator = _VideoEval([(video, by_id.get(video.id)) for video in videos], categories)
    with contextlib.redirect_stdout(io.StringIO()):  # COCOeval reports its progress by print
        evaluator.evaluate()
        evaluator.accumulate()
    return _report(evaluator.eval["precision"], evaluator.eval["recall"], ground_truth, class_agnostic)


def match_results(results: Sequence[VideoTracks], ground_truth: GroundTruth) -> dict[str, VideoTracks]:
    """Results by video id, checked against the ground truth.

    Raises:
        DataError: unknown or repeated video, other image size, other number of frames.
    """
    videos = {video.id: video for video in ground_truth.videos}
    by_id: dict[str, VideoTracks] = {}
    for result in results:
        key = str(result.sequence_id)
        if key not in videos:
            raise DataError(
                f"the results hold video '{key}', which {ground_truth.source} does not; it has "
                f"{shorten_list(videos)}. Were the results made for another split or dataset?"
            )
        if key in by_id:
            raise DataError(f"the results hold video '{key}' twice; keep one")
        _check_geometry(result, videos[key], ground_truth)
        by_id[key] = result
    return by_id


def _check_geometry(result: VideoTracks, video: GroundTruthVideo, ground_truth: GroundTruth) -> None:
    where = f"results of video '{video.id}'"
    if (result.height, result.width) != (video.height, video.width):
        raise DataError(
            f"{where}: masks are {result.height} x {result.width} (height x width), expected {video.height} x "
            f"{video.width} as in {ground_truth.source}; write results at the video's original size"
        )
    for track in result.tracks:
        if len(track.segmentations) != len(video):
            raise DataError(
                f"{where}: track {track.track_id} has {len(track.segmentations)} segmentations, expected one (or null) "
                f"for each of the {len(video)} frames in {ground_truth.source}"
            )


def _warn_unknown_categories(results: Sequence[VideoTracks], ground_truth: GroundTruth, class_agnostic: bool) -> None:
    used = {track.category_id for result in results for track in result.tracks}
    unknown = sorted(used - set(ground_truth.category_labels))
    if unknown and not class_agnostic:
        known = shorten_list(sorted(ground_truth.category_labels))
        warnings.warn(
            f"tracks of categories {unknown} are left out: {ground_truth.source} knows the categories {known}. "
            "Compare class-agnostically if the model has no classes",
            stacklevel=3,
        )


class _VideoEval(COCOeval):
    """``COCOeval`` in which an image is a video: own IoU, own areas, filled from memory instead of from files."""

    def __init__(self, pairs: Sequence[tuple[GroundTruthVideo, VideoTracks | None]], categories: Sequence[int]) -> None:
        super().__init__(iouType="segm")
        self._pairs = pairs
        self._class_agnostic = list(categories) == [_ANY_CATEGORY]
        self.params.imgIds = list(range(len(pairs)))
        self.params.catIds = list(categories)
        self.params.iouThrs = IOU_THRESHOLDS
        self.params.maxDets = list(_MAX_DETECTIONS)
        self.params.areaRng = [list(limits) for limits in _AREAS.values()]
        self.params.areaRngLbl = list(_AREAS)

    def _prepare(self) -> None:
        self._gts, self._dts = defaultdict(list), defaultdict(list)
        self.evalImgs: dict[Any, list] = defaultdict(list)
        self.eval: dict[str, Any] = {}
        ids = itertools.count(1)  # COCOeval takes an id of 0 for "no match"
        for index, (video, result) in enumerate(self._pairs):
            for track in video.tracks:
                entry = self._entry(next(ids), track, video, track.area)
                entry["iscrowd"] = entry["ignore"] = int(track.is_crowd)
                self._gts[index, self._category(track)].append(entry)
            for found in result.tracks if result else ():
                entry = self._entry(next(ids), found, video, None)
                self._dts[index, self._category(found)].append(entry | {"score": found.score})

    def _category(self, track: Track | GroundTruthTrack) -> int:
        return _ANY_CATEGORY if self._class_agnostic else track.category_id

    @staticmethod
    def _entry(number: int, track: Track | GroundTruthTrack, video: GroundTruthVideo, area: float | None) -> dict:
        if area is None:
            area = _mean_area(track.segmentations, video.height, video.width)
        return {"id": number, "segmentations": track.segmentations, "area": area}

    def computeIoU(self, imgId: int, catId: int) -> np.ndarray | list:
        """IoU of each detection, best score first, with each ground truth, [D, G]; [] where there are neither."""
        truths, detections = self._gts[imgId, catId], self._dts[imgId, catId]
        if not truths and not detections:
            return []
        order = np.argsort([-d["score"] for d in detections], kind="mergesort")[: self.params.maxDets[-1]]
        video = self._pairs[imgId][0]
        return video_ious(
            [detections[i]["segmentations"] for i in order], [t["segmentations"] for t in truths],
            video.height, video.width,
        )  # fmt: skip


def _mean_area(segmentations: Sequence[str | None], height: int, width: int) -> float:
    areas = mask_areas([counts for counts in segmentations if counts], height, width)
    return float(areas[areas > 0].mean()) if areas.any() else 0.0


def _official_order(video: GroundTruthVideo) -> tuple[int, int | str]:
    # equal scores are ranked by video: numbers by value, as in the official files, then names
    return (0, int(video.id)) if video.id.isdigit() else (1, video.id)


def _report(precision: np.ndarray, recall: np.ndarray, ground_truth: GroundTruth, class_agnostic: bool) -> ApReport:
    # precision [thresholds, recalls, K, areas, detections], recall [thresholds, K, areas, detections]; -1: undefined
    labels = ground_truth.category_labels
    names = [] if class_agnostic else _unique_names({k: labels[k] for k in sorted(labels)})
    per_class = {name: _values(precision[:, :, k : k + 1], recall[:, k : k + 1]) for k, name in enumerate(names)}
    thresholds = np.array([_mean(precision[i, :, :, 0, -1]) for i in range(len(IOU_THRESHOLDS))])
    return ApReport(_values(precision, recall), per_class, thresholds)


def _values(precision: np.ndarray, recall: np.ndarray) -> ApValues:
    area = {name: _mean(precision[:, :, :, i, -1]) for i, name in enumerate(_AREAS)}
    return ApValues(
        ap=area["all"],
        ap50=_mean(precision[0, :, :, 0, -1]),
        ap75=_mean(precision[5, :, :, 0, -1]),
        ap_small=area["small"],
        ap_medium=area["medium"],
        ap_large=area["large"],
        ar1=_mean(recall[:, :, 0, 0]),
        ar10=_mean(recall[:, :, 0, 1]),
        ar100=_mean(recall[:, :, 0, 2]),
    )


def _mean(values: np.ndarray) -> float:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else float("nan")


def _unique_names(labels: dict[int, str]) -> list[str]:
    names = list(labels.values())
    return [name if names.count(name) == 1 else f"{name} ({key})" for key, name in labels.items()]
