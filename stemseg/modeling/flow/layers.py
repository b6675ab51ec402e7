"""The flow's invertible layers (method.md §5), and the convolution that ends each of its networks.

- :class:`ActNorm`: a scale and a shift per channel that start from the statistics of the first batch.
- :class:`InvertibleConv`, :class:`InvertibleConvLU`: a learned square matrix that mixes the channels of every pixel.
- :class:`AdditiveCoupling`, :class:`AffineCoupling`: half of the channels is changed by what a network, g2, makes of
  the other half and the condition.
- :func:`squeeze`: every 2x2 block of pixels becomes one pixel of four times the channels; a reordering, so logdet is 0.
- :class:`ZeroConv2d`: starts as zero, so that every network in the flow, and the flow itself, starts near the identity.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from stemseg.utils.errors import StemsegError

# a channel that varies less than this is taken for constant: stretching it to unit deviation would blow up later inputs
_SMALLEST_DEVIATION = 1e-4
# raw log scales below this count as this: 1 / sigmoid stays below 3,000 and the inverse finite in float32
_LOWEST_RAW_SCALE = -10.0


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32, or as it is where it is float64: likelihoods need more than half precision."""
    return x if x.element_size() >= 4 else x.float()


class ActNorm(nn.Module):
    """y = scale * (x + loc), one scale and one loc per channel (Glow, "activation normalization"), (5.2).

    The first forward pass in training mode sets both so that its output has mean 0 and deviation 1 per channel, over
    all processes together. A loaded state dict says by its buffer ``initialized`` whether that has happened already.
    """

    initialized: Tensor  # uint8, 0 or 1

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
        packed = torch.cat([total, count])  # [C + 1]; items may be of different size in each process
        dist.all_reduce(packed)
        total, count = packed[:-1], packed[-1:]
    return (total / count).view(1, -1, 1, 1)  # [1, C, 1, 1]


class _ChannelMixing(nn.Module, ABC):
    """y = W x at every pixel, (5.2); what W is made of is up to the subclass."""

    @abstractmethod
    def matrix(self) -> Tensor:
        """W [C, C]."""

    @abstractmethod
    def log_abs_det(self) -> Tensor:
        """log |det W|, a scalar."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [N, C, h, w] -> (y [N, C, h, w], logdet [N, h, w])."""
        kernel = self.matrix()[:, :, None, None]  # [C, C, 1, 1]
        return F.conv2d(x, kernel), self.log_abs_det().expand(x[:, 0].shape)

    def inverse(self, y: Tensor) -> Tensor:
        """y [N, C, h, w] -> x [N, C, h, w]."""
        return F.conv2d(y, torch.linalg.inv(self.matrix())[:, :, None, None])  # kernel [C, C, 1, 1]


