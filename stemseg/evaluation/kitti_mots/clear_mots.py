"""MOTSA, sMOTSA, MOTSP and the counts behind them, after ``mots_tools`` (Voigtlaender et al., 2019).

A result matches an object where their IoU exceeds 0.5; since masks don't overlap, matches are unique.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

MATCH_IOU = 0.5
_MOSTLY_TRACKED, _MOSTLY_LOST = 0.8, 0.2  # share of an object's frames


class ClassFrame(NamedTuple):
    """One class in one frame: ids of its objects [G] and of the results that count [P], and their IoU [G, P]."""

    truth_ids: np.ndarray
    result_ids: np.ndarray
    ious: np.ndarray


@dataclass(frozen=True)
class ClearCounts:
    """Counts over frames; two of them can be added.

    Attributes:
        tp, fp, fn: matched results, unmatched results, unmatched objects, over all frames.
        ids: identity switches: an object is matched by another result track than when it was last matched.
        frag: fragmentations: an object is matched by another track, or again after a gap, and is so in the next frame
            too or for the last time.
        mt, pt, ml: objects tracked in more than 80 %, in between, in less than 20 % of their frames.
        soft_tp: sum of the matches' IoU.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    ids: int = 0
    frag: int = 0
    mt: int = 0
    pt: int = 0
    ml: int = 0
    soft_tp: float = 0.0

    def __add__(self, other: ClearCounts) -> ClearCounts:
        return ClearCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def smotsa(self) -> float:
        """(soft TP - FP - IDS) / objects; NaN without objects."""
        return _ratio(self.soft_tp - self.fp - self.ids, self.tp + self.fn)

    @property
    def motsa(self) -> float:
        """(TP - FP - IDS) / objects; NaN without objects."""
        return _ratio(self.tp - self.fp - self.ids, self.tp + self.fn)

    @property
    def motsp(self) -> float:
        """Mean IoU of the matches; NaN without matches."""
        return _ratio(self.soft_tp, self.tp)


def count_matches(frames: Sequence[ClassFrame]) -> ClearCounts:
    """Counts of one class in one sequence; ``frames`` in order, frames without anything included."""
    trajectories: dict[int, list[int | None]] = {}
    tp = num_results = 0
    soft_tp = 0.0
    for frame in frames:
        rows, columns = np.nonzero(frame.ious > MATCH_IOU)
        matched = dict(zip(frame.truth_ids[rows].tolist(), frame.result_ids[columns].tolist(), strict=True))
        for object_id in frame.truth_ids.tolist():
            trajectories.setdefault(object_id, []).append(matched.get(object_id))
        tp += len(rows)
        num_results += len(frame.result_ids)
        soft_tp += float(frame.ious[rows, columns].sum())
    counts = ClearCounts(tp=tp, fp=num_results - tp, fn=sum(map(len, trajectories.values())) - tp, soft_tp=soft_tp)
    return sum((_count_trajectory(trajectory) for trajectory in trajectories.values()), counts)


def _count_trajectory(matches: Sequence[int | None]) -> ClearCounts:
    """Switches, fragmentations and coverage of one object; the track that matches it in each of its frames, or None."""
    ids = frag = 0
    last = matches[0]
    for t in range(1, len(matches)):
        current = matches[t]
        if last is not None and current is not None:
            ids += current != last
            frag += current != matches[t - 1] and t + 1 < len(matches) and matches[t + 1] is not None
        last = last if current is None else current
    # the official code looks at the last frame once more, where a first match counts too
    frag += len(matches) > 1 and matches[-1] is not None and matches[-1] != matches[-2]
    covered = sum(match is not None for match in matches) / len(matches)
    is_mt, is_ml = covered > _MOSTLY_TRACKED, covered < _MOSTLY_LOST
    return ClearCounts(ids=ids, frag=frag, mt=int(is_mt), pt=int(not is_mt and not is_ml), ml=int(is_ml))


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else float("nan")
