"""The Lovász hinge: as the paper writes it for one mask, and fast for many masks at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def plain_lovasz_hinge(logits: Tensor, labels: Tensor) -> Tensor:
    """The hinge of one mask as Berman et al. write it (CVPR 2018, algorithm 1): the form to read.

    Args:
        logits: [P], above 0 where a pixel is predicted to be inside.
        labels: [P], 1 inside, 0 outside, of any type.

    Returns:
        a scalar: the errors, largest first, each times what it adds to the Jaccard loss.
    """
    labels = labels.to(logits.dtype)
    errors, order = torch.sort(1 - logits * (2 * labels - 1), descending=True)
    labels = labels[order]
    union = labels.sum() + (1 - labels).cumsum(0)
    jaccard = 1 - (labels.sum() - labels.cumsum(0)) / union
    return F.relu(errors) @ torch.diff(jaccard, prepend=jaccard.new_zeros(1))


def lovasz_hinge(logits: Tensor, labels: Tensor) -> Tensor:
    """The convex surrogate of 1 - IoU (Berman et al., CVPR 2018), one value per mask, by one sort for all of them.

    Args:
        logits: [I, P], above 0 where a pixel is predicted to be inside.
        labels: [I, P], 1 inside, 0 outside, of any type.

    Returns:
        [I] float32 losses.
    """
    inside = labels > 0
    mask_index = torch.arange(len(labels), device=labels.device).repeat_interleave(labels.shape[1])
    terms = lovasz_hinge_terms(logits.flatten(), inside.flatten(), mask_index, inside.sum(dim=1))  # [I * P]
    return terms.view_as(labels).sum(dim=1)


def lovasz_hinge_terms(logits: Tensor, inside: Tensor, mask_index: Tensor, areas: Tensor) -> Tensor:
    """The addend of each of K pairs of a mask and a pixel to the hinge of its mask.

    Pairs may be left out where they can't matter: once every inside pixel of a mask is misclassified its loss can't
    grow, so outside pixels with a smaller error than all inside pixels add nothing.

    Args:
        logits: [K].
        inside: [K] bool; all inside pixels of every mask have to be there.
        mask_index: [K], ascending, the mask of each pair.
        areas: [I], inside pixels of each mask.

    Returns:
        [K] float32.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.float()
        errors = F.relu(1 - torch.where(inside, logits, -logits))
        return errors * _jaccard_steps(errors.detach(), inside, mask_index, areas)


def _jaccard_steps(errors: Tensor, inside: Tensor, mask_index: Tensor, areas: Tensor) -> Tensor:
    """The growth of a mask's Jaccard loss when a pixel is misclassified too, after all with a larger error.

    With c inside and r outside pixels misclassified so far, this one counted, of an area G, the loss is
    1 - (G - c) / (G + r). The differences are written out, so that nothing cancels. All are [K]; no error is below 0.
    """
    # the bits of floats above 0 are ordered like the floats: one integer sorts by mask, then by falling error
    error_bits = (errors + 0.0).view(torch.int32)
    order = (mask_index * 2**32 - error_bits).argsort()  # leaves mask_index as it is
    inside = inside.index_select(0, order)
    inside_so_far = inside.cumsum(0)  # of this mask and all before it
    outside_so_far = torch.arange(1, len(order) + 1, device=order.device) - inside_so_far
    inside_end = areas.cumsum(0)  # [I]
    outside_start = torch.searchsorted(mask_index, torch.arange(len(areas), device=areas.device)) - inside_end + areas
    left = inside_end.index_select(0, mask_index) - inside_so_far  # G - c
    union = outside_so_far + (areas - outside_start).index_select(0, mask_index)  # G + r
    # 1 / (G + r) inside, (G - c) / ((G + r) (G + r - 1)) outside, but all of it where the mask is empty and r is 1
    outside_factor = torch.where(union > 1, left / (union - 1), 1.0)
    steps = torch.where(inside, 1.0, outside_factor) / union
    return torch.empty_like(errors).scatter_(0, order, steps)
