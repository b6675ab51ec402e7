"""DAVIS 2017 J and F of one video and of a set, by the unsupervised and the semi-supervised protocol.

Unsupervised: every frame counts, void pixels (255) are left out, and the proposals (at most 20) are matched to the
objects by the assignment of greatest mean J&F. Semi-supervised: the first and last frame are left out, void pixels are
background, and ids match as they are. In both, the objects are those of the first frame's ids; an object without a
prediction is compared with an empty mask. Both masks empty: J = F = 1; one empty: 0.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from stemseg.evaluation.davis.region_boundary import pair_scores
from stemseg.evaluation.masks import VOID, IdMapSource
from stemseg.evaluation.report import MetricTable
from stemseg.utils.errors import DataError
from stemseg.utils.parallel import run_jobs
from stemseg.utils.text import shorten_list

MAX_PROPOSALS = 20
DAVIS_COLUMNS = ("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
_DECAY_BINS = 4


@dataclass(frozen=True)
class DavisProtocol:
    """The frames and pixels that count, and how objects are met: :data:`UNSUPERVISED`, :data:`SEMI_SUPERVISED`.

    Attributes:
        skip_first_and_last: leave both out.
        use_void: leave void pixels out; else they are background.
        match_proposals: find the best assignment; else predicted id i belongs to object i.
    """

    name: str
    skip_first_and_last: bool
    use_void: bool
    match_proposals: bool


UNSUPERVISED = DavisProtocol("unsupervised", skip_first_and_last=False, use_void=True, match_proposals=True)
SEMI_SUPERVISED = DavisProtocol("semi-supervised", skip_first_and_last=True, use_void=False, match_proposals=False)


@dataclass(frozen=True)
class DavisVideo:
    """One video to compare.

    Attributes:
        name: of the sequence.
        truth, prediction: id maps.
        object_ids: the ids in ``truth`` that are objects; None: 1 to the highest id of the first frame, which is the
            official rule.
        void_id: the id of void pixels in ``truth``; None: it has none.
        image_paths: of each frame, relative; only for pictures.
    """

    name: str
    truth: IdMapSource
    prediction: IdMapSource
    object_ids: Sequence[int] | None = None
    void_id: int | None = VOID
    image_paths: Sequence[str] = ()


@dataclass(frozen=True)
class ObjectScores:
    """J and F of one object in every frame that counts, both [T].

    ``frames`` are these frames' numbers in the video, ``prediction_id`` is the id that the object was compared with.
    """

    sequence: str
    object_id: int
    prediction_id: int
    frames: range
    region: np.ndarray
    boundary: np.ndarray

    @property
    def name(self) -> str:
        """Sequence and object, as the official tool writes them."""
        return f"{self.sequence}_{self.object_id}"

    def row(self) -> list[float]:
        """The figures in the order of :data:`DAVIS_COLUMNS`."""
        region, boundary = statistics(self.region), statistics(self.boundary)
        return [(region[0] + boundary[0]) / 2, *region, *boundary]


@dataclass(frozen=True)
class DavisReport:
    """J and F of every object of every video; the mean is over objects, as in the official tool."""

    objects: list[ObjectScores]

    def tables(self) -> list[MetricTable]:
        """The mean over all objects and each sequence's; then one row per object."""
        per_object = {scores.name: scores.row() for scores in self.objects}
        sequences = {"mean": self._mean(self.objects)} | self.per_sequence()
        return [
            MetricTable("sequence", DAVIS_COLUMNS, sequences),
            MetricTable("object", DAVIS_COLUMNS, per_object),
        ]

    def per_sequence(self) -> dict[str, list[float]]:
        """Mean over the objects of each sequence, by its name, in the order of :data:`DAVIS_COLUMNS`."""
        names = dict.fromkeys(scores.sequence for scores in self.objects)
        return {name: self._mean([s for s in self.objects if s.sequence == name]) for name in names}

    def scalars(self) -> dict[str, float]:
        """The mean's figures by name."""
        return dict(zip(DAVIS_COLUMNS, self._mean(self.objects), strict=True))

    @staticmethod
    def _mean(objects: Sequence[ObjectScores]) -> list[float]:
        if not objects:
            return [float("nan")] * len(DAVIS_COLUMNS)
        return np.mean([scores.row() for scores in objects], axis=0).tolist()


def evaluate_davis(
    videos: Sequence[DavisVideo],
    protocol: DavisProtocol = UNSUPERVISED,
    *,
    workers: int = 1,
    progress: str | None = None,
) -> DavisReport:
    """J and F of all videos.

    Args:
        workers: processes that share the videos.
        progress: text of a progress bar; None: show none.

    Raises:
        DataError: naming the video and frame: missing or damaged PNG, wrong size, more ids than the protocol allows.
    """
    score = functools.partial(score_video, protocol=protocol)
    sizes = [len(video.truth) for video in videos]
    per_video = run_jobs(score, videos, sizes=sizes, workers=workers, progress=progress)
    report = DavisReport([scores for video in per_video for scores in video])
    if not report.objects:
        raise DataError(
            f"the ground truth of {shorten_list(video.name for video in videos)} has no object that counts, so nothing "
            "can be measured; is it the right one? --all_objects counts objects that enter after the first frame"
        )
    return report


