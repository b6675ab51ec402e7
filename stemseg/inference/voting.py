"""What class an instance is: the sum of the class logits over its pixels, at any scale of the label map."""

from __future__ import annotations

import torch
from torch import Tensor


def class_votes(labels: Tensor, num_instances: int, class_logits: Tensor) -> Tensor:
    """Summed class logits of each instance, [I, K] float32.

    Where the label map is larger than the logits, the result is that of logits upsampled bilinearly to its size. They
    never are: a sum over upsampled logits equals one over the logits themselves, weighted by :func:`label_weights`.

    Args:
        labels: [F, H, W], instances from 1; 0 and -1 do not vote.
        num_instances: I.
        class_logits: [F, K, h, w], H / h = W / w a whole number.
    """
    votes = torch.zeros(num_instances, class_logits.shape[1], device=labels.device)
    for frame_labels, logits in zip(labels, class_logits, strict=True):
        weights = label_weights(frame_labels, num_instances, logits.shape[-2:])  # [I, h * w]
        votes += weights @ logits.to(weights).flatten(1).T
    return votes


def label_weights(labels: Tensor, num_instances: int, size: tuple[int, int]) -> Tensor:
    """How much of each coarse pixel lies in each instance: the transpose of bilinear upsampling, applied to its mask.

    Args:
        labels: [H, W], instances from 1.
        num_instances: I.
        size: (h, w) of the coarse map.

    Returns:
        [I, h * w] float32; row i sums to the number of pixels of instance i + 1.
    """
    height, width = size
    rows, columns = (labels > 0).nonzero(as_tuple=True)  # [P]
    offsets = (labels[rows, columns].long() - 1) * (height * width)
    row_pairs = _source_pixels(rows, labels.shape[0] // height, height)
    column_pairs = _source_pixels(columns, labels.shape[1] // width, width)
    # float32 is exact: for whole-numbered scales all weights are multiples of a small power of two
    total = torch.zeros(num_instances * height * width, device=labels.device)
    for source_rows, row_weights in row_pairs:
        for source_columns, column_weights in column_pairs:
            pixels = offsets + source_rows * width + source_columns
            total += torch.bincount(pixels, row_weights * column_weights, minlength=total.shape[0])
    return total.view(num_instances, height * width)


def _source_pixels(fine: Tensor, scale: int, length: int) -> list[tuple[Tensor, Tensor]]:
    """The coarse pixels that each fine one is interpolated from (align_corners False), with their weights."""
    if scale == 1:
        return [(fine, torch.ones_like(fine, dtype=torch.float32))]
    position = ((fine.float() + 0.5) / scale - 0.5).clamp(min=0)
    lower = position.floor().long()
    fraction = position - lower
    return [(lower, 1 - fraction), ((lower + 1).clamp(max=length - 1), fraction)]
