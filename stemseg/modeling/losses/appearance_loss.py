"""The losses of the appearance embedding A beside the mask loss (``MODEL.OFFSET.LOSS``; method.md §5), and A's spread.

``likelihood`` is the papers': the bits that A costs the flow, given the masks. The others are ours, and are about
identity: what is compared with an instance's A in a frame, or predicted from it, is its mean in the *other* frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stemseg.config import Config
from stemseg.modeling.flow.appearance_flow import (
    INSTANCE_PIXELS,
    AppearanceFlow,
    AppearanceLikelihood,
    paint_clips,
    required,
)
from stemseg.modeling.flow.condition import instance_averages, instance_means, posterior_bits
from stemseg.modeling.flow.dequantization import ChannelStatistics, scale_gradient
from stemseg.modeling.flow.layers import at_least_float32

LIKELIHOOD, CLASSIFIER, IMAGE, COLOR, GAUSSIAN = "likelihood", "classifier", "image", "color", "gaussian"
_COLORS = 3


class AppearanceLossTerms(NamedTuple):
    """Scalars: the loss, and what shows whether A collapses under it.

    Attributes:
        bits_per_dimension: the loss, mean over frames or, where it counts per instance, instances.
        logdet_per_dimension: the flow's log-determinant / dimensions of a frame; None without a density.
        appearance_between: spread of A between instances, see :class:`AppearanceSpread`.
        appearance_within: spread of A within them.
    """

    bits_per_dimension: Tensor
    logdet_per_dimension: Tensor | None
    appearance_between: Tensor
    appearance_within: Tensor


def appearance_loss(
    head: AppearanceHead,
    appearance: Tensor,
    masks: Sequence[Tensor],
    colors: Tensor | None = None,
) -> AppearanceLossTerms:
    """The bits that A costs, or that what is told from A does, and what to watch beside them.

    Args:
        head: of ``MODEL.OFFSET.LOSS``.
        appearance: A [N, A, T, h, w].
        masks: binary masks of each clip at the same scale, N tensors [I, T, h, w].
        colors: [N, 3, T, h, w] of the frames (:func:`quarter_colors`), for a head that needs them.
    """
    likelihood = head.likelihood(appearance, masks, colors)
    logdet = None if likelihood.logdet_per_dimension is None else _mean(likelihood.logdet_per_dimension)
    return AppearanceLossTerms(_mean(likelihood.bits_per_dimension), logdet, *appearance_spread(appearance, masks))


def quarter_colors(frames: Tensor) -> Tensor:
    """Mean colors at quarter scale: frames [N, T, 3, H, W] -> [N, 3, T, H / 4, W / 4]."""
    return F.avg_pool2d(frames.flatten(0, 1), 4).unflatten(0, frames.shape[:2]).transpose(1, 2)


def _mean(values: Tensor) -> Tensor:
    """Mean of [G]; without any item a zero that still depends on the outputs, for distributed training's sake."""
    return values.sum() / max(1, len(values))


class GenerativeClassifier(AppearanceFlow):
    """log p(instance | A) by Bayes' rule of the flow: log p(A | own instance) - log of the sum over the instances.

    p(A | instance, masks) is the density of A less what the instance is like in the other frames, as with the condition
    "identity"; all instances of a clip that are seen in another frame are hypotheses, equally probable beforehand.
    """

    def likelihood(
        self, appearance: Tensor, masks: Sequence[Tensor] | None = None, colors: Tensor | None = None
    ) -> AppearanceLikelihood:
        """Bits that the true instance costs at the places of each instance; see :meth:`AppearanceFlow.likelihood`."""
        masks = required(masks)
        clips = (len(masks), appearance.shape[2])  # N, T
        standard = self._standardize(appearance, masks)
        x = self._quantize(standard).unflatten(0, clips)  # [N, T, A, ., .]
        condition = self._crop(required(self.condition_encoder)(masks)).unflatten(0, clips)  # [N, T, C', ., .]
        expected = [
            instance_means(a, m, of_other_frames=True)
            for a, m in zip(torch.sigmoid(standard) - 0.5, masks, strict=True)
        ]
        if not any(map(len, masks)):
            return AppearanceLikelihood(_nothing(self, appearance), None, None)
        scores = self._scores(x, condition, [means for means, _ in expected])
        weights = [F.avg_pool2d(m.float(), 2 ** (self.num_halvings + 1)) for m in masks]
        size = scores[0].shape[2:]
        bits = [
            posterior_bits(s, w[..., : size[0], : size[1]], known)
            for s, w, (_, known) in zip(scores, weights, expected, strict=True)
        ]
        return AppearanceLikelihood(torch.cat(bits), None, None)

    def _scores(self, x: Tensor, condition: Tensor, expected: Sequence[Tensor]) -> list[Tensor]:
        """log p(A | instance) of each place: x [N, T, A, h, w], N tensors [I, T, A] -> N of [I, T, h / 2, w / 2]."""
        inputs = torch.cat([(a - e[..., None, None]).flatten(0, 1) for a, e in zip(x, expected, strict=True)])
        conditions = torch.cat([c.repeat(len(e), 1, 1, 1) for c, e in zip(condition, expected, strict=True)])
        output = self(inputs, conditions)
        scores = (output.log_p_map + output.logdet_map).unflatten(0, (-1, x.shape[1]))  # [I of all clips, T, ., .]
        return list(scores.split([len(e) for e in expected]))


