"""Coupling layers: half of the channels is changed by what a network (g2) makes of the other half and the condition."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stemseg.modeling.flow.zero_conv import ZeroConv2d

# raw log scales below this count as this: 1 / sigmoid stays below 3,000 and the inverse finite in float32
_LOWEST_RAW_SCALE = -10.0


def _coupling_net(in_channels: int, hidden_channels: int, out_channels: int) -> nn.Sequential:
    net = nn.Sequential(
        nn.Conv2d(in_channels, hidden_channels, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden_channels, hidden_channels, 1),
        nn.ReLU(inplace=True),
        ZeroConv2d(hidden_channels, out_channels),
    )
    for conv in (net[0], net[2]):
        nn.init.normal_(conv.weight, 0.0, 0.05)
        nn.init.zeros_(conv.bias)
    return net


class _Coupling(nn.Module):
    """Splits channels in halves a and b, and keeps a; the subclass changes b.

    Args:
        channels: C, even.
        hidden_channels: width of the network.
        condition_channels: channels of c beside a in the network's input; 0 for an unconditional layer.
        outputs_per_channel: network outputs for each channel of b.
    """

    def __init__(
        self, channels: int, *, hidden_channels: int, condition_channels: int, outputs_per_channel: int
    ) -> None:
        super().__init__()
        half = channels // 2
        self.net = _coupling_net(half + condition_channels, hidden_channels, half * outputs_per_channel)

    def _network_output(self, a: Tensor, condition: Tensor | None) -> Tensor:
        return self.net(a if condition is None else torch.cat([a, condition], dim=1))


class AdditiveCoupling(_Coupling):
    """b' = b + g2(a, c). Volume preserving."""

    def __init__(self, channels: int, *, hidden_channels: int = 512, condition_channels: int = 0) -> None:
        super().__init__(
            channels, hidden_channels=hidden_channels, condition_channels=condition_channels, outputs_per_channel=1
        )

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x [N, C, h, w], condition [N, C', h, w] -> (y [N, C, h, w], logdet [N, h, w], zeros)."""
        a, b = x.chunk(2, dim=1)
        y = torch.cat([a, b + self._network_output(a, condition)], dim=1)
        return y, x.new_zeros(x[:, 0].shape)

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> Tensor:
        """y [N, C, h, w], condition [N, C', h, w] -> x [N, C, h, w]."""
        a, b = y.chunk(2, dim=1)
        return torch.cat([a, b - self._network_output(a, condition)], dim=1)


class AffineCoupling(_Coupling):
    """b' = (b + t) * sigmoid(r + 2) with (r, t) = g2(a, c). The scale lies between 3e-4 and 1, so nothing explodes."""

    def __init__(self, channels: int, *, hidden_channels: int = 512, condition_channels: int = 0) -> None:
        super().__init__(
            channels, hidden_channels=hidden_channels, condition_channels=condition_channels, outputs_per_channel=2
        )

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x [N, C, h, w], condition [N, C', h, w] -> (y [N, C, h, w], logdet [N, h, w])."""
        a, b = x.chunk(2, dim=1)
        log_scale, shift = self._log_scale_and_shift(a, condition)
        y = torch.cat([a, (b + shift) * log_scale.exp()], dim=1)
        return y, log_scale.sum(dim=1)

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> Tensor:
        """y [N, C, h, w], condition [N, C', h, w] -> x [N, C, h, w]."""
        a, b = y.chunk(2, dim=1)
        log_scale, shift = self._log_scale_and_shift(a, condition)
        return torch.cat([a, b * (-log_scale).exp() - shift], dim=1)

    def _log_scale_and_shift(self, a: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        raw_scale, shift = self._network_output(a, condition).chunk(2, dim=1)
        return F.logsigmoid(raw_scale.clamp(min=_LOWEST_RAW_SCALE) + 2), shift