def score_video(video: DavisVideo, protocol: DavisProtocol) -> list[ObjectScores]:
    """J and F of each object of one video, in the order of the objects.

    Raises:
        DataError: see :func:`evaluate_davis`.
    """
    frames = _frames_that_count(video, protocol)
    ids = _first_frame_ids(video) if video.object_ids is None else list(video.object_ids)
    limit = MAX_PROPOSALS if protocol.match_proposals else max(ids, default=0)
    region = np.zeros((len(frames), max(limit, len(ids)), len(ids)))  # [T, P, G]
    boundary = np.zeros_like(region)
    num_proposals = 0
    for i, frame in enumerate(frames):
        prediction, truth, highest = _read_pair(video, frame, ids, protocol)
        _check_ids(highest, limit, video, frame, protocol)
        num_proposals = max(num_proposals, highest)
        # one proposal more than there are: its row, of an empty mask, is that of all further ones
        scores = pair_scores(prediction, truth, highest + 1, len(ids))
        rows = np.minimum(np.arange(region.shape[1]), highest)
        region[i], boundary[i] = scores.region[rows], scores.boundary[rows]
    if protocol.match_proposals:
        chosen = _assign(region, boundary, max(num_proposals, len(ids)))
    else:
        chosen = np.array(ids, dtype=int) - 1
    return [
        ObjectScores(video.name, object_id, int(p) + 1, frames, region[:, p, i], boundary[:, p, i])
        for i, (object_id, p) in enumerate(zip(ids, chosen, strict=True))
    ]


def statistics(per_frame: np.ndarray) -> tuple[float, float, float]:
    """Mean, recall (share of frames above 0.5) and decay (first quarter's mean minus the last's) of one measure, [T].

    The quarters share their border frames, as in the official code; which, however, keeps the borders in 8 bits and
    goes wrong in sequences of more than 256 frames, where this does not.
    """
    borders = np.round(np.linspace(1, len(per_frame), _DECAY_BINS + 1) + 1e-10).astype(int) - 1
    first, last = per_frame[: borders[1] + 1], per_frame[borders[-2] : borders[-1] + 1]
    return float(per_frame.mean()), float((per_frame > 0.5).mean()), float(first.mean() - last.mean())


def _frames_that_count(video: DavisVideo, protocol: DavisProtocol) -> range:
    length = len(video.truth)
    frames = range(1, length - 1) if protocol.skip_first_and_last else range(length)
    if not frames:
        raise DataError(
            f"sequence '{video.name}' has {length} frames, expected at least 3: the {protocol.name} protocol leaves "
            "out the first and the last"
        )
    return frames


def _first_frame_ids(video: DavisVideo) -> list[int]:
    present = np.unique(video.truth.read(0)).tolist()
    highest = max((i for i in present if i != video.void_id), default=0)
    if not highest:
        raise DataError(
            f"sequence '{video.name}': the first frame of its ground truth has no object: its pixels are {present}, "
            "expected object numbers from 1 to 254. The ground truth of DAVIS 2016 has 0 and 255 alone: take that "
            "of DAVIS 2017; --all_objects counts objects that enter later; --sequences leaves the sequence out"
        )
    return list(range(1, highest + 1))


def _read_pair(
    video: DavisVideo, frame: int, object_ids: Sequence[int], protocol: DavisProtocol
) -> tuple[np.ndarray, np.ndarray, int]:
    """Prediction and truth of a frame, and the highest id predicted anywhere.

    The truth's objects are renumbered from 1 in the order of ``object_ids``, all else is 0; void pixels are 0 in the
    prediction too where the protocol leaves them out.
    """
    truth, prediction = video.truth.read(frame), video.prediction.read(frame)
    if truth.shape != prediction.shape:
        raise DataError(
            f"sequence '{video.name}', frame {frame}: the predicted id map is {prediction.shape[0]} x "
            f"{prediction.shape[1]} (height x width), expected {truth.shape[0]} x {truth.shape[1]} as in the ground "
            "truth"
        )
    highest = int(prediction.max(initial=0))
    if video.void_id is not None and protocol.use_void:
        prediction = prediction * (truth != video.void_id)
    return prediction, _renumber(truth, object_ids), highest


def _renumber(id_map: np.ndarray, object_ids: Sequence[int]) -> np.ndarray:
    """Object i of ``object_ids`` as i + 1, every other id as 0."""
    if list(object_ids) == list(range(1, len(object_ids) + 1)):  # the usual case, without a look-up per pixel
        return id_map * (id_map <= len(object_ids))
    numbers = np.zeros(1 + max(int(id_map.max(initial=0)), *object_ids, 0), dtype=np.uint16)
    numbers[list(object_ids)] = np.arange(1, len(object_ids) + 1)
    return numbers[id_map]


def _check_ids(highest: int, limit: int, video: DavisVideo, frame: int, protocol: DavisProtocol) -> None:
    if highest <= limit:
        return
    what = f"{limit} proposals" if protocol.match_proposals else f"the sequence's {limit} objects"
    hint = "; 255 is no id in predictions: masks of 0 and 255 must be written as 0 and 1" if highest == VOID else ""
    raise DataError(
        f"sequence '{video.name}', frame {frame}: the prediction holds id {highest}, expected ids up to {limit}: the "
        f"{protocol.name} protocol allows {what} (inference's --max_tracks limits them){hint}"
    )


def _assign(region: np.ndarray, boundary: np.ndarray, num_predictions: int) -> np.ndarray:
    """The proposal of each object by the assignment of greatest mean J&F, [G]; scores are [T, P, G]."""
    mean = (region.mean(axis=0) + boundary.mean(axis=0)) / 2
    proposals, objects = linear_sum_assignment(-mean[:num_predictions])
    return proposals[np.argsort(objects)]
