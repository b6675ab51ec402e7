"""The appearance flow's loss, and the numbers to watch beside it (METHOD section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from stemseg.modeling.embedding.spread import appearance_spread
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
    """How many bits A costs.

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
