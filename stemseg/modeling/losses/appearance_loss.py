"""The appearance flow's loss (method.md §5), and the spread of A, in which a collapse under it shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stemseg.modeling.flow.appearance_flow import AppearanceFlow


class AppearanceLossTerms(NamedTuple):
    """Scalars: the loss, and what shows whether A collapses under it.

    Attributes:
        bits_per_dimension: the loss, mean over frames or, where the flow counts per instance, instances.
        logdet_per_dimension: the flow's log-determinant / dimensions of a frame.
        appearance_between: spread of A between instances, see :class:`AppearanceSpread`.
        appearance_within: spread of A within them.
    """

    bits_per_dimension: Tensor
    logdet_per_dimension: Tensor
    appearance_between: Tensor
    appearance_within: Tensor


def appearance_loss(flow: AppearanceFlow, appearance: Tensor, masks: Sequence[Tensor]) -> AppearanceLossTerms:
    """The bits that A costs, and what to watch beside them.

    Args:
        flow: its density.
        appearance: A [N, A, T, h, w].
        masks: binary masks of each clip at the same scale, N tensors [I, T, h, w].
    """
    likelihood = flow.likelihood(appearance, masks)
    bits, logdet = (_mean(v) for v in (likelihood.bits_per_dimension, likelihood.logdet_per_dimension))
    return AppearanceLossTerms(bits, logdet, *appearance_spread(appearance, masks))


def _mean(values: Tensor) -> Tensor:
    """Mean of [G]; without any item a zero that still depends on the outputs, for distributed training's sake."""
    return values.sum() / max(1, len(values))


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
