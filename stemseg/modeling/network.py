"""The whole network: frames of clips in, embedding, bandwidth, seediness and semantic maps out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn

from stemseg.config import Config
from stemseg.modeling.backbone.build import build_backbone
from stemseg.modeling.backbone.norms import FrozenBatchNorm, fold_norms
from stemseg.modeling.backbone.resnet import Backbone
from stemseg.modeling.clip_stream import ClipStream, FrameTerms, SharedClipStream
from stemseg.modeling.decoders.heads import (
    AppearanceDecoder,
    EmbeddingHead,
    EmbeddingMaps,
    SeedinessHead,
    SemanticHead,
    SemanticMaps,
    SharedSemanticHead,
    build_appearance_decoder,
    build_embedding_head,
    build_seediness_head,
    build_semantic_head,
)
from stemseg.modeling.decoders.squeeze_expand import SqueezeExpandDecoder
from stemseg.modeling.embedding import mix_appearance
from stemseg.modeling.losses.appearance_loss import AppearanceHead, build_appearance_head
from stemseg.modeling.losses.embedding_loss import EmbeddingCriterion, build_embedding_criterion
from stemseg.structures.network_output import FeaturePyramid, NetworkOutput
from stemseg.utils.devices import check_compiler
from stemseg.utils.errors import ConfigError, DataError
from stemseg.utils.text import shorten_list

_logger = logging.getLogger("stemseg.modeling")

SIZE_MULTIPLE = 32


class Network(nn.Module):
    """Backbone and heads. Its state dict has the keys of published checkpoints.

    Args:
        backbone: makes feature maps of single frames.
        embedding_head: embedding and bandwidth, and seediness where ``seediness_head`` is None.
        embedding_loss_criterion: holds the constant bandwidths of the free dimensions, which belong to the weights.
        seediness_head: or None.
        semseg_head: or None.
        offset_decoder: makes the appearance embedding A, for a hierarchical embedding; or None.
        offset_head: what trains A beside the mask loss, the density model of A as published; or None.
        detach_appearance: nothing that is made from the embedding sends a gradient to A (the released behavior).
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        embedding_head: EmbeddingHead,
        embedding_loss_criterion: EmbeddingCriterion,
        seediness_head: SeedinessHead | None = None,
        semseg_head: SemanticHead | SharedSemanticHead | None = None,
        offset_decoder: AppearanceDecoder | None = None,
        offset_head: AppearanceHead | None = None,
        detach_appearance: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.embedding_head = embedding_head
        self.embedding_loss_criterion = embedding_loss_criterion
        self.seediness_head = seediness_head
        self.semseg_head = semseg_head
        self.offset_decoder = offset_decoder
        self.offset_head = offset_head
        self._detach_appearance = detach_appearance

    @property
    def free_dim_bandwidths(self) -> Tensor:
        """[n], the constant bandwidth 1 / std^2 of each free dimension; n may be 0."""
        return self.embedding_loss_criterion.free_dim_bandwidths[0]

    @property
    def num_frames(self) -> int:
        """T, the clip length that the decoders were built for."""
        return self.embedding_head.num_frames

    def encode(self, frames: Tensor) -> FeaturePyramid:
        """Feature maps of single frames: [F, 3, H, W] -> [F, C, H/s, W/s], s = 4, 8, 16, 32.

        Raises:
            DataError: where H or W is not a multiple of 32.
        """
        height, width = frames.shape[-2:]
        if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE:
            raise DataError(
                f"the network got frames of {height} x {width} pixels, expected multiples of {SIZE_MULTIPLE}; pad them"
            )
        return self.backbone(frames)

    @property
    def decoders(self) -> list[SqueezeExpandDecoder]:
        """The heads that read the feature maps by a trunk of their own; the embedding head comes first."""
        heads = (self.embedding_head, self.seediness_head, self.semseg_head)
        return [head for head in heads if isinstance(head, SqueezeExpandDecoder)]

    def decode(self, features: FeaturePyramid) -> NetworkOutput:
        """All heads on the feature maps of clips [N, C, T, H/s, W/s]; see :func:`stack_clips`."""
        return self._predict([decoder.decode(features) for decoder in self.decoders], self.appearance_map(features))

    def appearance_map(self, features: FeaturePyramid) -> Tensor:
        """The FPN map that the appearance decoder reads; without one the coarsest, which costs least to keep."""
        return features.stride32 if self.offset_decoder is None else self.offset_decoder.choose(features)

    def decode_convolved(self, convolved: Sequence[FeaturePyramid], of_appearance: Tensor) -> NetworkOutput:
        """All heads on the outputs of their blocks' first convolutions; see :mod:`stemseg.modeling.clip_stream`.

        Args:
            convolved: of each of :attr:`decoders`, [N, c_s, T, H/s, W/s].
            of_appearance: feature maps [N, C, T, H/s, W/s] of :meth:`appearance_map`.
        """
        trunks = [decoder.expand(maps) for decoder, maps in zip(self.decoders, convolved, strict=True)]
        return self._predict(trunks, of_appearance)

    def open_stream(self) -> ClipStream[FrameTerms]:
        """Take the frames of a video one after another and decode its clips, for inference."""
        return SharedClipStream(self)

    def _predict(self, trunks: Sequence[Tensor], of_appearance: Tensor) -> NetworkOutput:
        """The outputs of all heads, from the trunks [N, c4, T, H/4, W/4] of :attr:`decoders`."""
        trunk_of: dict[nn.Module, Tensor] = dict(zip(self.decoders, trunks, strict=True))
        trunk = trunks[0]
        maps, appearance = self._embed(of_appearance, trunk)
        seediness = maps.seediness
        if self.seediness_head is not None:
            seediness = self.seediness_head.predict(trunk_of[self.seediness_head])
        if seediness is None:
            raise ConfigError("the network has no seediness: neither of the embedding head nor of a head of its own")
        semantics = SemanticMaps(None, None)
        if self.semseg_head is not None:
            semantics = self.semseg_head.predict(trunk_of.get(self.semseg_head, trunk))
        return NetworkOutput(maps.embedding, maps.raw_bandwidth, seediness, *semantics, appearance)

    def _embed(self, of_appearance: Tensor, trunk: Tensor) -> tuple[EmbeddingMaps, Tensor | None]:
        """The embedding, A mixed in where there is one, and A itself."""
        maps = self.embedding_head.predict(trunk)
        if self.offset_decoder is None:
            return maps, None
        appearance = self.offset_decoder(of_appearance, trunk)
        mixed = mix_appearance(maps.embedding, appearance, detach=self._detach_appearance)
        return maps._replace(embedding=mixed), appearance

    def forward(self, frames: Tensor) -> NetworkOutput:
        """Clips [N, T, 3, H, W], normalized -> maps at quarter scale."""
        features = self.encode(frames.flatten(0, 1))  # of [N * T, 3, H, W]
        return self.decode(stack_clips(features, num_clips=frames.shape[0]))

    def prepare_for_inference(self) -> Network:
        """Make the network as fast as it can be where it is only run: eval mode, norms folded, channels-last backbone.

        In place and for good: its state dict no longer is a checkpoint's, so load weights first. One that is still
        trained gives :meth:`inference_copy`. On a CPU the backbone becomes 1.1 to 3 times faster.
        """
        fold_norms(self.backbone)
        convert = cast(Callable[..., Backbone], self.backbone.to)  # torch's types leave memory_format out
        convert(memory_format=torch.channels_last)
        return self.eval().requires_grad_(False)

    def compile_parts(self, *, backend: str = "inductor") -> Network:
        """Compile what inference runs: the backbone, and the heads behind the first convolutions. In place.

        On a GPU the backbone becomes one CUDA graph; each shape of input is compiled when it is first met.

        Raises:
            ConfigError: where PyTorch can't compile here.
        """
        device = self.free_dim_bandwidths.device
        check_compiler(device, backend=backend)
        graphs = {"mode": "reduce-overhead"} if device.type == "cuda" and backend == "inductor" else {}
        self.backbone.compile(backend=backend, **graphs)
        self.decode_convolved = torch.compile(self.decode_convolved, backend=backend)  # type: ignore[method-assign]
        return self

    def inference_copy(self) -> Network:
        """A copy prepared for inference (see :meth:`prepare_for_inference`); this network stays as it is."""
        return deepcopy(self).prepare_for_inference()


