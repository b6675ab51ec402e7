"""Activation normalisation: a scale and a shift per channel that start from the statistics of the first batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

# a channel that varies less than this is taken for constant: stretching it to unit deviation would blow up later inputs
_SMALLEST_DEVIATION = 1e-4


class ActNorm(nn.Module):
    """y = scale * (x + loc), one scale and one loc per channel (Glow, "activation normalisation").

    The first forward pass in training mode sets both so that its output has mean 0 and deviation 1 per channel, over
    all processes together. A loaded state dict says by its buffer ``initialized`` whether that has happened already.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.register_buffer("initialized", torch.tensor(0, dtype=torch.uint8))
        self._is_initialized = False  # what the buffer says, kept here because reading a GPU buffer stalls the GPU

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [N, C, h, w] -> (y [N, C, h, w], logdet [N, h, w])."""
        if self.training and not self._is_initialized:
            self._initialize_once(x)
        logdet = self.scale.abs().log().sum()
        return self.scale * (x + self.loc), logdet.expand(x[:, 0].shape)

    def inverse(self, y: Tensor) -> Tensor:
        """y [N, C, h, w] -> x [N, C, h, w]."""
        return y / self.scale - self.loc

    @torch.no_grad()
    def _initialize_once(self, x: Tensor) -> None:
        if not bool(self.initialized):
            mean = _mean_over_processes(x)
            deviation = _mean_over_processes((x - mean).square()).sqrt()
            self.loc.copy_(-mean)
            self.scale.copy_(torch.where(deviation > _SMALLEST_DEVIATION, deviation, torch.ones_like(deviation)) ** -1)
            self.initialized.fill_(1)
        self._is_initialized = True

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._is_initialized = False


def _mean_over_processes(x: Tensor) -> Tensor:
    """Mean of x [N, C, h, w] over N, h and w of all processes, [1, C, 1, 1], so that every process starts equal."""
    total = x.sum(dim=(0, 2, 3))
    count = total.new_full((1,), x.numel() / x.shape[1])
    if dist.is_available() and dist.is_initialized():
        packed = torch.cat([total, count])  # items may be of different size in each process
        dist.all_reduce(packed)
        total, count = packed[:-1], packed[-1:]
    return (total / count).view(1, -1, 1, 1)
