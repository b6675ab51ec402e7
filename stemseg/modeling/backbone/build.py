"""The backbone (method.md §2): a ResNet or EfficientNet and the feature pyramid network on top of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from stemseg.config import Config
from stemseg.modeling.backbone.efficientnet import EfficientNetLite0
from stemseg.modeling.backbone.norms import norm_factory
from stemseg.modeling.backbone.resnet import Body, ResNet
from stemseg.structures.network_output import FeaturePyramid


class FPN(nn.Module):
    """Brings the backbone's maps to one number of channels and adds context from coarser maps to finer ones.

    ``fpn_inner{1..4}`` are the 1x1 lateral convolutions, ``fpn_layer{1..4}`` the 3x3 output convolutions.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        for i, channels in enumerate(in_channels, start=1):
            self.add_module(f"fpn_inner{i}", nn.Conv2d(channels, out_channels, 1))
            self.add_module(f"fpn_layer{i}", nn.Conv2d(out_channels, out_channels, 3, padding=1))
        for conv in self.children():
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)

    def forward(self, maps: Sequence[Tensor]) -> FeaturePyramid:
        """Four maps [F, C_i, H/s, W/s], finest first -> [F, C, H/s, W/s]."""
        top_down = self.fpn_inner4(maps[3])
        outputs = [self.fpn_layer4(top_down)]
        for i in (3, 2, 1):
            lateral = self.get_submodule(f"fpn_inner{i}")(maps[i - 1])
            # bilinear where most implementations take the nearest pixel: published weights were trained like this
            top_down = lateral + F.interpolate(top_down, scale_factor=2.0, mode="bilinear", align_corners=False)
            outputs.append(self.get_submodule(f"fpn_layer{i}")(top_down))
        return FeaturePyramid(*reversed(outputs))


BLOCKS_PER_STAGE = {
    "R-14-FPN": (1, 1, 1, 1),
    "R-26-FPN": (2, 2, 2, 2),
    "R-50-FPN": (3, 4, 6, 3),
    "R-101-FPN": (3, 4, 23, 3),
}
EFFICIENTNET = "EfficientNet-Lite0-FPN"


class Backbone(nn.Module):
    """ResNet or EfficientNet ``body``, and ``fpn``; its state dict is what a pretrained backbone file holds."""

    def __init__(self, body: Body, fpn: FPN) -> None:
        super().__init__()
        self.body = body
        self.fpn = fpn

    def forward(self, images: Tensor) -> FeaturePyramid:
        """[F, 3, H, W] -> maps [F, C, H/s, W/s]; H and W are multiples of 32."""
        return self.fpn(self.body(images))


def build_backbone(cfg: Config) -> Backbone:
    """The backbone that ``MODEL.BACKBONE`` and ``MODEL.RESNETS`` describe, randomly initialized."""
    body = _build_efficientnet(cfg) if cfg.MODEL.BACKBONE.TYPE == EFFICIENTNET else _build_resnet(cfg)
    return Backbone(body, FPN(body.out_channels, cfg.MODEL.RESNETS.BACKBONE_OUT_CHANNELS))


def _build_efficientnet(cfg: Config) -> EfficientNetLite0:
    backbone = cfg.MODEL.BACKBONE
    norm = norm_factory(backbone.NORM, num_groups=backbone.NORM_GROUPS)
    return EfficientNetLite0(norm=norm, freeze_at=backbone.FREEZE_AT_STAGE)


def _build_resnet(cfg: Config) -> ResNet:
    backbone, resnets = cfg.MODEL.BACKBONE, cfg.MODEL.RESNETS
    return ResNet(
        blocks_per_stage=BLOCKS_PER_STAGE[backbone.TYPE],
        stem_channels=resnets.STEM_OUT_CHANNELS,
        stage1_channels=resnets.RES2_OUT_CHANNELS,
        stage1_width=resnets.WIDTH_PER_GROUP,
        stride_in_1x1=resnets.STRIDE_IN_1X1,
        norm=norm_factory(backbone.NORM, num_groups=backbone.NORM_GROUPS),
        freeze_at=backbone.FREEZE_AT_STAGE,
    )
