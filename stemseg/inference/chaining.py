"""Instances of consecutive clips become tracks of the whole video (method.md §8.5; STEm-Seg section 3.4).

:class:`Chainer` gives the instances track ids; :func:`match_instances` finds which of them are the same objects as
instances of the clip before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


class ClipLabels(NamedTuple):
    """Labels of a clip's pixels.

    Attributes:
        frames: T ascending frame numbers.
        labels: [T, H, W] int32: 0 background, -1 outlier, else an instance from 1.
        num_instances: I, the highest instance that ``labels`` may hold.
    """

    frames: Sequence[int]
    labels: Tensor
    num_instances: int


class ChainedClip(NamedTuple):
    """The part of a clip that is new to the tracks of a video.

    Attributes:
        frames: the frames that no earlier clip covered.
        labels: [F, H, W] int32, the clip's own labels of these frames.
        track_ids: track of instance 1, 2, ... I.
    """

    frames: Sequence[int]
    labels: Tensor
    track_ids: list[int]


class Chainer:
    """Gives the instances of each clip the track ids of the previous clip's instances that they overlap with.

    A frame keeps the labels of the first clip that covered it. Only the previous clip is remembered.

    Args:
        min_iou: instances whose IoU in the common frames is not above this do not match.
        compat: match instances without any common pixel too, as the published code did.
    """

    def __init__(self, *, min_iou: float = 0.0, compat: bool = False) -> None:
        self._min_iou = min_iou
        self._compat = compat
        self._previous: ClipLabels | None = None
        self._previous_ids: list[int] = []
        self._num_tracks = 0

    def add(self, clip: ClipLabels) -> ChainedClip:
        """Chain the next clip of the video; its frames must reach behind those of the clip before."""
        num_common, matches = 0, {}
        if self._previous is not None:
            num_common = max(0, self._previous.frames[-1] - clip.frames[0] + 1)
            matches = self._match(self._previous, clip, num_common) if num_common else {}
        track_ids = [
            self._previous_ids[matches[i] - 1] if i in matches else self._new_track()
            for i in range(1, clip.num_instances + 1)
        ]
        self._previous, self._previous_ids = clip, track_ids
        return ChainedClip(clip.frames[num_common:], clip.labels[num_common:], track_ids)

    def _match(self, previous: ClipLabels, clip: ClipLabels, num_common: int) -> dict[int, int]:
        return match_instances(
            previous.labels[-num_common:], clip.labels[:num_common], previous.num_instances, clip.num_instances,
            min_iou=self._min_iou, compat=self._compat,
        )  # fmt: skip

    def _new_track(self) -> int:
        self._num_tracks += 1
        return self._num_tracks


def match_instances(
    previous: Tensor,
    current: Tensor,
    num_previous: int,
    num_current: int,
    *,
    min_iou: float = 0.0,
    compat: bool = False,
) -> dict[int, int]:
    """Match two labelings of the same pixels by the IoU of their instances (Hungarian assignment).

    Args:
        previous, current: integer labels of one shape: instances from 1, 0 background, -1 outlier.
        num_previous, num_current: the highest label that each can hold.
        min_iou: a pair whose IoU is not above this is no match.
        compat: also accept pairs without any common pixel, as the published code did.

    Returns:
        label in ``current`` -> label in ``previous``, for matched instances only.
    """
    histogram = _joint_histogram(previous, current, num_previous, num_current)
    ious = label_ious(histogram)
    # an instance that is not seen in these pixels has nothing to be matched by
    rows, columns = np.flatnonzero(histogram.sum(1)[2:]), np.flatnonzero(histogram.sum(0)[2:])
    pairs = zip(*linear_sum_assignment(1.0 - ious[np.ix_(rows, columns)]), strict=True)
    matches = {int(columns[j]): int(rows[i]) for i, j in pairs}
    return {j + 1: i + 1 for j, i in matches.items() if compat or ious[i, j] > min_iou}


def label_ious(histogram: np.ndarray) -> np.ndarray:
    """IoU of every pair of instances, [num_previous, num_current], from the joint histogram of their labels.

    ``histogram`` [num_previous + 2, num_current + 2] counts pixels by label; outliers and background come first.
    """
    intersection = histogram[2:, 2:].astype(np.float64)
    union = histogram.sum(1)[2:, None] + histogram.sum(0)[None, 2:] - intersection
    return intersection / np.maximum(union, 1)


def _joint_histogram(previous: Tensor, current: Tensor, num_previous: int, num_current: int) -> np.ndarray:
    width = num_current + 2
    joint = (previous.flatten().long() + 1) * width + (current.flatten().long() + 1)  # [P]
    counts = torch.bincount(joint, minlength=(num_previous + 2) * width)
    return counts.view(num_previous + 2, width).cpu().numpy()  # [num_previous + 2, num_current + 2]