class ImageFlow(AppearanceFlow):
    """p(colors of the instances' pixels | masks, each instance's mean A in the other frames).

    The colors are what they are: no A makes them probable but one that tells what an instance looks like.

    Args:
        channels: A.
        options: of :class:`AppearanceFlow`.
    """

    needs_colors = True

    def __init__(self, channels: int, **options: Any) -> None:
        options |= {"condition": "masks", "likelihood_of": INSTANCE_PIXELS, "more_condition_channels": channels}
        super().__init__(_COLORS, **options)

    def likelihood(
        self, appearance: Tensor, masks: Sequence[Tensor] | None = None, colors: Tensor | None = None
    ) -> AppearanceLikelihood:
        """Bits that the colors [N, 3, T, h, w] cost, given A; see :meth:`AppearanceFlow.likelihood`."""
        masks, colors = required(masks), required(colors)
        scaled = scale_gradient(at_least_float32(appearance), self.gradient_scale)
        told = self._shrink(paint_clips(scaled, masks, of_other_frames=True))
        condition = torch.cat([self._crop(required(self.condition_encoder)(masks)), told], dim=1)
        return self._likelihood(self.flow_input(colors, masks), condition, masks)


class ColorRegression(nn.Module):
    """The knowledge of :class:`ImageFlow` without a flow: a guess of the colors from the mean A in other frames.

    Args:
        channels: A.
        hidden_channels: width of the network.
        gradient_scale: factor on the gradient that is sent to A.
    """

    needs_colors = True

    def __init__(self, channels: int, *, hidden_channels: int = 64, gradient_scale: float = 1.0) -> None:
        super().__init__()
        self.gradient_scale = gradient_scale
        self.statistics = ChannelStatistics(_COLORS)
        self.net = nn.Sequential(nn.Linear(channels, hidden_channels), nn.ReLU(), nn.Linear(hidden_channels, _COLORS))
        self.log_std = nn.Parameter(torch.zeros(_COLORS))

    def finish_step(self) -> None:
        """Take in the colors seen since the last optimizer step."""
        self.statistics.update()

    def likelihood(self, appearance: Tensor, masks: Sequence[Tensor], colors: Tensor | None) -> AppearanceLikelihood:
        """Bits per dimension of the standardized colors of each instance's pixels, a Gaussian around the guess."""
        colors = at_least_float32(required(colors))
        if self.training:
            self.statistics.gather(colors.transpose(1, 2).flatten(0, 1))
        colors = self.statistics.standardization()(colors)
        appearance = scale_gradient(at_least_float32(appearance), self.gradient_scale)
        bits = [self._clip_bits(*clip) for clip in zip(appearance, masks, colors, strict=True)]
        return AppearanceLikelihood(torch.cat(bits), None, None)

    def _clip_bits(self, appearance: Tensor, masks: Tensor, colors: Tensor) -> Tensor:
        means, known = instance_means(appearance, masks, of_other_frames=True)
        errors = (colors.movedim(0, 1) - self.net(means)[..., None, None]) * torch.exp(-self.log_std)[:, None, None]
        nats = 0.5 * (errors.square() + math.log(2 * math.pi)) + self.log_std[:, None, None]  # [I, T, 3, h, w]
        weights = masks * known[..., None, None]
        return instance_averages(nats.mean(dim=2), weights) / math.log(2)


class GaussianPosterior(nn.Module):
    """The question of :class:`GenerativeClassifier` without a flow: Gaussians around the means of A in other frames.

    Args:
        channels: A.
        gradient_scale: factor on the gradient that is sent to A.
    """

    needs_colors = False

    def __init__(self, channels: int, *, gradient_scale: float = 1.0) -> None:
        super().__init__()
        self.gradient_scale = gradient_scale
        self.statistics = ChannelStatistics(channels)
        self.log_precision = nn.Parameter(torch.zeros(channels))

    def finish_step(self) -> None:
        """Take in what was seen of A since the last optimizer step."""
        self.statistics.update()

    def likelihood(
        self, appearance: Tensor, masks: Sequence[Tensor], colors: Tensor | None = None
    ) -> AppearanceLikelihood:
        """Bits that the true instance costs at the pixels of each instance."""
        appearance = scale_gradient(at_least_float32(appearance), self.gradient_scale)
        if self.training:
            self.statistics.gather(appearance.transpose(1, 2).flatten(0, 1))
        standard = self.statistics.standardization()(appearance)
        bits = [self._clip_bits(*clip) for clip in zip(standard, masks, strict=True)]
        return AppearanceLikelihood(torch.cat(bits), None, None)

    def _clip_bits(self, appearance: Tensor, masks: Tensor) -> Tensor:
        means, known = instance_means(appearance, masks, of_other_frames=True)
        distances = (appearance.movedim(0, 1) - means[..., None, None]).square()  # [I, T, A, h, w]
        scores = -0.5 * (distances * self.log_precision.exp()[:, None, None]).sum(dim=2)
        return posterior_bits(scores, masks.float(), known)


