"""The squeeze-expand decoder: the one trunk behind every head (method.md §3).

:class:`TemporalPlan` says how it shrinks and grows the time axis for each clip length, :class:`Conv3d` is a convolution
that stays fast for one small clip on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stemseg.structures.network_output import FeaturePyramid
from stemseg.utils.errors import ConfigError

_POOLS: dict[str, Callable[..., Tensor]] = {"avg": F.avg_pool3d, "max": F.max_pool3d}
_PADDING_VALUES = {"avg": 0.0, "max": -torch.inf}
# torch (up to 2.13) sends a batch of 1 to oneDNN only where N * C * T * H exceeds this, and to a slow kernel otherwise
_SLOW_UP_TO = 20_480


class TemporalPool(nn.Module):
    """3x3x3 pooling that halves the time axis only; an average counts the zeros of the padding.

    Args:
        pool_type: "avg" or "max".
    """

    def __init__(self, pool_type: str) -> None:
        super().__init__()
        if pool_type not in _POOLS:
            raise ConfigError(f"POOL_TYPE is '{pool_type}', expected one of {', '.join(_POOLS)}")
        self.pool_type = pool_type

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, T, h, w] -> [N, C, T/2, h, w]."""
        padding = 1
        if min(x.shape[2:]) < 3:  # torch refuses maps smaller than its kernel, although the padding makes up for it
            x = F.pad(x, (1,) * 6, value=_PADDING_VALUES[self.pool_type])
            padding = 0
        return _POOLS[self.pool_type](x, kernel_size=3, stride=(2, 1, 1), padding=padding)


class SqueezeExpandDecoder(nn.Module):
    """Squeezes time at coarse strides, then expands space and time step by step to a map at quarter scale.

    Args:
        in_channels: channels of the feature maps.
        inter_channels: channels c32, c16, c8, c4 of the four blocks.
        num_frames: T, the clip length; every clip must have it.
        num_groups: groups of the group normalization; 0 leaves normalization out.
        pool_type: "avg" or "max".

    Raises:
        ConfigError: for a clip length or a pool type that does not exist.
    """

    block_32x: nn.Sequential
    block_16x: nn.Sequential
    block_8x: nn.Sequential
    block_4x: nn.Sequential

    def __init__(
        self,
        *,
        in_channels: int,
        inter_channels: Sequence[int],
        num_frames: int,
        num_groups: int = 32,
        pool_type: str = "avg",
    ) -> None:
        super().__init__()
        plan = temporal_plan(num_frames)
        self.num_frames = num_frames
        self._upsampling = plan.upsampling
        pools = [TemporalPool(pool_type) if k < plan.num_pools else nn.Identity() for k in range(3)]
        c32, c16, c8, c4 = inter_channels
        self.block_32x = _block(in_channels, c32, num_groups, pools)
        self.block_16x = _block(in_channels, c16, num_groups, pools[:2])
        self.block_8x = _block(in_channels, c8, num_groups, pools[:1])
        self.block_4x = _block(in_channels, c4, num_groups, [nn.Identity()])
        self.conv_16 = nn.Conv3d(c32 + c16, c16, 1, bias=False)
        self.conv_8 = nn.Conv3d(c16 + c8, c8, 1, bias=False)
        self.conv_4 = nn.Conv3d(c8 + c4, c4, 1, bias=False)
        self.out_channels = c4

    @property
    def blocks(self) -> tuple[nn.Sequential, nn.Sequential, nn.Sequential, nn.Sequential]:
        """The blocks in the order of a :class:`FeaturePyramid`: of strides 4, 8, 16, 32."""
        return self.block_4x, self.block_8x, self.block_16x, self.block_32x

    def decode(self, features: FeaturePyramid) -> Tensor:
        """Maps [N, C, T, H/s, W/s] -> [N, c4, T, H/4, W/4].

        Raises:
            ConfigError: where T is not the length that the decoder was built for.
        """
        if features.stride4.shape[2] != self.num_frames:
            raise ConfigError(
                f"the decoder was built for clips of {self.num_frames} frames (INPUT.NUM_FRAMES), "
                f"found a clip of {features.stride4.shape[2]}"
            )
        return self.expand(FeaturePyramid(*(block[0](x) for block, x in zip(self.blocks, features, strict=True))))

    def expand(self, convolved: FeaturePyramid) -> Tensor:
        """The rest of :meth:`decode` behind each block's first convolution.

        Args:
            convolved: outputs of these convolutions, [N, c_s, T, H/s, W/s].
        """
        lateral4, lateral8, lateral16, x = (block[1:](x) for block, x in zip(self.blocks, convolved, strict=True))
        t16, t8, t4 = self._upsampling
        x = _merge(x, lateral16, self.conv_16, t16)  # [N, c16, ., H / 16, W / 16]
        x = _merge(x, lateral8, self.conv_8, t8)  # [N, c8, ., H / 8, W / 8]
        return _merge(x, lateral4, self.conv_4, t4)  # [N, c4, T, H / 4, W / 4]


