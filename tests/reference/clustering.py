"""Clustering and matching written plainly, with everything kept in memory and pair by pair."""

from __future__ import annotations

from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def cluster(*points: Tensor, **rules: Any) -> Tensor:
    """The labels alone of :func:`cluster_and_rate`, which takes the same."""
    return cluster_and_rate(*points, **rules)[0]


def cluster_and_rate(
    embeddings: Tensor,
    bandwidths: Tensor,
    seediness: Tensor,
    *,
    min_seediness: float,
    primary: float,
    secondary: float,
    max_instances: int = 20,
    compat: bool = False,
) -> tuple[Tensor, Tensor]:
    """Sequential clustering (method.md §8.4) that keeps all probabilities of all points.

    Args:
        embeddings, bandwidths: [E, P].
        seediness: [P].
        min_seediness, primary, secondary, max_instances, compat: as :class:`SequentialClustering` takes them.

    Returns:
        labels [P] int64, -1 for an outlier, and each point's probability under its own instance [P], 0 for an outlier.
    """
    labels = torch.full_like(seediness, -1, dtype=torch.int64)
    all_probabilities: list[Tensor] = []
    left = None  # the points that are given out in the end
    while len(all_probabilities) < max_instances and (labels == -1).any():
        free = torch.nonzero(labels == -1)[:, 0]
        seed = free[seediness[free].argmax()]
        if seediness[seed] < min_seediness:
            break
        if compat and len(all_probabilities) == max_instances - 1:
            left = labels == -1
        squared = (embeddings - embeddings[:, seed, None]) ** 2 * bandwidths[:, seed, None]
        probability = torch.exp(-0.5 * squared.sum(dim=0).sqrt())  # [P]
        labels[free[probability[free] > primary]] = len(all_probabilities)
        all_probabilities.append(probability)
    if not all_probabilities:
        return labels, torch.zeros_like(seediness)
    probabilities = torch.stack(all_probabilities)  # [I, P]
    best, instance = probabilities.min(dim=0) if compat else probabilities.max(dim=0)
    joins = (labels == -1 if left is None else left) & (best > secondary)
    labels[joins] = instance[joins]
    own = probabilities.gather(0, labels.clamp(min=0)[None])[0]
    return labels, torch.where(labels >= 0, own, 0.0)


def label_ious(previous: Tensor, current: Tensor, num_previous: int, num_current: int) -> Tensor:
    """IoU of every instance (1 ... I) of ``previous`` with every one (1 ... J) of ``current``, pair by pair, [I, J]."""
    ious = torch.zeros((num_previous, num_current))
    for i in range(num_previous):
        for j in range(num_current):
            first, second = previous == i + 1, current == j + 1
            ious[i, j] = (first & second).sum() / (first | second).sum().clamp(min=1)
    return ious


def match(previous: Tensor, current: Tensor) -> dict[int, int]:
    """Instances of ``current`` -> instances of ``previous`` by IoU; labels as the chainer takes them."""
    ious = label_ious(previous, current, max(0, int(previous.max())), max(0, int(current.max())))
    pairs = zip(*linear_sum_assignment(1 - ious.numpy()), strict=True)
    return {int(j) + 1: int(i) + 1 for i, j in pairs if ious[i, j] > 0}
