"""The affine injection of a conditional step: the condition alone sets a scale and a shift of every channel (g1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stemseg.modeling.flow.zero_conv import ZeroConv2d

# |log scale| never exceeds this, so a step stretches or shrinks at most 7.4 times
_LOG_SCALE_BOUND = 2.0


class AffineInjection(nn.Module):
    """y = x * exp(s) + t with (s, t) = g1(c); s and t see nothing of x, so all channels can be changed at once.

    Args:
        channels: C of x.
        condition_channels: channels of c.
        hidden_channels: width of g1's hidden layer.
    """

    def __init__(self, channels: int, *, condition_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(condition_channels, hidden_channels, 3, padding=1),
            nn.ReLU(inplace=True),
            ZeroConv2d(hidden_channels, 2 * channels),
        )

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """x [N, C, h, w], condition [N, C', h, w] -> (y [N, C, h, w], logdet [N, h, w])."""
        log_scale, shift = self._log_scale_and_shift(condition)
        return x * log_scale.exp() + shift, log_scale.sum(dim=1)

    def inverse(self, y: Tensor, condition: Tensor) -> Tensor:
        """y [N, C, h, w], condition [N, C', h, w] -> x [N, C, h, w]."""
        log_scale, shift = self._log_scale_and_shift(condition)
        return (y - shift) * (-log_scale).exp()

    def _log_scale_and_shift(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        raw_scale, shift = self.net(condition).chunk(2, dim=1)
        return _LOG_SCALE_BOUND * torch.tanh(raw_scale / _LOG_SCALE_BOUND), shift
