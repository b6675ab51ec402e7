"""HOTA, higher order tracking accuracy (Luiten et al., IJCV 2020), as TrackEval computes it.

At each localization threshold alpha, DetA = TP / (TP + FN + FP), AssA is the mean over matches of how well the two
tracks agree over time, and HOTA = sqrt(DetA * AssA); all are averaged over alpha = 0.05 to 0.95.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from scipy.optimize import linear_sum_assignment

from stemseg.evaluation.kitti_mots.clear_mots import ClassFrame

ALPHAS = np.arange(0.05, 0.99, 0.05)  # [19]
_EPSILON = np.finfo(float).eps


def _zeros() -> np.ndarray:
    return np.zeros(len(ALPHAS))


@dataclass(frozen=True)
class HotaSums:
    """Sums per alpha [19], over frames and sequences; two of them can be added.

    ``tp``, ``fn``, ``fp``: matches, missed objects, superfluous results; ``association``: sum over matches of their
    tracks' agreement; ``localization``: sum over matches of their IoU.
    """

    tp: np.ndarray = field(default_factory=_zeros)
    fn: np.ndarray = field(default_factory=_zeros)
    fp: np.ndarray = field(default_factory=_zeros)
    association: np.ndarray = field(default_factory=_zeros)
    localization: np.ndarray = field(default_factory=_zeros)

    def __add__(self, other: HotaSums) -> HotaSums:
        return HotaSums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def hota(self) -> float:
        """Mean over alpha of sqrt(DetA * AssA)."""
        return float(np.sqrt(self._det_a() * self._ass_a()).mean())

    @property
    def det_a(self) -> float:
        """Detection accuracy, mean over alpha."""
        return float(self._det_a().mean())

    @property
    def ass_a(self) -> float:
        """Association accuracy, mean over alpha."""
        return float(self._ass_a().mean())

    @property
    def loc_a(self) -> float:
        """Localization accuracy: IoU of the matches, mean over alpha; 1 where nothing matches."""
        return float((np.maximum(1e-10, self.localization) / np.maximum(1e-10, self.tp)).mean())

    def _det_a(self) -> np.ndarray:
        return self.tp / np.maximum(1, self.tp + self.fn + self.fp)

    def _ass_a(self) -> np.ndarray:
        return self.association / np.maximum(1, self.tp)


def sum_hota(frames: Sequence[ClassFrame]) -> HotaSums:
    """Sums of one class in one sequence."""
    truth_ids, result_ids = (np.unique(_joined(f[i] for f in frames)) for i in (0, 1))
    # from here on, ids are indices into the sequence's sorted ids
    frames = [
        ClassFrame(np.searchsorted(truth_ids, f.truth_ids), np.searchsorted(result_ids, f.result_ids), f.ious)
        for f in frames
    ]
    truth_frames = np.bincount(_joined(f.truth_ids for f in frames), minlength=len(truth_ids))
    result_frames = np.bincount(_joined(f.result_ids for f in frames), minlength=len(result_ids))
    alignment = _alignment(frames, truth_frames, result_frames)
    matches = np.zeros((len(ALPHAS), len(truth_ids), len(result_ids)))  # frames in which two tracks match
    localization = _zeros()
    for frame in frames:
        rows, columns = linear_sum_assignment(-alignment[np.ix_(frame.truth_ids, frame.result_ids)] * frame.ious)
        ious = frame.ious[rows, columns]
        is_match = ious >= ALPHAS[:, None] - _EPSILON  # [19, n]
        matches[:, frame.truth_ids[rows], frame.result_ids[columns]] += is_match
        localization += (ious * is_match).sum(axis=1)
    tp = matches.sum(axis=(1, 2))
    unions = truth_frames[:, None] + result_frames[None, :] - matches
    association = (matches * matches / np.maximum(1, unions)).sum(axis=(1, 2))
    return HotaSums(tp, truth_frames.sum() - tp, result_frames.sum() - tp, association, localization)


def _joined(ids: Iterable[np.ndarray]) -> np.ndarray:
    """The ids of all frames one after another, int64."""
    return np.concatenate([np.zeros(0, dtype=np.int64), *ids], dtype=np.int64)


def _alignment(frames: Sequence[ClassFrame], truth_frames: np.ndarray, result_frames: np.ndarray) -> np.ndarray:
    """The overlap of two tracks over the sequence, [G, P]: a soft Jaccard index of their frames."""
    potential = np.zeros((len(truth_frames), len(result_frames)))
    for frame in frames:
        total = frame.ious.sum(axis=0)[None, :] + frame.ious.sum(axis=1)[:, None] - frame.ious
        share = np.divide(frame.ious, total, out=np.zeros(total.shape), where=total > _EPSILON)
        potential[np.ix_(frame.truth_ids, frame.result_ids)] += share
    return potential / np.maximum(truth_frames[:, None] + result_frames[None, :] - potential, _EPSILON)