def stack_clips(features: FeaturePyramid, num_clips: int) -> FeaturePyramid:
    """Maps of N * T single frames [N * T, C, h, w], clip after clip -> maps of N clips [N, C, T, h, w]."""
    clips = (x.unflatten(0, (num_clips, -1)) for x in features)  # [N, T, C, h, w]
    return FeaturePyramid(*(x.transpose(1, 2).contiguous() for x in clips))


def build_network(cfg: Config) -> Network:
    """The network that a configuration describes, randomly initialized."""
    return Network(
        backbone=build_backbone(cfg),
        embedding_head=build_embedding_head(cfg),
        embedding_loss_criterion=build_embedding_criterion(cfg),
        seediness_head=build_seediness_head(cfg),
        semseg_head=build_semantic_head(cfg),
        offset_decoder=build_appearance_decoder(cfg),
        offset_head=build_appearance_head(cfg),
        detach_appearance=cfg.MODEL.OFFSET.DETACH,
    )


def check_random_start(network: Network) -> None:
    """Look at a network that starts with random weights; warns of norms that never do anything.

    Raises:
        ConfigError: where some of the weights are never trained.
    """
    train_all = "MODEL.BACKBONE.NORM=group MODEL.BACKBONE.FREEZE_AT_STAGE=0 TRAINING.FREEZE_BACKBONE=false"
    next_step = (
        "Name a pretrained backbone in MODEL.BACKBONE.PRETRAINED_WEIGHTS, or whole weights by --initial_ckpt; or train "
        f"everything: --set {train_all}"
    )
    frozen = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    if frozen:
        raise ConfigError(
            f"the network starts with random weights, but {len(frozen)} of them are frozen and would stay random: "
            f"{shorten_list(frozen, 4)}. {next_step}"
        )
    norms = sum(isinstance(module, FrozenBatchNorm) for module in network.modules())
    if norms:
        _logger.warning(
            "the network starts with random weights, and its %d frozen norms (MODEL.BACKBONE.NORM=frozen) normalize "
            "nothing: it will learn badly. %s", norms, next_step,
        )  # fmt: skip
