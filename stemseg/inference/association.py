"""Which instances of one clip are the same objects as instances of the clip before (METHOD section 8.5)."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def match_instances(
    previous: Tensor,
    current: Tensor,
    num_previous: int,
    num_current: int,
    *,
    min_iou: float = 0.0,
    compat: bool = False,
) -> dict[int, int]:
    """Match two labellings of the same pixels by the IoU of their instances (Hungarian assignment).

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
    joint = (previous.flatten().long() + 1) * width + (current.flatten().long() + 1)
    counts = torch.bincount(joint, minlength=(num_previous + 2) * width)
    return counts.view(num_previous + 2, width).cpu().numpy()
