"""The straightforward way to compute what the project computes fast: the yardstick of the benchmark."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from stemseg.structures.clip import ClipTargets
from stemseg.structures.network_output import NetworkOutput


def embedding_loss(output: NetworkOutput, targets: ClipTargets, free_bandwidths: Tensor) -> Tensor:
    """The embedding loss of one clip with default weights (METHOD section 6), instance by instance."""
    embedding, raw, seediness = (x[0].flatten(1) for x in output[:3])
    lovasz, smoothness, seed_error = [], [], []
    for mask in targets.masks.flatten(1).bool():
        raw_inside = raw[:, mask]
        center = embedding[:, mask].mean(dim=1, keepdim=True)
        bandwidth = torch.cat([(10 * raw_inside.exp()).mean(dim=1), free_bandwidths])[:, None]
        probability = torch.exp(-0.5 * (bandwidth * (embedding - center) ** 2).sum(dim=0))
        lovasz.append(_lovasz_hinge(2 * probability - 1, mask.float()))
        smoothness.append(((raw_inside - raw_inside.mean(dim=1, keepdim=True)) ** 2).mean())
        seed_error.append(F.mse_loss(seediness[0, mask], probability[mask].detach()))
    background = ~targets.masks.flatten(1).bool().any(dim=0)
    seed_error.append((seediness[0, background] ** 2).mean())
    return torch.stack(lovasz).mean() + 10 * torch.stack(smoothness).mean() + torch.stack(seed_error).mean()


def _lovasz_hinge(logits: Tensor, labels: Tensor) -> Tensor:
    errors, order = torch.sort(1 - logits * (2 * labels - 1), descending=True)
    labels = labels[order]
    union = labels.sum() + (1 - labels).cumsum(0)
    jaccard = 1 - (labels.sum() - labels.cumsum(0)) / union
    jaccard = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    return torch.dot(F.relu(errors), jaccard)


def cluster(
    embeddings: Tensor, bandwidths: Tensor, seediness: Tensor, *, min_seediness: float, primary: float, secondary: float
) -> Tensor:
    """Sequential clustering (METHOD section 8.4) with all probabilities of all points kept; labels [P], -1 outlier."""
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
