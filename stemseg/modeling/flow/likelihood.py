"""The flow's loss: bits per dimension, over whole frames or over the places of each instance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def bits_per_dimension(log_p: Tensor, logdet: Tensor, *, num_dims: int, num_bits: int) -> Tensor:
    """(log(2^num_bits) * D - log_p - logdet) / (D * log 2) of each item, [N]: bits that one quantised value costs.

    0 would be a perfect prediction, ``num_bits`` is what a uniform density costs. It may be negative where the input is
    not really dequantised, and is to be left so.

    Args:
        log_p: [N] log-likelihood of the latents.
        logdet: [N] log-determinant of the flow.
        num_dims: D, the number of values of one item.
        num_bits: of the quantisation of the flow's input.
    """
    return (num_bits * math.log(2) * num_dims - log_p - logdet) / (num_dims * math.log(2))


def instance_weights(masks: Sequence[Tensor], *, num_halvings: int, size: tuple[int, int]) -> Tensor:
    """How much of each instance lies in each place of a coarser grid; an instance's weights add up to 1.

    Args:
        masks: binary masks of N clips, each [I, T, h, w] with its own I.
        num_halvings: k, how often the grid's resolution is half of the masks'.
        size: rows and columns of the grid, the upper left ones of [h / 2^k, w / 2^k].

    Returns:
        [G, N * T, *size] float32 for the G instances of all clips that are visible in the grid; G may be 0.
    """
    num_frames = [clip.shape[1] for clip in masks]
    areas = []
    for i, clip in enumerate(masks):
        shrunk = F.avg_pool2d(clip.float(), 2**num_halvings)[:, :, : size[0], : size[1]]
        areas.append(F.pad(shrunk, (0, 0, 0, 0, sum(num_frames[:i]), sum(num_frames[i + 1 :]))))
    joined = torch.cat(areas)
    total = joined.sum(dim=(1, 2, 3), keepdim=True)
    visible = total[:, 0, 0, 0] > 0
    return joined[visible] / total[visible]
