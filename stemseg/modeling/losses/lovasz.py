"""The Lovász hinge, for many masks at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def lovasz_hinge(logits: Tensor, labels: Tensor) -> Tensor:
    """The convex surrogate of 1 - IoU (Berman et al., CVPR 2018), one value per mask, by one sort for all of them.

    Args:
        logits: [I, P], above 0 where a pixel is predicted to be inside.
        labels: [I, P], 1 inside, 0 outside, of any type.

    Returns:
        [I] float32 losses.
    """
    with torch.autocast(logits.device.type, enabled=False):
        inside = labels > 0
        logits = logits.float()
        errors = F.relu(1 - torch.where(inside, logits, -logits))
        return (errors * _jaccard_steps(errors.detach(), inside)).sum(dim=1)


def _jaccard_steps(errors: Tensor, inside: Tensor) -> Tensor:
    """How much the Jaccard loss of its mask grows when a pixel is misclassified too, after all with a larger error.

    Once every inside pixel is misclassified the loss is 1 and can't grow: the many outside pixels with a smaller error
    than any inside pixel's have step 0. They are left out of the sort, so that sorting for 20 masks that share an image
    costs little more than for one.

    Args:
        errors: [I, P], none below 0.
        inside: [I, P] bool.

    Returns:
        [I, P] float32.
    """
    areas = inside.sum(dim=1)
    smallest_inside = errors.masked_fill(~inside, torch.inf).amin(dim=1)
    threshold = torch.where(areas > 0, smallest_inside, 0)  # no inside pixel: the largest error has the whole step
    kept = (errors >= threshold[:, None]).flatten().nonzero()[:, 0]
    mask_index = torch.div(kept, errors.shape[1], rounding_mode="floor")
    # the bits of floats above 0 are ordered like the floats: one integer sorts by mask, then by falling error
    error_bits = (errors.flatten()[kept] + 0.0).view(torch.int32).long()
    order = (mask_index * 2**32 - error_bits).argsort()
    kept, mask_index = kept[order], mask_index[order]
    steps = torch.zeros(errors.numel(), device=errors.device)
    steps[kept] = _sorted_steps(inside.flatten()[kept], mask_index, areas)
    return steps.view_as(errors)


def _sorted_steps(inside: Tensor, mask_index: Tensor, areas: Tensor) -> Tensor:
    """Jaccard steps of K pixels that are sorted by mask and falling error.

    With c inside and r outside pixels misclassified so far, this one counted, of an area G, the loss is
    1 - (G - c) / (G + r). The differences are written out, so that nothing cancels.
    """
    counts = mask_index.bincount(minlength=len(areas))
    starts = (counts.cumsum(0) - counts)[mask_index]
    area = areas[mask_index]
    position = torch.arange(1, len(mask_index) + 1, device=mask_index.device) - starts
    c = inside.long().cumsum(0) - (areas.cumsum(0) - areas)[mask_index]
    r = position - c
    union = (area + r).float()
    outside_step = (area - c) / (union * (union - 1).clamp(min=1))
    outside_step = torch.where(area > 0, outside_step, (position == 1).float())
    return torch.where(inside, 1 / union, outside_step)