AppearanceHead = AppearanceFlow | ColorRegression | GaussianPosterior


def _nothing(module: nn.Module, appearance: Tensor) -> Tensor:
    """No item, [0], but one that depends on all that is trained, so that every step has a gradient."""
    return (appearance.sum() + torch.stack([p.sum() for p in module.parameters()]).sum())[None][:0]


def build_appearance_head(cfg: Config) -> AppearanceHead | None:
    """The head that trains A beside the mask loss, by ``MODEL.OFFSET.LOSS``; None without ``MODEL.USE_OFFSET_HEAD``."""
    if not cfg.MODEL.USE_OFFSET_HEAD:
        return None
    section, channels = cfg.MODEL.OFFSET, len(cfg.MODEL.GLOW_DIM_MODE)
    if section.LOSS == COLOR:
        hidden = section.HIDDEN_CHANNELS
        return ColorRegression(channels, hidden_channels=hidden, gradient_scale=section.GRADIENT_SCALE)
    if section.LOSS == GAUSSIAN:
        return GaussianPosterior(channels, gradient_scale=section.GRADIENT_SCALE)
    kind = {LIKELIHOOD: AppearanceFlow, CLASSIFIER: GenerativeClassifier, IMAGE: ImageFlow}[section.LOSS]
    return kind(
        channels,
        num_halvings=section.DOWN_SAMPLE,
        num_bits=section.N_BITS,
        dequantization=section.DEQUANTISATION,
        standardized=section.STANDARDISE,
        whitened=section.WHITEN,
        gradient_scale=section.GRADIENT_SCALE,
        condition=section.CONDITION,
        condition_channels=section.CONDITION_CHANNELS,
        likelihood_of=section.LIKELIHOOD,
        num_steps=section.N_FLOW,
        num_levels=section.N_BLOCK,
        affine=section.AFFINE,
        conv_lu=section.CONV_LU,
        hidden_channels=section.HIDDEN_CHANNELS,
    )


class AppearanceSpread(NamedTuple):
    """Standard deviations of A, scalars, root mean square over dimensions, clips and what is named.

    The likelihood is highest for a constant A, so ``between`` falling towards 0 means that the flow has won against the
    mask loss; ``within`` far above ``between`` means that A does not tell instances apart.

    Attributes:
        between: of the regions' mean A; the regions of a clip are its visible instances and the rest of its pixels.
        within: of the pixels' A around their region's mean, every region counting alike.
    """

    between: Tensor
    within: Tensor


@torch.no_grad()
def appearance_spread(appearance: Tensor, masks: Sequence[Tensor]) -> AppearanceSpread:
    """Measure A [N, A, T, h, w] over the regions that the masks of each clip, N tensors [I, T, h, w], mark out."""
    variances = [_clip_variances(a.float(), m) for a, m in zip(appearance, masks, strict=True)]
    between, within = torch.stack(variances).mean(dim=0).sqrt()  # of [N, 2]
    return AppearanceSpread(between, within)


def _clip_variances(appearance: Tensor, masks: Tensor) -> Tensor:
    """Variance between and within the regions of one clip: A [A, T, h, w], masks [I, T, h, w] -> [2]."""
    background = masks.sum(dim=0, keepdim=True) == 0
    regions = torch.cat([masks > 0, background]).flatten(1).float()  # [G, P]
    sizes = regions.sum(dim=1, keepdim=True)
    weights = (sizes > 0) / (sizes > 0).sum()  # [G, 1]
    values = appearance.flatten(1)  # [A, P]
    values = values - values.mean(dim=1, keepdim=True)  # keeps the difference of squares below exact
    means = regions @ values.t() / sizes.clamp(min=1)  # [G, A]
    variances = regions @ values.square().t() / sizes.clamp(min=1) - means.square()  # [G, A]
    deviations = means - (weights * means).sum(dim=0)
    between, within = (weights * deviations.square()).sum(dim=0), (weights * variances).sum(dim=0)
    return torch.stack([between.mean(), within.mean().clamp(min=0)])
