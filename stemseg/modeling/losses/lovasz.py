"""The Lovász hinge, for many masks at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def lovasz_hinge(logits: Tensor, labels: Tensor) -> Tensor:
    """The convex surrogate of 1 - IoU (Berman et al., CVPR 2018), one value per mask, by one batched sort.

    Args:
        logits: [I, P], above 0 where a pixel is predicted to be inside.
        labels: [I, P], 1 inside, 0 outside, of any type.

    Returns:
        [I] float32 losses.
    """
    with torch.autocast(logits.device.type, enabled=False):
        labels = labels.float()
        errors = 1 - logits.float() * (2 * labels - 1)
        errors_sorted, order = errors.sort(dim=1, descending=True)
        weights = _jaccard_steps(labels.gather(1, order))
        return (F.relu(errors_sorted) * weights).sum(dim=1)


def _jaccard_steps(sorted_labels: Tensor) -> Tensor:
    """Growth of the Jaccard loss with each further misclassified pixel, worst first: [I, P] -> [I, P]."""
    inside = sorted_labels.sum(dim=1, keepdim=True)
    found = sorted_labels.cumsum(dim=1)
    rank = torch.arange(1, sorted_labels.shape[1] + 1, device=sorted_labels.device, dtype=sorted_labels.dtype)
    jaccard_loss = 1 - (inside - found) / (inside + rank - found)
    return torch.diff(jaccard_loss, dim=1, prepend=torch.zeros_like(inside))
