"""The heads, which predict the output maps: embedding, seediness, semantics and appearance (method.md §3, §4)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stemseg.config import Config
from stemseg.modeling.decoders.squeeze_expand import SqueezeExpandDecoder
from stemseg.modeling.embedding import add_coordinates
from stemseg.structures.embedding_dims import EmbeddingDims, parse_dim_mode
from stemseg.structures.network_output import FeaturePyramid

STRIDE32, STRIDE4, TRUNK = "stride32", "stride4", "trunk"
_HIDDEN_CHANNELS = 64
_STRIDE32_UPSAMPLING = 8  # from stride 32 to quarter scale


class EmbeddingMaps(NamedTuple):
    """Outputs of the embedding head for N clips.

    Attributes:
        embedding: [N, E, T, h, w] offsets plus coordinates, float32.
        raw_bandwidth: [N, B, T, h, w] float32, before 10 * exp(.).
        seediness: [N, 1, T, h, w] float32 in [0, 1]; None where a head of its own predicts it.
    """

    embedding: Tensor
    raw_bandwidth: Tensor
    seediness: Tensor | None


class EmbeddingHead(SqueezeExpandDecoder):
    """Predicts each pixel's place in the space-time embedding and the bandwidth of its instance's Gaussian.

    The paper's "position decoder".

    Args:
        dims: the embedding's dimensions.
        predict_seediness: whether seediness is one more output, for models without a seediness head.
        tanh_activation: squash offsets to (-1, 1) by tanh(0.25 x).
        tanh_free_dims: with it, those of the free dimensions too; else they are 0.25 x.
        time_scale: the time axis runs from -time_scale to time_scale.
        trunk: arguments of :class:`SqueezeExpandDecoder`.
    """

    time_scale: Tensor  # a scalar

    def __init__(
        self,
        *,
        dims: EmbeddingDims,
        predict_seediness: bool,
        tanh_activation: bool = True,
        tanh_free_dims: bool = True,
        time_scale: float = 1.0,
        **trunk: Any,
    ) -> None:
        super().__init__(**trunk)
        self.dims = dims
        self.tanh_activation = tanh_activation
        self.tanh_free_dims = tanh_free_dims
        self.register_buffer("time_scale", torch.tensor(float(time_scale)))
        self.conv_embedding = nn.Conv3d(self.out_channels, dims.size, 1, bias=False)
        self.conv_variance = nn.Conv3d(self.out_channels, dims.num_bandwidths, 1)
        self.conv_seediness = nn.Conv3d(self.out_channels, 1, 1, bias=False) if predict_seediness else None

    def forward(self, features: FeaturePyramid) -> EmbeddingMaps:
        """Maps [N, C, T, H/s, W/s] -> maps at quarter scale."""
        return self.predict(self.decode(features))

    def predict(self, trunk: Tensor) -> EmbeddingMaps:
        """The maps from the trunk's output [N, c4, T, H/4, W/4]."""
        offsets = self.conv_embedding(trunk).float()
        if self.tanh_activation:
            free = 0 if self.tanh_free_dims else self.dims.num_free
            squashed, unbounded = (0.25 * offsets).split([self.dims.size - free, free], dim=1)
            offsets = torch.cat([torch.tanh(squashed), unbounded], dim=1)
        seediness = None if self.conv_seediness is None else torch.sigmoid(self.conv_seediness(trunk).float())
        embedding = add_coordinates(offsets, self.dims.coordinates, self.time_scale)
        return EmbeddingMaps(embedding, self.conv_variance(trunk).float(), seediness)


class SeedinessHead(SqueezeExpandDecoder):
    """Predicts how close each pixel's embedding is to its instance's center. The paper's "spike decoder"."""

    def __init__(self, **trunk: Any) -> None:
        super().__init__(**trunk)
        self.conv_out = nn.Conv3d(self.out_channels, 1, 1, bias=False)

    def forward(self, features: FeaturePyramid) -> Tensor:
        """Maps [N, C, T, H/s, W/s] -> [N, 1, T, H/4, W/4] float32 in [0, 1]."""
        return self.predict(self.decode(features))

    def predict(self, trunk: Tensor) -> Tensor:
        """The seediness from the trunk's output [N, c4, T, H/4, W/4]."""
        return torch.sigmoid(self.conv_out(trunk).float())


class SemanticMaps(NamedTuple):
    """Outputs of the semantic head for N clips.

    Attributes:
        class_logits: [N, K, T, h, w] float32, class 0 is the background; None without a semantic head.
        foreground_logits: [N, 1, T, h, w] float32, or None.
    """

    class_logits: Tensor | None
    foreground_logits: Tensor | None


