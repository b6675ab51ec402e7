"""The backbone that a configuration describes: ResNet or EfficientNet, and a feature pyramid network on top of it."""

from __future__ import annotations

from stemseg.config import Config
from stemseg.modeling.backbone.efficientnet import EfficientNetLite0
from stemseg.modeling.backbone.norms import norm_factory
from stemseg.modeling.backbone.resnet import FPN, Backbone, ResNet

BLOCKS_PER_STAGE = {
    "R-14-FPN": (1, 1, 1, 1),
    "R-26-FPN": (2, 2, 2, 2),
    "R-50-FPN": (3, 4, 6, 3),
    "R-101-FPN": (3, 4, 23, 3),
}
EFFICIENTNET = "EfficientNet-Lite0-FPN"


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
