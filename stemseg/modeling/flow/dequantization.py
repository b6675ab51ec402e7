"""From the appearance embedding to the flow's input: pooled, standardized, squashed, dequantized (method.md §5)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stemseg.modeling.flow.layers import at_least_float32
from stemseg.utils import distributed

UNIFORM, FLOOR = "uniform", "floor"
_SMALLEST_VARIANCE = 1e-5
_MOMENTUM = 0.05  # of the running statistics


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
        mean, matrix = (x.to(values.dtype) for x in self)
        return ((values.movedim(1, -1) - mean) @ matrix.t()).movedim(-1, 1)  # [N, ..., A] inside


class ChannelStatistics(nn.Module):
    """Running mean and covariance of channels, by which A is standardized before the flow sees it.

    To a loss they are constants. So the likelihood of a frame depends on this frame alone, and the loss of a batch does
    not depend on how it is cut into micro-batches: what these show is gathered, and taken in once per optimizer step.
    A lasting change of A's scale wins no likelihood, since the statistics follow it. An A that the condition predicts
    does, and so does one that shrinks faster than they follow: the spread of A is to be watched.

    Args:
        channels: A.
        whitened: take the correlation of the channels away too.
    """

    mean: Tensor  # [A]
    covariance: Tensor  # [A, A]
    updates: Tensor  # scalar int64, 0 until anything was seen

    def __init__(self, channels: int, *, whitened: bool = False) -> None:
        super().__init__()
        self.whitened = whitened
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("covariance", torch.eye(channels))
        self.register_buffer("updates", torch.tensor(0))
        self._gathered: list[Tensor] = []

    @torch.no_grad()
    def gather(self, frames: Tensor, weights: Tensor | None = None) -> None:
        """Note frames [F, A, h, w] with the weights [F, h, w], None: all alike. The very first count at once."""
        values = frames.movedim(1, 0).flatten(1).to(self.mean.dtype) - self.mean[:, None]  # [A, P]
        weight = torch.ones_like(values[0]) if weights is None else weights.flatten().to(values.dtype)
        second = (values * weight) @ values.t()  # [A, A]
        self._gathered.append(torch.cat([weight.sum()[None], values @ weight, second.flatten()]))
        if self.updates == 0:
            self.update()

    @torch.no_grad()
    def update(self) -> None:
        """Move the statistics towards what was gathered in all processes; these must call it together."""
        if not self._gathered:
            return
        sums = distributed.average(torch.stack(self._gathered).sum(dim=0))
        self._gathered.clear()
        if sums[0] <= 0:
            return
        count, (first, second) = len(self.mean), (sums[1:] / sums[0]).split([len(self.mean), len(self.mean) ** 2])
        share = max(_MOMENTUM, 1 / (1 + self.updates.item()))
        covariance = second.view(count, count) - first[:, None] * first
        self.covariance.lerp_(covariance, share).add_(share * (1 - share) * first[:, None] * first)
        self.mean.add_(share * first)
        self.updates.add_(1)

    def standardization(self) -> Standardization:
        """The map that gives channels with these statistics mean 0 and variance 1."""
        if not self.whitened:
            return Standardization(self.mean, torch.diag(torch.rsqrt(self.covariance.diagonal() + _SMALLEST_VARIANCE)))
        covariance = self.covariance + _SMALLEST_VARIANCE * torch.eye(len(self.mean), device=self.mean.device)
        return Standardization(self.mean, torch.linalg.inv(torch.linalg.cholesky(covariance)))


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
