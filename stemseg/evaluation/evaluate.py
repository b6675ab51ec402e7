"""Evaluate a result folder as inference wrote it: what ``stemseg-evaluate`` and inference's ``--evaluate`` do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from stemseg.evaluation.charts import bar_chart, line_chart
from stemseg.evaluation.davis.files import open_davis
from stemseg.evaluation.davis.measures import DAVIS_COLUMNS, SEMI_SUPERVISED, UNSUPERVISED, DavisReport, evaluate_davis
from stemseg.evaluation.failure_cases import worst_mots_tracks, worst_objects, worst_tracks
from stemseg.evaluation.ground_truth import GroundTruth, check_categories, check_sequences
from stemseg.evaluation.kitti_mots.measures import MOTS_COLUMNS, MotsReport, evaluate_mots, open_mots
from stemseg.evaluation.report import Evaluation, Report
from stemseg.evaluation.youtube_vis.average_precision import IOU_THRESHOLDS, ApReport, evaluate_average_precision
from stemseg.evaluation.youtube_vis.files import load_ground_truth, load_results
from stemseg.evaluation.youtube_vis.oracle import evaluate_oracles
from stemseg.structures.tracks import VideoTracks
from stemseg.utils.arguments import DEFAULT_WORKERS
from stemseg.utils.errors import DataError
from stemseg.utils.text import shorten_list

_logger = logging.getLogger("stemseg.evaluation")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of an evaluation.

    Attributes:
        results: what inference wrote: its output folder, or the files of the official format in it.
        ground_truth: standard JSON, or the official file or folder.
        sequences: names, each with the number of its last frame where that is known; None: all.
        class_agnostic: AP without regard to categories.
        oracle: AP also with one thing of the results replaced by the truth.
        semi_supervised: DAVIS by that protocol instead of the unsupervised one.
        all_objects: DAVIS with the objects that enter after the first frame.
        workers: processes.
        progress: show a progress bar.
    """

    results: Path
    ground_truth: Path
    sequences: Mapping[str, int | None] | None = None
    class_agnostic: bool = False
    oracle: bool = False
    semi_supervised: bool = False
    all_objects: bool = False
    workers: int = DEFAULT_WORKERS
    progress: bool = False


def run_evaluation(kind: str, options: RunOptions) -> Evaluation:
    """Evaluate results by one of :data:`EVALUATORS`: "davis", "youtube_vis" (also OVIS and custom data), "kitti_mots".

    Raises:
        DataError: naming what is missing, unknown or does not fit, and what to do.
    """
    return EVALUATORS[kind](options)


def run_youtube_vis(options: RunOptions) -> Evaluation:
    """AP of ``results.json``."""
    truth = load_ground_truth(options.ground_truth)
    if not any(video.tracks for video in truth.videos):
        raise DataError(f"{truth.source} has no annotated object, so nothing can be measured; is it the right file?")
    results = load_results(options.results, truth)
    if not options.class_agnostic:
        check_categories(truth, results, options.results)
    if options.sequences:
        truth, results = _select(truth, results, options.sequences)
    report = evaluate_average_precision(results, truth, class_agnostic=options.class_agnostic)
    shown: Report = report
    if options.oracle:
        shown = evaluate_oracles(results, truth, report, class_agnostic=options.class_agnostic)
    return Evaluation(
        shown,
        ap_charts(report),
        lambda count: worst_tracks(results, truth, count, class_agnostic=options.class_agnostic),
    )


def run_davis(options: RunOptions) -> Evaluation:
    """J and F of ``results/<sequence>/<frame>.png``."""
    protocol = SEMI_SUPERVISED if options.semi_supervised else UNSUPERVISED
    videos = open_davis(
        options.results,
        options.ground_truth,
        protocol,
        sequences=options.sequences,
        all_objects=options.all_objects,
    )
    report = evaluate_davis(videos, protocol, workers=options.workers, progress=_bar(options))
    return Evaluation(report, davis_charts(report), lambda count: worst_objects(report, videos, count))


def run_kitti_mots(options: RunOptions) -> Evaluation:
    """sMOTSA, HOTA and their parts of ``results/<sequence>.txt``."""
    pairs = open_mots(options.results, options.ground_truth, sequences=options.sequences)
    report = evaluate_mots(pairs, workers=options.workers, progress=_bar(options))
    empty = shorten_list(report.empty_sequences)
    if len(report.empty_sequences) == len(pairs):
        raise DataError(
            f"{options.ground_truth}: the ground truth of {empty} has neither cars nor pedestrians, so nothing can be "
            "measured; is it the right folder?"
        )
    if report.empty_sequences:
        _logger.warning("%s: the ground truth of %s has neither cars nor pedestrians", options.ground_truth, empty)
    return Evaluation(report, mots_charts(report), lambda count: worst_mots_tracks(pairs, count))


EVALUATORS: dict[str, Callable[[RunOptions], Evaluation]] = {
    "davis": run_davis,
    "youtube_vis": run_youtube_vis,
    "kitti_mots": run_kitti_mots,
}


def ap_charts(report: ApReport) -> dict[str, Image.Image]:
    """AP over the IoU thresholds, and by class."""
    xs = [round(float(x), 2) for x in IOU_THRESHOLDS]
    curve = line_chart("AP over IoU thresholds", "IoU threshold", "AP", xs, report.ap_per_threshold.tolist())
    rows = {"mean": report.overall} | report.per_class
    bars = bar_chart("AP per class", ("AP", "AP50"), {name: [v.ap, v.ap50] for name, v in rows.items()})
    return {"ap_over_iou": curve, "ap_per_class": bars}


def davis_charts(report: DavisReport) -> dict[str, Image.Image]:
    """J and F by sequence."""
    shown = [DAVIS_COLUMNS.index(name) for name in ("J&F-Mean", "J-Mean", "F-Mean")]
    rows = {"mean": list(report.scalars().values())} | report.per_sequence()
    bars = {name: [values[i] for i in shown] for name, values in rows.items()}
    return {"jf_per_sequence": bar_chart("J and F per sequence", ("J&F", "J", "F"), bars)}


def mots_charts(report: MotsReport) -> dict[str, Image.Image]:
    """sMOTSA, MOTSA, MOTSP and HOTA by class."""
    columns = MOTS_COLUMNS[:4]
    rows = {name: scores.row()[: len(columns)] for name, scores in report.per_class().items()}
    return {"mots_per_class": bar_chart("KITTI-MOTS per class", columns, rows)}


def _select(
    truth: GroundTruth, results: Sequence[VideoTracks], sequences: Iterable[str]
) -> tuple[GroundTruth, list[VideoTracks]]:
    known = [video.id for video in truth.videos]
    names = set(check_sequences(known, known, sequences, truth.source))
    videos = [video for video in truth.videos if video.id in names]
    return replace(truth, videos=videos), [result for result in results if result.sequence_id in names]


def _bar(options: RunOptions) -> str | None:
    return "evaluating" if options.progress else None
