"""The semantic losses (method.md §6): class of each pixel, and foreground against background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from stemseg.structures.clip import ClipTargets
from stemseg.structures.network_output import NetworkOutput
from stemseg.utils.errors import StemsegError


class SemanticLossTerms(NamedTuple):
    """Scalars, unweighted; ``foreground`` is None where the network has no foreground channel."""

    semantic: Tensor
    foreground: Tensor | None


def semantic_losses(output: NetworkOutput, targets: Sequence[ClipTargets]) -> SemanticLossTerms:
    """Cross-entropy over the classes and binary cross-entropy of the foreground.

    Both are means over a clip's pixels outside of its ignore mask, then means over the clips; a clip that is ignored
    altogether contributes 0.

    Args:
        output: maps of N clips, with class logits.
        targets: N targets at the size of these maps.

    Raises:
        StemsegError: where there are no class logits.
    """
    if output.class_logits is None:
        raise StemsegError("the semantic loss needs class logits: build the network with MODEL.USE_SEMSEG_HEAD")
    classes = torch.stack([semantic_target(target) for target in targets])  # [N, T, h, w]
    valid = torch.stack([target.ignore_mask for target in targets]) == 0  # [N, T, h, w]
    with torch.autocast(output.class_logits.device.type, enabled=False):
        pixel_losses = F.cross_entropy(output.class_logits.float(), classes, reduction="none")
        semantic = _mean_over_clips(pixel_losses, valid)
        if output.foreground_logits is None:
            return SemanticLossTerms(semantic, None)
        foreground_logits = output.foreground_logits[:, 0].float()
        foreground = (classes > 0).float()
        pixel_losses = F.binary_cross_entropy_with_logits(foreground_logits, foreground, reduction="none")
        return SemanticLossTerms(semantic, _mean_over_clips(pixel_losses, valid))


def semantic_target(target: ClipTargets) -> Tensor:
    """Category of each pixel's instance (the highest category where several overlap), 0 elsewhere: [T, h, w] int64."""
    if target.num_instances == 0:
        return torch.zeros_like(target.ignore_mask, dtype=torch.int64)
    categories = target.category_ids.to(torch.int64)[:, None, None, None]  # [I, 1, 1, 1]
    return ((target.masks > 0) * categories).amax(dim=0)


def _mean_over_clips(pixel_losses: Tensor, valid: Tensor) -> Tensor:
    """Mean over the valid pixels of each clip, then over clips: [N, T, h, w] twice -> scalar."""
    sums = (pixel_losses * valid).flatten(1).sum(dim=1)  # [N]
    return (sums / valid.flatten(1).sum(dim=1).clamp(min=1)).mean()
