"""The decoder of the appearance embedding A (method.md §4); ``modeling/embedding.py`` mixes A in."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from stemseg.config import Config
from stemseg.structures.network_output import FeaturePyramid

STRIDE32, STRIDE4, TRUNK = "stride32", "stride4", "trunk"
_HIDDEN_CHANNELS = 64
_STRIDE32_UPSAMPLING = 8  # from stride 32 to quarter scale


class AppearanceDecoder(nn.Module):
    """Predicts A, the free dimensions that tell look-alike places apart by what is seen there.

    Args:
        channels: A, the number of appearance dimensions.
        feature_channels: channels of the FPN maps, or of the embedding decoder's trunk.
        source: "stride32": the coarsest FPN map, as published; "stride4": the finest, where a frame sees itself alone;
            "trunk": what the embedding head predicts from.
    """

    def __init__(self, channels: int, *, feature_channels: int, source: str = STRIDE32) -> None:
        super().__init__()
        self.source = source
        self.conv1_add = _pointwise(feature_channels, _HIDDEN_CHANNELS, channels)
        if source == STRIDE32:
            # nothing reads this branch; published checkpoints hold it, and are loaded strictly
            self.conv1_cat = _pointwise(4 * feature_channels, feature_channels, _HIDDEN_CHANNELS, channels)
            self.conv1_cat.requires_grad_(False)

    def choose(self, features: FeaturePyramid) -> Tensor:
        """The FPN map that :meth:`forward` wants."""
        return features.stride4 if self.source == STRIDE4 else features.stride32

    def forward(self, features: Tensor, trunk: Tensor) -> Tensor:
        """A [N, A, T, H/4, W/4] float32.

        Args:
            features: FPN maps of clips (:meth:`choose`), [N, C, T, H/32, W/32], or of stride 4.
            trunk: the embedding decoder's trunk, [N, C', T, H/4, W/4].
        """
        if self.source != STRIDE32:
            return self.conv1_add(trunk if self.source == TRUNK else features).float()
        # 1x1x1 convolutions and interpolation commute; this order has 64 times fewer points to convolve
        appearance = self.conv1_add(features).float()
        factors = (1, _STRIDE32_UPSAMPLING, _STRIDE32_UPSAMPLING)
        return F.interpolate(appearance, scale_factor=factors, mode="trilinear", align_corners=False)


def build_appearance_decoder(cfg: Config) -> AppearanceDecoder | None:
    """The decoder of ``MODEL.OFFSET``; None without ``MODEL.USE_OFFSET_HEAD``."""
    model = cfg.MODEL
    if not model.USE_OFFSET_HEAD:
        return None
    source = model.OFFSET.FEATURES
    channels = model.EMBEDDINGS.INTER_CHANNELS[-1] if source == TRUNK else model.RESNETS.BACKBONE_OUT_CHANNELS
    return AppearanceDecoder(len(model.GLOW_DIM_MODE), feature_channels=channels, source=source)


def _pointwise(*channels: int) -> nn.Sequential:
    """1x1x1 convolutions with biases, one for each step from a number of channels to the next."""
    return nn.Sequential(*(nn.Conv3d(i, o, 1) for i, o in pairwise(channels)))
