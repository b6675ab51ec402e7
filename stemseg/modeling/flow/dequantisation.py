"""From the appearance embedding to the flow's input: pooled, squashed to (0, 1), quantised and dequantised."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stemseg.modeling.flow.precision import at_least_float32

UNIFORM, FLOOR = "uniform", "floor"


def pool_and_squash(appearance: Tensor, *, num_halvings: int) -> Tensor:
    """A [N, A, T, h, w] -> [N*T, A, h / 2^k, w / 2^k] in (0, 1): 2x2 average pooling k times, then the sigmoid."""
    frames = at_least_float32(appearance).transpose(1, 2).flatten(0, 1)  # [N*T, A, h, w]
    for _ in range(num_halvings):
        frames = F.avg_pool2d(frames, 2)
    return torch.sigmoid(frames)


def dequantise_uniform(x: Tensor, *, num_bits: int, generator: torch.Generator | None = None) -> Tensor:
    """Quantise x in (0, 1) to 2^num_bits values, spread each uniformly over its bin, and shift to [-0.5, 0.5).

    The flow's density then bounds the probability of the discrete values from below, so it cannot grow without limit.
    The gradient passes straight through to x, as if nothing had been rounded.
    """
    num_bins = 2**num_bits
    with torch.no_grad():
        noise = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        correction = (torch.floor(x * num_bins) + noise) / num_bins - x
    return x + correction - 0.5


def quantise_floor(x: Tensor, *, num_bits: int) -> Tensor:
    """The released code's quantisation: x in (0, 1) as a pixel value of 0 to 255, rounded down to ``num_bits`` bits.

    Nothing of the gradient comes through, which is why the released code never trains its appearance decoder.
    """
    return torch.floor(x * 255 / 2 ** (8 - num_bits)) / 2**num_bits - 0.5
