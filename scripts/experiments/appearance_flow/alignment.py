"""Gradient alignment: whether each loss moves the appearance embedding towards separating instances, or elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from stemseg.config import Config
from stemseg.data.preprocessing import PackedClip, collate_clips
from stemseg.modeling.embedding import mix_appearance
from stemseg.modeling.losses.appearance_loss import appearance_loss
from stemseg.modeling.network import Network
from stemseg.structures.clip import ClipBatch
from stemseg.training.loss import downscale_targets

_CLIPS_PER_BATCH = 4


def alignment_figures(cfg: Config, network: Network, clips: Sequence[PackedClip]) -> dict[str, float]:
    """Compare the gradients that a trained network's losses send to A with the direction that separates instances.

    Returns:
        mask_alignment, flow_alignment: cosine of what a step down the loss changes in A and of what raises
        the separation, mean over the held-out videos; 1: the loss does nothing but separate instances, 0: it does
        not care about them.
        Only the losses that the configuration trains A with.
    """
    losses = _losses(cfg)
    starts = range(0, len(clips), _CLIPS_PER_BATCH) if losses else ()
    batches = [_alignments(network, collate_clips(clips[i : i + _CLIPS_PER_BATCH]).to("cpu"), losses) for i in starts]
    return {f"{name}_alignment": torch.stack([batch[name] for batch in batches]).nanmean().item() for name in losses}


def separation(appearance: Tensor, masks: Sequence[Tensor]) -> Tensor:
    """log(distance^2 of the instances' means / variance within the instances), sum over the clips that have several.

    Args:
        appearance: [N, A, T, h, w].
        masks: of the clips, N tensors [I, T, h, w].
    """
    total = appearance.new_zeros(())
    for values, clip_masks in zip(appearance.flatten(2), masks, strict=True):
        weights = clip_masks.flatten(1).to(values.dtype)
        weights = weights[weights.amax(dim=1) > 0]
        if len(weights) < 2:
            continue
        weights = weights / weights.sum(dim=1, keepdim=True)
        means = weights @ values.t()  # [I, A]
        within = weights @ values.square().t() - means.square()
        total = total + F.pdist(means).square().mean().log() - within.sum(dim=1).mean().log()
    return total


def _losses(cfg: Config) -> tuple[str, ...]:
    """The losses that train A in this configuration."""
    section = cfg.MODEL.OFFSET
    if not cfg.MODEL.USE_OFFSET_HEAD:
        return ()
    by_flow = section.DEQUANTISATION != "floor" and section.GRADIENT_SCALE * cfg.TRAINING.LOSSES.WEIGHT_OFFSET > 0
    return tuple(name for name, used in (("mask", not section.DETACH), ("flow", by_flow)) if used)


def _alignments(network: Network, batch: ClipBatch, losses: Sequence[str]) -> dict[str, Tensor]:
    """The cosine for each of the losses, of one batch; NaN where no clip has several instances."""
    targets = [downscale_targets(t) for t in batch.targets]
    masks = [t.masks for t in targets]
    with torch.no_grad():
        output = network(batch.frames)
        rest = mix_appearance(output.embedding, -output.appearance, detach=False)
    appearance = output.appearance.clone().requires_grad_()
    embedding = mix_appearance(rest, appearance, detach=False)
    values = {
        "separation": separation(appearance, masks),
        "mask": network.embedding_loss_criterion(output._replace(embedding=embedding), targets).total,
        "flow": appearance_loss(network.offset_head, appearance, masks).bits_per_dimension,
    }
    if not values["separation"].requires_grad:
        return dict.fromkeys(losses, torch.tensor(torch.nan))
    gradients = {name: torch.autograd.grad(value, appearance)[0].flatten() for name, value in values.items()}
    return {name: F.cosine_similarity(-gradients[name], gradients["separation"], dim=0) for name in losses}
