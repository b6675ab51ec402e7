"""Folding constant normalisation into convolutions, which makes inference faster and changes no result."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stemseg.modeling.backbone.norms import FrozenBatchNorm

# names under which a convolution and the norm behind it stand in the stem, in bottlenecks and in their shortcuts
_PAIRS = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1"))


def fold_norms(module: nn.Module) -> None:
    """Fold each frozen or batch norm of a backbone into the convolution before it, in place; group norms stay.

    The module's state dict has other keys afterwards, and its batch norms can't be trained any more.
    """
    for parent in list(module.modules()):
        for conv_name, norm_name in _PAIRS:
            conv, norm = (getattr(parent, name, None) for name in (conv_name, norm_name))
            if isinstance(conv, nn.Conv2d) and isinstance(norm, (FrozenBatchNorm, nn.BatchNorm2d)):
                parent.add_module(conv_name, _folded(conv, *_scale_and_shift(norm)))
                parent.add_module(norm_name, nn.Identity())


def _scale_and_shift(norm: FrozenBatchNorm | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    if isinstance(norm, FrozenBatchNorm):
        return norm.scale_and_shift()
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


@torch.no_grad()
def _folded(conv: nn.Conv2d, scale: Tensor, shift: Tensor) -> nn.Conv2d:
    """A convolution with bias that equals ``conv`` (which has none) followed by y * scale + shift."""
    folded = nn.utils.skip_init(
        nn.Conv2d,
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        device=conv.weight.device,
    )
    folded.weight.copy_(conv.weight * scale[:, None, None, None])
    folded.bias.copy_(shift)
    return folded