class SemanticHead(SqueezeExpandDecoder):
    """Predicts the class of each pixel and, apart from it, whether it belongs to any instance.

    Args:
        num_classes: K, including the background.
        foreground_channel: whether there is a foreground output, the last channel of ``conv_out``.
        trunk: arguments of :class:`SqueezeExpandDecoder`.
    """

    def __init__(self, *, num_classes: int, foreground_channel: bool, **trunk: Any) -> None:
        super().__init__(**trunk)
        self.num_classes = num_classes
        self.conv_out = nn.Conv3d(self.out_channels, num_classes + int(foreground_channel), 1, bias=False)

    def forward(self, features: FeaturePyramid) -> SemanticMaps:
        """Maps [N, C, T, H/s, W/s] -> logits at quarter scale."""
        return self.predict(self.decode(features))

    def predict(self, trunk: Tensor) -> SemanticMaps:
        """The logits from the trunk's output [N, c4, T, H/4, W/4]."""
        return _split_semantics(self.conv_out(trunk).float(), self.num_classes)


class SharedSemanticHead(nn.Module):
    """Predicts what :class:`SemanticHead` does from the embedding head's trunk: one decoder instead of two.

    Args:
        in_channels: of the trunk.
        num_classes: K, including the background.
        foreground_channel: whether there is a foreground output, the last channel of ``conv_out``.
    """

    def __init__(self, *, in_channels: int, num_classes: int, foreground_channel: bool) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.conv_out = nn.Conv3d(in_channels, num_classes + int(foreground_channel), 1)

    def predict(self, trunk: Tensor) -> SemanticMaps:
        """The embedding head's trunk [N, c4, T, H/4, W/4] -> logits at quarter scale."""
        return _split_semantics(self.conv_out(trunk).float(), self.num_classes)


def _split_semantics(logits: Tensor, num_classes: int) -> SemanticMaps:
    foreground = logits[:, num_classes:]
    return SemanticMaps(logits[:, :num_classes], foreground if foreground.shape[1] else None)


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


def build_embedding_head(cfg: Config) -> EmbeddingHead:
    """The embedding head of ``MODEL.EMBEDDINGS`` and ``MODEL.EMBEDDING_DIM_MODE``."""
    section = cfg.MODEL.EMBEDDINGS
    return EmbeddingHead(
        dims=parse_dim_mode(cfg.MODEL.EMBEDDING_DIM_MODE),
        predict_seediness=not cfg.MODEL.USE_SEEDINESS_HEAD,
        tanh_activation=section.TANH_ACTIVATION,
        tanh_free_dims=section.TANH_FREE_DIMS,
        time_scale=section.TIME_SCALE,
        **_trunk_arguments(cfg, section),
    )


def build_seediness_head(cfg: Config) -> SeedinessHead | None:
    """The seediness head of ``MODEL.SEEDINESS``; None without ``MODEL.USE_SEEDINESS_HEAD``."""
    if not cfg.MODEL.USE_SEEDINESS_HEAD:
        return None
    return SeedinessHead(**_trunk_arguments(cfg, cfg.MODEL.SEEDINESS))


def build_semantic_head(cfg: Config) -> SemanticHead | SharedSemanticHead | None:
    """The semantic head of ``MODEL.SEMSEG``; None without ``MODEL.USE_SEMSEG_HEAD``."""
    if not cfg.MODEL.USE_SEMSEG_HEAD:
        return None
    section = cfg.MODEL.SEMSEG
    if section.SHARE_TRUNK:
        return SharedSemanticHead(
            in_channels=cfg.MODEL.EMBEDDINGS.INTER_CHANNELS[-1],
            num_classes=cfg.INPUT.NUM_CLASSES,
            foreground_channel=section.FOREGROUND_CHANNEL,
        )
    return SemanticHead(
        num_classes=cfg.INPUT.NUM_CLASSES,
        foreground_channel=section.FOREGROUND_CHANNEL,
        **_trunk_arguments(cfg, section),
    )


def build_appearance_decoder(cfg: Config) -> AppearanceDecoder | None:
    """The decoder of ``MODEL.OFFSET``; None without ``MODEL.USE_OFFSET_HEAD``."""
    model = cfg.MODEL
    if not model.USE_OFFSET_HEAD:
        return None
    source = model.OFFSET.FEATURES
    channels = model.EMBEDDINGS.INTER_CHANNELS[-1] if source == TRUNK else model.RESNETS.BACKBONE_OUT_CHANNELS
    return AppearanceDecoder(len(model.GLOW_DIM_MODE), feature_channels=channels, source=source)


def _trunk_arguments(cfg: Config, section: Config) -> dict[str, Any]:
    return {
        "in_channels": cfg.MODEL.RESNETS.BACKBONE_OUT_CHANNELS,
        "inter_channels": section.INTER_CHANNELS,
        "num_frames": cfg.INPUT.NUM_FRAMES,
        "num_groups": section.GN_NUM_GROUPS if section.NORMALIZATION_LAYER == "gn" else 0,
        "pool_type": section.POOL_TYPE,
    }


def _pointwise(*channels: int) -> nn.Sequential:
    """1x1x1 convolutions with biases, one for each step from a number of channels to the next."""
    return nn.Sequential(*(nn.Conv3d(i, o, 1) for i, o in pairwise(channels)))
