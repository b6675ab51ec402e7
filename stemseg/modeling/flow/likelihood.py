"""The flow's loss."""

from __future__ import annotations

import math

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
