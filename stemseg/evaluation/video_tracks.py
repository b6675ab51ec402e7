"""Metrics of tracks in memory: what training's validation, inference's ``--evaluate`` and the quickstart call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stemseg.evaluation.davis.measures import MAX_PROPOSALS, UNSUPERVISED, DavisReport, DavisVideo, evaluate_davis
from stemseg.evaluation.ground_truth import GroundTruth, ground_truth_from_annotations
from stemseg.evaluation.kitti_mots.files import mots_from_ground_truth, mots_from_tracks
from stemseg.evaluation.kitti_mots.measures import MotsPair, MotsReport, evaluate_mots
from stemseg.evaluation.masks import PaintedIdMaps
from stemseg.evaluation.report import MetricTable
from stemseg.evaluation.youtube_vis.average_precision import ApReport, evaluate_average_precision, match_results
from stemseg.structures.annotations import VideoAnnotations
from stemseg.structures.tracks import VideoTracks
from stemseg.utils.errors import DataError


@dataclass(frozen=True)
class VideoMetrics:
    """Measures of tracks on annotated videos.

    Attributes:
        average_precision: AP over videos, per class and mean: masks, tracking, classes and scores count.
        davis: J and F by the unsupervised protocol: masks and tracking count, classes and scores do not.
    """

    average_precision: ApReport
    davis: DavisReport

    def tables(self) -> list[MetricTable]:
        """The tables of both."""
        return [*self.average_precision.tables(), *self.davis.tables()]

    def scalars(self) -> dict[str, float]:
        """The headline figures of both by name: "AP", "AP50", ..., "J&F-Mean", ...; fractions."""
        return self.average_precision.scalars() | self.davis.scalars()


def evaluate_video_tracks(
    results: Sequence[VideoTracks],
    ground_truth: VideoAnnotations,
    *,
    class_agnostic: bool = False,
    workers: int = 1,
) -> VideoMetrics:
    """AP, J and F of segmented videos.

    Args:
        results: the tracks of every video of the ground truth, in any order.
        ground_truth: annotated videos in the standard form.
        class_agnostic: leave categories out of AP; for models without classes on data that has them.
        workers: processes for J and F.

    Raises:
        DataError: video missing, unknown, of other size or length; ground truth without annotations.
    """
    truth = ground_truth_from_annotations(ground_truth)
    return VideoMetrics(
        evaluate_average_precision(results, truth, class_agnostic=class_agnostic),
        evaluate_davis(painted_videos(results, truth), UNSUPERVISED, workers=workers),
    )


def evaluate_mots_tracks(results: Sequence[VideoTracks], ground_truth: VideoAnnotations) -> MotsReport:
    """sMOTSA, HOTA and their parts of segmented KITTI-MOTS videos, without the filters that result files go through.

    Args:
        results: the tracks of every video of the ground truth; category 1 is car, 2 pedestrian.
        ground_truth: annotated videos with the categories car, pedestrian and ignore.

    Raises:
        DataError: video missing, unknown, of other size or length; ground truth without annotations.
    """
    truth = ground_truth_from_annotations(ground_truth)
    by_id = _complete(results, truth)
    pairs = [
        MotsPair(sequence.name, sequence, mots_from_tracks(by_id[sequence.name]), sequence.last_frame)
        for sequence in mots_from_ground_truth(truth)
    ]
    return evaluate_mots(pairs)


def painted_videos(results: Sequence[VideoTracks], ground_truth: GroundTruth) -> list[DavisVideo]:
    """Each video as the id maps that the DAVIS writer would make of its tracks: later-ranked tracks lie in front.

    Every annotated object counts, also one that enters after the first frame. Tracks ranked after the 20th are left
    out.

    Raises:
        DataError: where a video of the ground truth has no entry in the results, or one does not fit.
    """
    by_id = _complete(results, ground_truth)
    videos = []
    for video in ground_truth.videos:
        size = (video.height, video.width, len(video))
        objects = {track.instance_id: track.segmentations for track in video.tracks if not track.is_crowd}
        ranked = by_id[video.id].tracks[:MAX_PROPOSALS]
        proposals = {rank: track.segmentations for rank, track in enumerate(ranked, start=1)}
        truth, prediction = PaintedIdMaps(*size, objects), PaintedIdMaps(*size, proposals)
        videos.append(
            DavisVideo(
                video.id, truth, prediction, object_ids=list(objects), void_id=None, image_paths=video.image_paths
            )
        )
    return videos


def _complete(results: Sequence[VideoTracks], ground_truth: GroundTruth) -> dict[str, VideoTracks]:
    by_id = match_results(results, ground_truth)
    missing = [video.id for video in ground_truth.videos if video.id not in by_id]
    if missing:
        raise DataError(
            f"the results lack {len(missing)} of the {len(ground_truth.videos)} videos of {ground_truth.source}, the "
            f"first being '{missing[0]}'; segment every video, or take the others out of the ground truth"
        )
    return by_id
