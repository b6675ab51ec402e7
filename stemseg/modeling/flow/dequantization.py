"""From the appearance embedding to the flow's input: pooled, standardized, squashed, dequantized (method.md §5)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from stemseg.modeling.flow.layers import at_least_float32

UNIFORM, FLOOR = "uniform", "floor"
_SMALLEST_VARIANCE = 1e-5


def pool_frames(appearance: Tensor, *, num_halvings: int) -> Tensor:
    """A [N, A, T, h, w] -> [N*T, A, h / 2^k, w / 2^k] float32: frames of their own, 2x2 average pooling k times."""
    frames = at_least_float32(appearance).transpose(1, 2).flatten(0, 1)  # [N*T, A, h, w]
    for _ in range(num_halvings):
        frames = F.avg_pool2d(frames, 2)
    return frames


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """x itself; its gradient is multiplied by ``factor``."""
    return x if factor == 1 else factor * x + (1 - factor) * x.detach()


class Standardization(NamedTuple):
    """An affine map of the channels, y = M (x - mean).

    Attributes:
        mean: [A].
        matrix: [A, A], M.
    """

    mean: Tensor
    matrix: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        """Values [N, A, ...] -> [N, A, ...]."""
        centered = values.movedim(1, -1) - self.mean  # [N, ..., A]
        return (centered @ self.matrix.t()).movedim(-1, 1)


def fit_standardization(frames: Tensor, weights: Tensor | None = None, *, whitened: bool = False) -> Standardization:
    """The map that gives the channels of [F, A, h, w] mean 0 and variance 1; gradients pass through the statistics.

    Without it the likelihood is highest for a constant A: whatever shrinks A is rewarded, and within a few hundred
    iterations the flow's gradient took A to a twentieth of its spread. The likelihood of the standardized A does not
    depend on A's scale; what is left to reward is an A that the condition predicts.

    Args:
        frames: what is to be standardized.
        weights: [F, h, w] of each place in the statistics, of sum 1; None: all alike.
        whitened: take the correlation of the channels away too.
    """
    values = frames.movedim(1, 0).flatten(1)  # [A, P]
    share = torch.full_like(values[0], 1 / values.shape[1]) if weights is None else weights.flatten().to(values.dtype)
    mean = values @ share  # [A]
    centered = values - mean[:, None]  # [A, P]
    if not whitened:
        return Standardization(mean, torch.diag(torch.rsqrt(centered.square() @ share + _SMALLEST_VARIANCE)))
    covariance = (centered * share) @ centered.t()  # [A, A]
    covariance = covariance + _SMALLEST_VARIANCE * torch.eye(len(mean), dtype=mean.dtype, device=mean.device)
    return Standardization(mean, torch.linalg.inv(torch.linalg.cholesky(covariance)))


def dequantize_uniform(x: Tensor, *, num_bits: int, generator: torch.Generator | None = None) -> Tensor:
    """Quantize x in (0, 1) to 2^num_bits values, spread each uniformly over its bin, shift to [-0.5, 0.5): (5.1).

    The flow's density then bounds the probability of the discrete values from below, so it cannot grow without limit.
    The gradient passes straight through to x, as if nothing had been rounded.
    """
    num_bins = 2**num_bits
    with torch.no_grad():
        noise = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        correction = (torch.floor(x * num_bins) + noise) / num_bins - x
    return x + correction - 0.5


def quantize_floor(x: Tensor, *, num_bits: int) -> Tensor:
    """The released code's quantization: x in (0, 1) as a pixel value of 0 to 255, rounded down to ``num_bits`` bits.

    Nothing of the gradient comes through, which is why the released code never trains its appearance decoder.
    """
    return torch.floor(x * 255 / 2 ** (8 - num_bits)) / 2**num_bits - 0.5
