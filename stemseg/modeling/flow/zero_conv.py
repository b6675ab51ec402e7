"""A convolution that starts as zero: the last layer of every network in the flow, which so starts near the identity."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ZeroConv2d(nn.Module):
    """3x3 convolution with zero weights at first, times exp(3 * scale) per output channel.

    The border is padded with ones, so that a bias-like response tells it from the inside, as in Glow.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=3)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)
        self.scale = nn.Parameter(torch.zeros(1, out_channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x [N, C, h, w] -> [N, C', h, w]."""
        padded = F.pad(x, (1, 1, 1, 1), value=1.0)
        return self.conv(padded) * torch.exp(3 * self.scale)