def _block(in_channels: int, channels: int, num_groups: int, pools: Sequence[nn.Module]) -> nn.Sequential:
    """One unit (convolution, norm, ReLU, pool) for each of ``pools``; flat, as the checkpoints' keys want it."""
    layers: list[nn.Module] = []
    for k, pool in enumerate(pools):
        layers.append(Conv3d(in_channels if k == 0 else channels, channels))
        layers.append(nn.GroupNorm(num_groups, channels) if num_groups else nn.Identity())
        layers += [nn.ReLU(inplace=True), pool]
    return nn.Sequential(*layers)


def _merge(coarse: Tensor, lateral: Tensor, conv: nn.Conv3d, t_factor: int) -> Tensor:
    """conv(concatenate(upsample(coarse), lateral)), with the convolution pulled in front of the upsampling.

    A 1x1x1 convolution without bias and an interpolation commute, so the coarse half is convolved on 4 to 8 times
    fewer points, and neither the upsampled input nor the concatenation is ever in memory.
    """
    weight_coarse, weight_lateral = conv.weight.split([coarse.shape[1], lateral.shape[1]], dim=1)
    coarse = F.conv3d(coarse, weight_coarse)
    upsampled = F.interpolate(coarse, scale_factor=(t_factor, 2, 2), mode="trilinear", align_corners=False)
    return F.conv3d(lateral, weight_lateral) + upsampled


class TemporalPlan(NamedTuple):
    """Steps of the time axis through the decoder.

    Attributes:
        num_pools: how many of the three pooling places halve the time axis, counted from the first.
        upsampling: factors of the time axis for the steps 32 -> 16, 16 -> 8, 8 -> 4.
    """

    num_pools: int
    upsampling: tuple[int, int, int]


_PLANS = {
    2: TemporalPlan(0, (1, 1, 1)),
    4: TemporalPlan(1, (1, 1, 2)),
    8: TemporalPlan(2, (1, 2, 2)),
    16: TemporalPlan(3, (2, 2, 2)),
    24: TemporalPlan(3, (2, 2, 2)),
    32: TemporalPlan(3, (2, 2, 2)),
}


def temporal_plan(num_frames: int) -> TemporalPlan:
    """The plan for clips of ``num_frames``.

    Raises:
        ConfigError: where no decoder for that length exists.
    """
    if num_frames not in _PLANS:
        raise ConfigError(
            f"INPUT.NUM_FRAMES is {num_frames}: the decoders exist for {', '.join(map(str, _PLANS))} frames"
        )
    return _PLANS[num_frames]


class Conv3d(nn.Conv3d):
    """``nn.Conv3d`` of kernel 3, padding 1, stride 1.

    A clip too small for torch's fast CPU kernel is cut into an upper and a lower half with one row of overlap, which
    makes a batch of 2: the same numbers, 2 to 4 times faster, forward and backward.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, T, h, w] -> [N, C_out, T, h, w]."""
        batch, channels, frames, height, _ = x.shape
        is_slow = batch == 1 and channels * frames * height <= _SLOW_UP_TO
        if x.device.type != "cpu" or not is_slow or height % 2:
            return super().forward(x)
        half = height // 2
        padded = F.pad(x, (1, 1, 1, 1, 1, 1))
        halves = torch.cat([padded[..., : half + 2, :], padded[..., half:, :]])  # [2, C_in, T + 2, h / 2 + 2, w + 2]
        upper, lower = F.conv3d(halves, self.weight, self.bias)
        return torch.cat([upper, lower], dim=2)[None]  # [C_out, T, h / 2, w] twice -> [1, C_out, T, h, w]
