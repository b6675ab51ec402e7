"""The straightforward way to compute what the project computes fast: the yardstick of the benchmark."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def cluster(
    embeddings: Tensor, bandwidths: Tensor, seediness: Tensor, *, min_seediness: float, primary: float, secondary: float
) -> Tensor:
    """Sequential clustering (method.md §8.4) with all probabilities of all points kept; labels [P], -1 outlier."""
    labels = torch.full_like(seediness, -1, dtype=torch.int64)
    all_probabilities = []
    while len(all_probabilities) < 20 and (labels == -1).any():
        free = torch.nonzero(labels == -1)[:, 0]
        seed = free[seediness[free].argmax()]
        if seediness[seed] < min_seediness:
            break
        squared = (embeddings - embeddings[:, seed, None]) ** 2 * bandwidths[:, seed, None]
        probability = torch.exp(-0.5 * squared.sum(dim=0).sqrt())
        labels[free[probability[free] > primary]] = len(all_probabilities)
        all_probabilities.append(probability)
    if all_probabilities:
        best, instance = torch.stack(all_probabilities).max(dim=0)
        left = (labels == -1) & (best > secondary)
        labels[left] = instance[left]
    return labels


def match(previous: Tensor, current: Tensor) -> dict[int, int]:
    """Instances of ``current`` -> instances of ``previous`` by IoU, pair by pair; labels as the chainer takes them."""
    before, after = ([int(i) for i in labels.unique() if i > 0] for labels in (previous, current))
    ious = torch.zeros((len(before), len(after)))
    for row, i in enumerate(before):
        for column, j in enumerate(after):
            first, second = previous == i, current == j
            ious[row, column] = (first & second).sum() / (first | second).sum()
    pairs = zip(*linear_sum_assignment(1 - ious.numpy()), strict=True)
    return {after[column]: before[row] for row, column in pairs if ious[row, column] > 0}
