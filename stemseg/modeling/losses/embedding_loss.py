"""The embedding loss (method.md §6): Lovász hinge on Gaussian probabilities, bandwidth smoothness, seediness.

:func:`plain_embedding_loss` is the loss as the paper writes it, to be read and to try ideas on. Training uses
:class:`EmbeddingCriterion`, which computes the same numbers for all instances at once; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stemseg.config import Config
from stemseg.modeling.embedding import bandwidth, gaussian_probability, squared_distance
from stemseg.modeling.losses.lovasz import lovasz_hinge_terms, plain_lovasz_hinge
from stemseg.structures.clip import ClipTargets
from stemseg.structures.embedding_dims import EmbeddingDims, parse_dim_mode
from stemseg.structures.network_output import NetworkOutput

_NEGLIGIBLE_DISTANCE = 36.1  # 2 exp(-1/2 d) is less than half of float32's step below 1: the hinge's error rounds to 0


class EmbeddingLossTerms(NamedTuple):
    """Scalars: the weighted total, which is trained, and the unweighted terms, for the log."""

    total: Tensor
    lovasz: Tensor
    variance_smoothness: Tensor
    seediness: Tensor


def plain_embedding_loss(
    output: NetworkOutput,
    targets: Sequence[ClipTargets],
    *,
    free_dim_bandwidths: Tensor,
    weight: float = 1.0,
    weight_lovasz: float = 1.0,
    weight_variance_smoothness: float = 10.0,
    weight_seediness: float = 1.0,
) -> EmbeddingLossTerms:
    """The loss over N clips, instance by instance; the numbers in the comments are the equations of method.md §6.

    Args:
        output: maps of the clips, float32 or float64; the embedding, raw bandwidth and seediness are used.
        targets: N targets at the size of these maps.
        free_dim_bandwidths: [n], 1 / std^2 of each free dimension.
        weight, weight_lovasz, weight_variance_smoothness, weight_seediness: of the whole and of the terms.
    """
    lovasz = smoothness = seediness = 0.0 * (
        output.embedding.sum() + output.raw_bandwidth.sum() + output.seediness.sum()
    )
    num_instances = 0
    for *maps, target in zip(*output[:3], targets, strict=True):
        e, r, eta = (x.flatten(1) for x in maps)  # [E, P], [B, P], [1, P]
        b = torch.cat([10 * r.exp(), free_dim_bandwidths[:, None].expand(-1, r.shape[1])])  # [E, P] (6.1)
        masks = [mask for mask in target.masks.flatten(1).bool() if mask.any()]  # I of [P]
        for inside in masks:
            mu, b_j = (x[:, inside].mean(dim=1, keepdim=True) for x in (e, b))  # [E, 1] (6.2)
            p = torch.exp(-0.5 * (b_j * (e - mu).square()).sum(dim=0))  # [P] (6.3)
            lovasz = lovasz + plain_lovasz_hinge(2 * p - 1, inside)  # (6.4)
            smoothness = smoothness + r[:, inside].var(dim=1, correction=0).mean() / len(masks)  # (6.5)
            seediness = seediness + (eta[0, inside] - p[inside].detach()).square().mean()  # (6.6), inside
        if masks:
            outside = ~torch.stack(masks).any(dim=0)  # [P]
            errors = eta[0].square() * (target.ignore_mask.flatten() == 0)  # (6.6), outside
            seediness = seediness + errors[outside].sum() / outside.sum().clamp(min=1)
        num_instances += len(masks)
    lovasz, smoothness = lovasz / max(1, num_instances), smoothness / len(targets)
    seediness = seediness / (num_instances + 1)
    total = weight_lovasz * lovasz + weight_variance_smoothness * smoothness + weight_seediness * seediness
    return EmbeddingLossTerms(weight * total, lovasz, smoothness, seediness)


class _ClipSums(NamedTuple):
    """Sums over one clip's instances; seediness holds the clip's background term too."""

    lovasz: Tensor
    variance_smoothness: Tensor
    seediness: Tensor
    num_instances: int

    def plus(self, other: _ClipSums) -> _ClipSums:
        """The sums over the instances of both."""
        return _ClipSums(
            self.lovasz + other.lovasz,
            self.variance_smoothness + other.variance_smoothness,
            self.seediness + other.seediness,
            self.num_instances + other.num_instances,
        )


class EmbeddingCriterion(nn.Module):
    """The embedding loss of a batch of clips, vectorized over instances.

    Args:
        dims: the embedding's dimensions.
        free_dim_stds: standard deviation of the Gaussian in each free dimension.
        weight: of the whole loss.
        weight_lovasz, weight_variance_smoothness, weight_seediness: of the terms.
    """

    free_dim_bandwidths: Tensor  # [1, n], 1 / std^2

    def __init__(
        self,
        *,
        dims: EmbeddingDims,
        free_dim_stds: Sequence[float],
        weight: float = 1.0,
        weight_lovasz: float = 1.0,
        weight_variance_smoothness: float = 10.0,
        weight_seediness: float = 1.0,
    ) -> None:
        super().__init__()
        self.dims = dims
        self.weight = weight
        self.weight_lovasz = weight_lovasz
        self.weight_variance_smoothness = weight_variance_smoothness
        self.weight_seediness = weight_seediness
        bandwidths = torch.tensor([[1.0 / std**2 for std in free_dim_stds]])
        # published checkpoints hold the buffer only where there are free dimensions
        self.register_buffer("free_dim_bandwidths", bandwidths, persistent=bandwidths.numel() > 0)

    def forward(self, output: NetworkOutput, targets: Sequence[ClipTargets]) -> EmbeddingLossTerms:
        """The loss over N clips.

        Args:
            output: maps of the clips; the embedding, raw bandwidth and seediness are used.
            targets: N targets at the size of these maps.

        Returns:
            Scalars. Without any visible instance in the batch all are zeros that still depend on the outputs, so that
            every process of a distributed run takes part in the backward pass.
        """
        with torch.autocast(output.embedding.device.type, enabled=False):
            maps = (output.embedding.float(), output.raw_bandwidth.float(), output.seediness.float())
            clips = [self._clip_sums(*clip) for clip in zip(*maps, targets, strict=True)]
            visible = [clip for clip in clips if clip is not None]
            if not visible:
                zero = (output.embedding.sum() + output.raw_bandwidth.sum() + output.seediness.sum()) * 0.0
                return EmbeddingLossTerms(zero, zero, zero, zero)
            sums = reduce(_ClipSums.plus, visible)
            lovasz = sums.lovasz / sums.num_instances
            smoothness = sums.variance_smoothness / len(targets)
            seediness = sums.seediness / (sums.num_instances + 1)
            total = (
                self.weight_lovasz * lovasz
                + self.weight_variance_smoothness * smoothness
                + self.weight_seediness * seediness
            )
            return EmbeddingLossTerms(self.weight * total, lovasz, smoothness, seediness)

    def _clip_sums(
        self, embedding: Tensor, raw_bandwidth: Tensor, seediness: Tensor, target: ClipTargets
    ) -> _ClipSums | None:
        """Maps [E | B | 1, T, h, w] of one clip and its targets -> sums over its instances; None without any."""
        embedding, raw_bandwidth, seediness = (x.flatten(1) for x in (embedding, raw_bandwidth, seediness))  # [., P]
        masks = target.masks.flatten(1)  # [instances, P]
        # an instance without a pixel at this scale has no center; the others keep their own masks
        masks = masks.index_select(0, masks.amax(dim=1).nonzero()[:, 0]).bool()  # [I, P]
        if masks.shape[0] == 0:
            return None
        weights = masks.float()
        areas = weights.sum(dim=1)  # [I]
        mean_weights = weights.div_(areas[:, None])  # [I, P]
        distances = self._distances(embedding, raw_bandwidth, mean_weights)
        # of I * P probabilities only those of K pairs count in the hinge ...
        pairs = _find_pairs(distances.detach(), masks)
        probabilities = gaussian_probability(distances.flatten().index_select(0, pairs.flat))  # [K]
        lovasz = lovasz_hinge_terms(2 * probabilities - 1, pairs.inside, pairs.instance, areas.long())
        # ... and in the other terms those of the pixels inside of each instance: [M], M = sum of the areas
        member = pairs.inside.nonzero()[:, 0]
        instance, pixel = (x.index_select(0, member) for x in (pairs.instance, pairs.pixel))
        mean_raw = (mean_weights @ raw_bandwidth.detach().T).T  # [B, I]; the variance's gradient by the mean is 0
        spread = (raw_bandwidth.index_select(1, pixel) - mean_raw.index_select(1, instance)).square().mean(dim=0)
        error = (seediness[0].index_select(0, pixel) - probabilities.detach().index_select(0, member)).square()
        area = areas.index_select(0, instance)
        return _ClipSums(
            lovasz=lovasz.sum(),
            variance_smoothness=(spread / area).sum() / len(areas),
            seediness=(error / area).sum() + _background_seediness(seediness[0], target),
            num_instances=len(areas),
        )

    def _distances(self, embedding: Tensor, raw_bandwidth: Tensor, mean_weights: Tensor) -> Tensor:
        """Squared distances to the mean embedding of each instance, by its mean bandwidth: [I, P]."""
        centers = mean_weights @ embedding.T  # [I, E]
        bandwidths = mean_weights @ bandwidth(raw_bandwidth).T  # [I, B]
        free = self.free_dim_bandwidths.expand(len(centers), -1)  # [I, n]
        return squared_distance(embedding, centers, torch.cat([bandwidths, free], dim=1))


class _Pairs(NamedTuple):
    """K pairs of an instance and a pixel, sorted by instance; [K] each."""

    flat: Tensor  # instance * P + pixel
    instance: Tensor
    pixel: Tensor
    inside: Tensor  # bool: the pixel belongs to the instance


def _find_pairs(distances: Tensor, masks: Tensor) -> _Pairs:
    """The pairs that count in the Lovász hinge, of squared distances [I, P] and masks [I, P] bool.

    All pixels of an instance do. Outside of it a pixel adds nothing when its error in the hinge, 2 p, is below those of
    all inside pixels, 2 - 2 p, or so small that float32 rounds it to 0. In training that is nearly everything, so that
    the loss of 20 instances that share an image costs a few times that of one.
    """
    smallest = torch.where(masks, distances, torch.inf).amin(dim=1).clamp(min=0)
    limit = -2 * torch.log(-torch.expm1(-0.5 * smallest))  # where p = 1 - (the largest p inside)
    near = distances <= limit.clamp(max=_NEGLIGIBLE_DISTANCE)[:, None]
    flat = (near | masks).flatten().view(torch.uint8).nonzero()[:, 0]  # [K]
    instance = torch.div(flat, masks.shape[1], rounding_mode="floor")
    pixel = flat - instance * masks.shape[1]
    return _Pairs(flat, instance, pixel, inside=masks.flatten().index_select(0, flat))


def _background_seediness(seediness: Tensor, target: ClipTargets) -> Tensor:
    """Mean squared seediness [P] outside of all instances; ignored pixels count in the mean with 0."""
    background = target.masks.amax(dim=0).flatten() == 0  # [P]
    errors = seediness.square() * (background & (target.ignore_mask.flatten() == 0))
    return errors.sum() / background.sum().clamp(min=1)


def build_embedding_criterion(cfg: Config) -> EmbeddingCriterion:
    """The criterion of ``TRAINING.LOSSES.EMBEDDING``."""
    section = cfg.TRAINING.LOSSES.EMBEDDING
    return EmbeddingCriterion(
        dims=parse_dim_mode(cfg.MODEL.EMBEDDING_DIM_MODE),
        free_dim_stds=section.FREE_DIM_STDS,
        weight=section.WEIGHT,
        weight_lovasz=section.WEIGHT_LOVASZ,
        weight_variance_smoothness=section.WEIGHT_VARIANCE_SMOOTHNESS,
        weight_seediness=section.WEIGHT_SEEDINESS,
    )