class InvertibleConv(_ChannelMixing):
    """W is one learned matrix, a random rotation at first (``CONV_LU: false``)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(_random_rotation(channels)[:, :, None, None])  # [C, C, 1, 1], as published

    def matrix(self) -> Tensor:
        return self.weight[:, :, 0, 0]

    def log_abs_det(self) -> Tensor:
        return torch.linalg.slogdet(self.matrix()).logabsdet


class InvertibleConvLU(_ChannelMixing):
    """W = P L (U + diag(s)): its determinant is read off s, and it cannot become singular (``CONV_LU: true``).

    P (``w_p``) and the signs of s (``s_sign``) stay as they were drawn; L has ones on its diagonal;
    s = s_sign * exp(w_s). The masks ``l_mask``, ``u_mask`` and the identity ``l_eye`` are stored because published
    checkpoints hold them.
    """

    w_p: Tensor
    u_mask: Tensor
    l_mask: Tensor
    s_sign: Tensor
    l_eye: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        permutation, lower, upper = torch.linalg.lu(_random_rotation(channels))
        diagonal = upper.diagonal()
        above = torch.ones(channels, channels).triu(1)
        self.w_l = nn.Parameter(lower.tril(-1))
        self.w_s = nn.Parameter(diagonal.abs().log())
        self.w_u = nn.Parameter(upper.triu(1))
        self.register_buffer("w_p", permutation)
        self.register_buffer("u_mask", above)
        self.register_buffer("l_mask", above.t().contiguous())
        self.register_buffer("s_sign", diagonal.sign())
        self.register_buffer("l_eye", torch.eye(channels))

    def matrix(self) -> Tensor:
        lower = self.w_l * self.l_mask + self.l_eye
        upper = self.w_u * self.u_mask + torch.diag(self.s_sign * self.w_s.exp())
        return self.w_p @ lower @ upper

    def log_abs_det(self) -> Tensor:
        return self.w_s.sum()


def _random_rotation(channels: int) -> Tensor:
    return torch.linalg.qr(torch.randn(channels, channels)).Q


class ZeroConv2d(nn.Module):
    """3x3 convolution with zero weights at first, times exp(3 * scale) per output channel.

    The border is padded with ones, so that a bias-like response tells it from the inside, as in Glow.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=3)
        for parameter in self.conv.parameters():
            nn.init.zeros_(parameter)
        self.scale = nn.Parameter(torch.zeros(1, out_channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x [N, C, h, w] -> [N, C', h, w]."""
        padded = F.pad(x, (1, 1, 1, 1), value=1.0)
        return self.conv(padded) * torch.exp(3 * self.scale)


def _coupling_net(in_channels: int, hidden_channels: int, out_channels: int) -> nn.Sequential:
    net = nn.Sequential(
        nn.Conv2d(in_channels, hidden_channels, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden_channels, hidden_channels, 1),
        nn.ReLU(inplace=True),
        ZeroConv2d(hidden_channels, out_channels),
    )
    for weight, bias in (net[0].parameters(), net[2].parameters()):
        nn.init.normal_(weight, 0.0, 0.05)
        nn.init.zeros_(bias)
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
        return self.net(a if condition is None else torch.cat([a, condition], dim=1))  # of [N, C / 2 + C', h, w]


class AdditiveCoupling(_Coupling):
    """b' = b + g2(a, c), (5.3). Volume preserving."""

    def __init__(self, channels: int, *, hidden_channels: int = 512, condition_channels: int = 0) -> None:
        super().__init__(
            channels, hidden_channels=hidden_channels, condition_channels=condition_channels, outputs_per_channel=1
        )

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x [N, C, h, w], condition [N, C', h, w] -> (y [N, C, h, w], logdet [N, h, w], zeros)."""
        a, b = x.chunk(2, dim=1)  # [N, C / 2, h, w] twice
        y = torch.cat([a, b + self._network_output(a, condition)], dim=1)  # [N, C, h, w]
        return y, x.new_zeros(x[:, 0].shape)

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> Tensor:
        """y [N, C, h, w], condition [N, C', h, w] -> x [N, C, h, w]."""
        a, b = y.chunk(2, dim=1)
        return torch.cat([a, b - self._network_output(a, condition)], dim=1)


class AffineCoupling(_Coupling):
    """b' = (b + t) * sigmoid(r + 2) with (r, t) = g2(a, c), (5.3).

    The scale lies between 3e-4 and 1, so nothing explodes.
    """

    def __init__(self, channels: int, *, hidden_channels: int = 512, condition_channels: int = 0) -> None:
        super().__init__(
            channels, hidden_channels=hidden_channels, condition_channels=condition_channels, outputs_per_channel=2
        )

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x [N, C, h, w], condition [N, C', h, w] -> (y [N, C, h, w], logdet [N, h, w])."""
        a, b = x.chunk(2, dim=1)  # [N, C / 2, h, w] twice
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


def squeeze(x: Tensor) -> Tensor:
    """[N, C, h, w] -> [N, 4C, h/2, w/2]; channel 4c + 2i + j holds row i, column j of the blocks of channel c.

    Raises:
        StemsegError: where h or w is odd.
    """
    check_squeezable(x.shape[2], x.shape[3], times=1)
    return F.pixel_unshuffle(x, 2)


def unsqueeze(y: Tensor) -> Tensor:
    """[N, 4C, h, w] -> [N, C, 2h, 2w], the inverse of :func:`squeeze`."""
    return F.pixel_shuffle(y, 2)


def check_squeezable(height: int, width: int, *, times: int) -> None:
    """Refuse a map that cannot be halved ``times`` times.

    Raises:
        StemsegError: naming the size and the multiple that it must be.
    """
    multiple = 2**times
    if height % multiple or width % multiple or not height or not width:
        raise StemsegError(
            f"the flow got a map of {height} x {width}, but halving it {times} time(s) needs multiples of {multiple}; "
            "lower MODEL.OFFSET.N_BLOCK, or crop or pad the map"
        )
