"""ResNet-FPN (method.md §2): bottleneck blocks of the Caffe2 kind; module names as in published checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from stemseg.modeling.backbone.norms import NormFactory
from stemseg.structures.network_output import FeaturePyramid


class Stem(nn.Module):
    """7x7 convolution, norm, ReLU and 3x3 max pooling: stride 4."""

    def __init__(self, out_channels: int, norm: NormFactory) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, out_channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = norm(out_channels)

    def forward(self, images: Tensor) -> Tensor:
        """[F, 3, H, W] -> [F, C, H/4, W/4]."""
        return F.max_pool2d(F.relu(self.bn1(self.conv1(images)), inplace=True), 3, stride=2, padding=1)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each followed by a norm, around a shortcut."""

    def __init__(
        self, *, in_channels: int, width: int, out_channels: int, stride: int, stride_in_1x1: bool, norm: NormFactory
    ) -> None:
        super().__init__()
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        self.downsample: nn.Module | None = None
        if in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), norm(out_channels)
            )
        self.conv1 = nn.Conv2d(in_channels, width, 1, stride=stride_1x1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride_3x3, padding=1, bias=False)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[F, C_in, H, W] -> [F, C_out, H/stride, W/stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        return F.relu(self.bn3(self.conv3(y)) + shortcut, inplace=True)


class Body(nn.Module):
    """Stem and four stages, under the names ``stem``, ``layer1`` ... ``layer4``: what is before the FPN.

    Args:
        stem: images [F, 3, H, W] -> [F, C, H/s, W/s], the resolution of the first stage's input.
        stages: each takes the map before it.
        freeze_at: 0 freezes nothing; n freezes the stem and the stages 1 ... n - 1.

    Attributes:
        out_channels: of the four maps.
    """

    out_channels: list[int]

    def __init__(self, stem: nn.Module, stages: Sequence[nn.Module], freeze_at: int) -> None:
        super().__init__()
        self.stem = stem
        for i, stage in enumerate(stages, start=1):
            self.add_module(f"layer{i}", stage)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self._frozen_names = ["stem", "layer1", "layer2", "layer3", "layer4"][:freeze_at]
        for name in self._frozen_names:
            self.get_submodule(name).requires_grad_(False)

    def train(self, mode: bool = True) -> Body:
        """As ``nn.Module.train``; frozen stages stay in eval mode so that no running statistics of theirs move."""
        super().train(mode)
        for name in self._frozen_names:
            self.get_submodule(name).eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """[F, 3, H, W] -> four maps [F, C_i, H/s, W/s], s = 4, 8, 16, 32; H and W are multiples of 32."""
        maps = []
        x = self.stem(images)
        for i in range(1, 5):
            x = self.get_submodule(f"layer{i}")(x)
            maps.append(x)
        return maps


class ResNet(Body):
    """Stem and four stages; returns the maps of the stages, strides 4, 8, 16, 32.

    Args:
        blocks_per_stage: bottlenecks in each of the four stages.
        stem_channels: channels of the stem.
        stage1_channels: channels of the first stage's map; they double with each stage.
        stage1_width: channels inside the first stage's bottlenecks; they double with each stage.
        stride_in_1x1: stride in a bottleneck's first 1x1 convolution (Caffe2) or in its 3x3 (torchvision).
        norm: makes a normalization layer from a number of channels.
        freeze_at: 0 freezes nothing; n freezes the stem and the stages 1 ... n - 1.
    """

    def __init__(
        self,
        *,
        blocks_per_stage: Sequence[int],
        stem_channels: int,
        stage1_channels: int,
        stage1_width: int,
        stride_in_1x1: bool,
        norm: NormFactory,
        freeze_at: int,
    ) -> None:
        stem, stages = Stem(stem_channels, norm), []
        channels = [stage1_channels * 2**i for i in range(4)]
        in_channels = stem_channels
        for i, (num_blocks, out_channels) in enumerate(zip(blocks_per_stage, channels, strict=True)):
            blocks = [
                Bottleneck(
                    in_channels=in_channels if j == 0 else out_channels,
                    width=stage1_width * 2**i,
                    out_channels=out_channels,
                    stride=2 if i > 0 and j == 0 else 1,
                    stride_in_1x1=stride_in_1x1,
                    norm=norm,
                )
                for j in range(num_blocks)
            ]
            stages.append(nn.Sequential(*blocks))
            in_channels = out_channels
        super().__init__(stem, stages, freeze_at)
        self.out_channels = channels


class FPN(nn.Module):
    """Brings the backbone's maps to one number of channels and adds context from coarser maps to finer ones.

    ``fpn_inner{1..4}`` are the 1x1 lateral convolutions, ``fpn_layer{1..4}`` the 3x3 output convolutions.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        for i, channels in enumerate(in_channels, start=1):
            self.add_module(f"fpn_inner{i}", nn.Conv2d(channels, out_channels, 1))
            self.add_module(f"fpn_layer{i}", nn.Conv2d(out_channels, out_channels, 3, padding=1))
        for conv in self.children():
            weight, bias = conv.parameters()
            nn.init.kaiming_uniform_(weight, a=1)
            nn.init.zeros_(bias)

    def forward(self, maps: Sequence[Tensor]) -> FeaturePyramid:
        """Four maps [F, C_i, H/s, W/s], finest first -> [F, C, H/s, W/s]."""
        top_down = self.get_submodule("fpn_inner4")(maps[3])
        outputs = [self.get_submodule("fpn_layer4")(top_down)]
        for i in (3, 2, 1):
            lateral = self.get_submodule(f"fpn_inner{i}")(maps[i - 1])
            # bilinear where most implementations take the nearest pixel: published weights were trained like this
            top_down = lateral + F.interpolate(top_down, scale_factor=2.0, mode="bilinear", align_corners=False)
            outputs.append(self.get_submodule(f"fpn_layer{i}")(top_down))
        return FeaturePyramid(*reversed(outputs))


class Backbone(nn.Module):
    """ResNet or EfficientNet ``body``, and ``fpn``; its state dict is what a pretrained backbone file holds."""

    def __init__(self, body: Body, fpn: FPN) -> None:
        super().__init__()
        self.body = body
        self.fpn = fpn

    def forward(self, images: Tensor) -> FeaturePyramid:
        """[F, 3, H, W] -> maps [F, C, H/s, W/s]; H and W are multiples of 32."""
        return self.fpn(self.body(images))
