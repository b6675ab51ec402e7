"""EfficientNet-Lite0 (Tan and Le, 2019; Lite: no squeeze-and-excitation, ReLU6): light features for small machines."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stemseg.modeling.backbone.norms import FrozenBatchNorm, NormFactory
from stemseg.modeling.backbone.resnet import Body

STEM_CHANNELS = 32


class _Group(NamedTuple):
    """Blocks of equal kind; the first of them has the stride and the change of channels."""

    num_blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


# the groups of each stage; a stage ends where the next one halves the map: strides 4, 8, 16, 32
_STAGES = (
    (_Group(1, 3, 1, 1, 16), _Group(2, 3, 2, 6, 24)),
    (_Group(2, 5, 2, 6, 40),),
    (_Group(3, 3, 2, 6, 80), _Group(3, 5, 1, 6, 112)),
    (_Group(4, 5, 2, 6, 192), _Group(1, 3, 1, 6, 320)),
)
BLOCKS_PER_STAGE = tuple(sum(group.num_blocks for group in groups) for groups in _STAGES)


class Conv2dSame(nn.Conv2d):
    """A convolution without bias and with TensorFlow's "same" padding, for even sizes where its stride is 2.

    With stride 2 one row and column less are padded in front than behind, where PyTorch pads both sides alike.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        padding = (kernel - 1) // 2 if stride == 1 else 0
        super().__init__(in_channels, out_channels, kernel, stride=stride, padding=padding, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[F, C_in, H, W] -> [F, C_out, H/stride, W/stride]."""
        return self.convolve(x, self.weight, self.bias)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """:meth:`forward` with other weights of the same shape."""
        return self._conv_forward(pad_same(x, self.kernel_size[0]) if self.stride[0] == 2 else x, weight, bias)


def normalized(conv: Conv2dSame, norm: nn.Module, x: Tensor) -> Tensor:
    """``norm(conv(x))``; a frozen norm is multiplied into the few weights, not the many pixels (a sixth faster)."""
    if not isinstance(norm, FrozenBatchNorm):
        return norm(conv(x))
    scale, shift = norm.scale_and_shift()
    return conv.convolve(x, conv.weight * scale[:, None, None, None], shift)


def pad_same(x: Tensor, kernel: int) -> Tensor:
    """Pad maps [F, C, H, W] of even size for a convolution of stride 2 with an odd kernel."""
    before, behind = (kernel - 2) // 2, (kernel - 1) // 2
    return F.pad(x, (before, behind, before, behind))


class Stem(nn.Module):
    """3x3 convolution of stride 2, norm, ReLU6."""

    def __init__(self, norm: NormFactory) -> None:
        super().__init__()
        self.conv1 = Conv2dSame(3, STEM_CHANNELS, 3, stride=2)
        self.bn1 = norm(STEM_CHANNELS)

    def forward(self, images: Tensor) -> Tensor:
        """[F, 3, H, W] -> [F, 32, H/2, W/2]."""
        return F.relu6(normalized(self.conv1, self.bn1, images), inplace=True)


class MBConv(nn.Module):
    """Expanding 1x1, depthwise and projecting 1x1 convolution, each with a norm; a shortcut where shapes allow.

    Attributes:
        conv1, bn1: the expansion; None where the block doesn't expand.
    """

    def __init__(
        self, *, in_channels: int, out_channels: int, expansion: int, kernel: int, stride: int, norm: NormFactory
    ) -> None:
        super().__init__()
        width = in_channels * expansion
        self.conv1 = Conv2dSame(in_channels, width, 1) if expansion > 1 else None
        self.bn1 = norm(width) if expansion > 1 else None
        self.conv2 = Conv2dSame(width, width, kernel, stride=stride, groups=width)
        self.bn2 = norm(width)
        self.conv3 = Conv2dSame(width, out_channels, 1)
        self.bn3 = norm(out_channels)
        self._has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """[F, C_in, H, W] -> [F, C_out, H/stride, W/stride]."""
        y = x
        if self.conv1 is not None and self.bn1 is not None:
            y = F.relu6(normalized(self.conv1, self.bn1, x), inplace=True)
        y = F.relu6(normalized(self.conv2, self.bn2, y), inplace=True)
        y = normalized(self.conv3, self.bn3, y)
        return y + x if self._has_shortcut else y


class EfficientNetLite0(Body):
    """Stem and four stages; returns the maps of the stages: 24, 40, 112 and 320 channels at strides 4, 8, 16, 32.

    Args:
        norm: makes a normalization layer from a number of channels.
        freeze_at: 0 freezes nothing; n freezes the stem and the stages 1 ... n - 1.
    """

    def __init__(self, *, norm: NormFactory, freeze_at: int) -> None:
        stem, stages, in_channels = Stem(norm), [], STEM_CHANNELS
        for groups in _STAGES:
            stages.append(_stage(groups, in_channels, norm))
            in_channels = groups[-1].channels
        super().__init__(stem, stages, freeze_at)
        self.out_channels = [groups[-1].channels for groups in _STAGES]

    def forward(self, images: Tensor) -> list[Tensor]:
        """See :meth:`Body.forward`."""
        # depthwise convolutions are twice as fast on a CPU when a pixel's channels lie side by side
        return super().forward(images.contiguous(memory_format=torch.channels_last))


def _stage(groups: tuple[_Group, ...], in_channels: int, norm: NormFactory) -> nn.Sequential:
    blocks: list[nn.Module] = []
    for group in groups:
        for j in range(group.num_blocks):
            blocks.append(
                MBConv(
                    in_channels=in_channels,
                    out_channels=group.channels,
                    expansion=group.expansion,
                    kernel=group.kernel,
                    stride=group.stride if j == 0 else 1,
                    norm=norm,
                )
            )
            in_channels = group.channels
    return nn.Sequential(*blocks)
