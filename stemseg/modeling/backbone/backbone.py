"""The backbone: ResNet and FPN, built from a configuration."""

from __future__ import annotations

from torch import Tensor, nn

from stemseg.config import Config
from stemseg.modeling.backbone.fpn import FPN
from stemseg.modeling.backbone.norms import norm_factory
from stemseg.modeling.backbone.resnet import ResNet
from stemseg.structures.network_output import FeaturePyramid

BLOCKS_PER_STAGE = {
    "R-14-FPN": (1, 1, 1, 1),
    "R-26-FPN": (2, 2, 2, 2),
    "R-50-FPN": (3, 4, 6, 3),
    "R-101-FPN": (3, 4, 23, 3),
}


class Backbone(nn.Module):
    """ResNet ``body`` and ``fpn``; its state dict is what a pretrained backbone file holds."""

    def __init__(self, body: ResNet, fpn: FPN) -> None:
        super().__init__()
        self.body = body
        self.fpn = fpn

    def forward(self, images: Tensor) -> FeaturePyramid:
        """[F, 3, H, W] -> maps [F, C, H/s, W/s]; H and W are multiples of 32."""
        return self.fpn(self.body(images))


def build_backbone(cfg: Config) -> Backbone:
    """The backbone that ``MODEL.BACKBONE`` and ``MODEL.RESNETS`` describe, randomly initialised."""
    backbone, resnets = cfg.MODEL.BACKBONE, cfg.MODEL.RESNETS
    body = ResNet(
        blocks_per_stage=BLOCKS_PER_STAGE[backbone.TYPE],
        stem_channels=resnets.STEM_OUT_CHANNELS,
        stage1_channels=resnets.RES2_OUT_CHANNELS,
        stage1_width=resnets.WIDTH_PER_GROUP,
        stride_in_1x1=resnets.STRIDE_IN_1X1,
        norm=norm_factory(backbone.NORM, num_groups=backbone.NORM_GROUPS),
        freeze_at=backbone.FREEZE_AT_STAGE,
    )
    return Backbone(body, FPN(body.out_channels, resnets.BACKBONE_OUT_CHANNELS))
