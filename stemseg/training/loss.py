"""The loss that training minimizes: the network's outputs against their targets, terms and weights (method.md §6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from stemseg.config import Config
from stemseg.modeling.losses.appearance_loss import appearance_loss, quarter_colors
from stemseg.modeling.losses.semantic_loss import semantic_losses
from stemseg.modeling.network import Network
from stemseg.structures.clip import ClipBatch, ClipTargets
from stemseg.structures.network_output import NetworkOutput


class LossReport(NamedTuple):
    """The loss of a batch of clips.

    Attributes:
        total: scalar, to be minimized.
        terms: detached scalars for the log, before their weights except "embedding", which is the weighted sum.
        output: what the network returned, detached, for pictures.
    """

    total: Tensor
    terms: dict[str, Tensor]
    output: NetworkOutput


class TrainingLoss(nn.Module):
    """Maps a batch of clips to its loss. Distributed training wraps this module; checkpoints hold ``network`` alone.

    Args:
        network: the network to train; its embedding criterion has the weights of its own terms.
        semantic_weight: of the class and the foreground loss.
        flow_weight: of the appearance flow's bits per dimension.
        loss_at_full_resolution: upsample the outputs to the targets, instead of shrinking the targets.
        freeze_backbone: no gradient for the backbone, and eval mode always.

    Attributes:
        network: the same.
        warming_up: set to train the appearance flow alone, on A as the network happens to make it.
    """

    def __init__(
        self,
        network: Network,
        *,
        semantic_weight: float = 1.0,
        flow_weight: float = 1.0,
        loss_at_full_resolution: bool = False,
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.warming_up = False
        self._semantic_weight = semantic_weight
        self._flow_weight = flow_weight
        self._full_resolution = loss_at_full_resolution
        self._freeze_backbone = freeze_backbone
        if freeze_backbone:
            network.backbone.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> TrainingLoss:
        """Switch between training and evaluation; a frozen backbone stays in evaluation."""
        super().train(mode)
        if self._freeze_backbone:
            self.network.backbone.eval()
        return self

    def finish_step(self) -> None:
        """Let the appearance flow take in what it saw of A since the last optimizer step."""
        if self.network.offset_head is not None:
            self.network.offset_head.finish_step()

    def forward(self, batch: ClipBatch) -> LossReport:
        """Run the network over ``batch`` and weigh up its losses, these in float32 under mixed precision too."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.warming_up):
            output = self.network(batch.frames)
        with torch.autocast(batch.frames.device.type, enabled=False):
            return self._loss(_as_float32(output), batch)

    def _loss(self, output: NetworkOutput, batch: ClipBatch) -> LossReport:
        targets = batch.targets
        small_targets = [downscale_targets(t) for t in targets]
        if self._full_resolution:
            total, terms = self._segmentation_loss(upsample_output(output), targets)
        else:
            total, terms = self._segmentation_loss(output, small_targets)
        head = self.network.offset_head
        if head is not None and output.appearance is not None:
            colors = quarter_colors(batch.frames) if head.needs_colors else None
            flow = appearance_loss(head, output.appearance, [t.masks for t in small_targets], colors)
            flow_total = self._flow_weight * flow.bits_per_dimension
            total = flow_total if self.warming_up else total + flow_total
            terms |= {name: value for name, value in flow._asdict().items() if value is not None}
        return LossReport(total, {k: v.detach() for k, v in terms.items()}, _map(Tensor.detach, output))

    def _segmentation_loss(
        self, compared: NetworkOutput, targets: Sequence[ClipTargets]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The embedding and the semantic loss: weighted total, and terms."""
        embedding = self.network.embedding_loss_criterion(compared, targets)
        terms = {"embedding": embedding.total, **embedding._asdict()}
        del terms["total"]
        total = embedding.total
        if compared.class_logits is not None:
            semantic = semantic_losses(compared, targets)._asdict()
            semantic = {name: value for name, value in semantic.items() if value is not None}
            total = total + self._semantic_weight * sum(semantic.values())
            terms |= semantic
        return total, terms


def upsample_output(output: NetworkOutput) -> NetworkOutput:
    """Every map of ``output`` at four times its height and width, linearly interpolated within each frame."""
    return _map(
        lambda x: functional.interpolate(x, scale_factor=(1.0, 4.0, 4.0), mode="trilinear", align_corners=False), output
    )


def build_loss(cfg: Config, network: Network) -> TrainingLoss:
    """The loss of ``TRAINING.LOSSES``, ``TRAINING.LOSS_AT_FULL_RES`` and ``TRAINING.FREEZE_BACKBONE``."""
    return TrainingLoss(
        network,
        semantic_weight=cfg.TRAINING.LOSSES.SEMSEG.WEIGHT,
        flow_weight=cfg.TRAINING.LOSSES.WEIGHT_OFFSET,
        loss_at_full_resolution=cfg.TRAINING.LOSS_AT_FULL_RES,
        freeze_backbone=cfg.TRAINING.FREEZE_BACKBONE,
    )


def _as_float32(output: NetworkOutput) -> NetworkOutput:
    return _map(Tensor.float, output)


def _map(function: Callable[[Tensor], Tensor], output: NetworkOutput) -> NetworkOutput:
    return NetworkOutput._make(None if x is None else function(x) for x in output)


def downscale_targets(targets: ClipTargets) -> ClipTargets:
    """Masks and ignore mask at a quarter of the size (method.md §1); H and W must be multiples of 4.

    Published weights were trained on bilinear interpolation followed by truncation to integers: a pixel is 1 only where
    all the pixels that it interpolates are. With a factor of 1/4 these are the inner 2x2 of each 4x4.
    """
    return ClipTargets(_erode(targets.masks), targets.category_ids, _erode(targets.ignore_mask))


def _erode(mask: Tensor) -> Tensor:
    """[..., H, W] uint8 -> [..., H/4, W/4]."""
    rows = mask[..., 1::4, :] & mask[..., 2::4, :]  # [..., H/4, W]
    return rows[..., 1::4] & rows[..., 2::4]
