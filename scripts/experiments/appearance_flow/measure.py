"""Measures of a run: the official AP, and figures that tell identity switches from bad masks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from stemseg.evaluation.ground_truth import GroundTruth, GroundTruthVideo
from stemseg.evaluation.masks import video_ious
from stemseg.evaluation.youtube_vis.average_precision import evaluate_average_precision
from stemseg.evaluation.youtube_vis.files import load_ground_truth, load_results
from stemseg.evaluation.youtube_vis.oracle import true_order
from stemseg.structures.tracks import VideoTracks

_FOUND = 0.5  # IoU from which a track counts as that of an object
_LOGGED = ("lovasz", "bits_per_dimension", "appearance_between", "appearance_within")


@dataclass(frozen=True)
class RunFigures:
    """One trained network on the held-out videos; the first nine are fractions; NaN: not defined.

    Attributes:
        ap, ap50: class-agnostic.
        ap_classes: mean over the classes; NaN for a network without classes.
        track_iou: spatio-temporal IoU of an object and its track, one to one, mean over objects; an identity switch
            halves it.
        mask_iou: the same in each frame by itself, so that identity does not matter: what tracking could reach.
        kept: share of the objects that one track follows from a video's first third to its last.
        switched: identity switches: share of the objects that are found in both, by different tracks.
        ap_oracle_order: class-agnostic, of the same tracks in the order of their true IoU.
        reid_accuracy, reid_accuracy_by_appearance: re-identification accuracy of look-alikes, pixel by pixel, in the
            free dimensions and in the appearance among them: see :mod:`reidentification`; NaN without any.
        mask_alignment, flow_alignment: gradient alignment, from -1 to 1: how far the gradients of the two losses to
            A agree with what separates instances: see :mod:`alignment`; NaN for a loss that does not train A.
        lovasz: the mask loss, mean over the last iterations of the training.
        bits_per_dimension, appearance_between, appearance_within: at the end of training, of the appearance embedding;
            NaN without one. The last two are standard deviations of A between and within instances.
        training_seconds: wall-clock time of the training; NaN where it went on after an interruption.
    """

    ap: float
    ap50: float
    ap_classes: float
    track_iou: float
    mask_iou: float
    kept: float
    switched: float
    ap_oracle_order: float = float("nan")
    reid_accuracy: float = float("nan")
    reid_accuracy_by_appearance: float = float("nan")
    mask_alignment: float = float("nan")
    flow_alignment: float = float("nan")
    lovasz: float = float("nan")
    bits_per_dimension: float = float("nan")
    appearance_between: float = float("nan")
    appearance_within: float = float("nan")
    training_seconds: float = float("nan")


def measure_results(results: Path, annotations: Path, *, with_classes: bool, **more: float) -> RunFigures:
    """Compare a run's ``results.json`` with the held-out videos' annotations.

    Args:
        with_classes: whether the network distinguishes classes; ``ap_classes`` is NaN where it does not.
        more: the other figures, of the training (:func:`read_training_log`) and of the embedding.
    """
    truth = load_ground_truth(annotations)
    tracks = load_results(results, truth)
    ordered = [
        replace(result, tracks=true_order(result, video, True))
        for video, result in zip(truth.videos, tracks, strict=True)
    ]
    oracle = evaluate_average_precision(ordered, truth, class_agnostic=True).overall
    agnostic = evaluate_average_precision(tracks, truth, class_agnostic=True).overall
    ap_classes = evaluate_average_precision(tracks, truth).overall.ap if with_classes else float("nan")
    figures = {"ap_oracle_order": oracle.ap, **identity_figures(tracks, truth), **more}
    return RunFigures(agnostic.ap, agnostic.ap50, ap_classes, **figures)


def identity_figures(results: Sequence[VideoTracks], truth: GroundTruth) -> dict[str, float]:
    """The fractions of :class:`RunFigures` that are about tracks; one result per ground-truth video, in their order."""
    pairs = list(zip(truth.videos, results, strict=True))
    followed = np.concatenate([_followed(video, result) for video, result in pairs])
    return {
        "track_iou": float(np.concatenate([_track_ious(*pair) for pair in pairs]).mean()),
        "mask_iou": float(np.concatenate([_frame_ious(*pair) for pair in pairs]).mean()),
        "kept": float((followed == 1).mean()),
        "switched": float((followed == -1).mean()),
    }


def read_training_log(text: str) -> dict[str, float]:
    """The figures of the training in the last line of its console output that has them."""
    figures = {}
    for name in _LOGGED:
        found = re.findall(rf"\b{name} (-?\d+\.\d+)", text)
        if found:
            figures[name] = float(found[-1])
    return figures


def _track_ious(video: GroundTruthVideo, result: VideoTracks) -> np.ndarray:
    """IoU of each object with the track assigned to it, 0 where there is none: [I]."""
    ious = _ious(video, result, slice(None))
    best = np.zeros(len(ious))
    rows, columns = linear_sum_assignment(-ious)
    best[rows] = ious[rows, columns]
    return best


def _frame_ious(video: GroundTruthVideo, result: VideoTracks) -> np.ndarray:
    """The same within each frame, for the objects visible there, all frames joined."""
    values = []
    for frame in range(len(video)):
        visible = np.array([track.segmentations[frame] is not None for track in video.tracks], dtype=bool)
        ious = _ious(video, result, slice(frame, frame + 1))[visible]
        best = np.zeros(len(ious))
        rows, columns = linear_sum_assignment(-ious)
        best[rows] = ious[rows, columns]
        values.append(best)
    return np.concatenate(values)


def _followed(video: GroundTruthVideo, result: VideoTracks) -> np.ndarray:
    """For each object that is visible in the first and the last third of a video: 1 kept, -1 switched, 0 lost."""
    third = max(1, len(video) // 3)
    parts = (slice(0, third), slice(len(video) - third, None))
    owners = [_owners(_ious(video, result, part)) for part in parts]
    visible = [[any(track.segmentations[part]) for track in video.tracks] for part in parts]
    found = (owners[0] >= 0) & (owners[1] >= 0)
    state = np.where(found, np.where(owners[0] == owners[1], 1, -1), 0)
    return state[np.logical_and(*visible)]


def _owners(ious: np.ndarray) -> np.ndarray:
    """Index of the track assigned to each object, -1 where its IoU is too low: [I, D] -> [I]."""
    owners = np.full(len(ious), -1)
    rows, columns = linear_sum_assignment(-ious)
    good = ious[rows, columns] > _FOUND
    owners[rows[good]] = columns[good]
    return owners


def _ious(video: GroundTruthVideo, result: VideoTracks, frames: slice) -> np.ndarray:
    """Spatio-temporal IoU of objects and tracks in some frames, [I, D]."""
    objects = [track.segmentations[frames] for track in video.tracks]
    tracks = [track.segmentations[frames] for track in result.tracks]
    return video_ious(objects, tracks, video.height, video.width)
