"""Normalization layers of the backbone: frozen as in published checkpoints, or trainable for training from scratch.

:func:`fold_norms` folds constant ones into the convolutions before them, which makes inference faster and changes no
result.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

import torch
from torch import Tensor, nn

from stemseg.utils.errors import ConfigError

NormFactory = Callable[[int], nn.Module]

# names under which a convolution and the norm behind it stand in the stem, in bottlenecks and in their shortcuts
_PAIRS = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1"))


class FrozenBatchNorm(nn.Module):
    """Batch normalization with constant statistics: y = x * s + (bias - mean * s), s = weight / sqrt(var).

    The variance has no epsilon added, other than in ``nn.BatchNorm2d``: Caffe2's weights were made this way.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(num_channels))
        self.register_buffer("bias", torch.zeros(num_channels))
        self.register_buffer("running_mean", torch.zeros(num_channels))
        self.register_buffer("running_var", torch.ones(num_channels))

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """The affine map that this layer is, as two tensors [C]."""
        scale = self.weight * self.running_var.rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        """Normalize [F, C, H, W]."""
        scale, shift = (v.to(x.dtype)[:, None, None] for v in self.scale_and_shift())  # [C, 1, 1]
        return torch.addcmul(shift, x, scale)


def norm_factory(kind: str, *, num_groups: int) -> NormFactory:
    """A function from a number of channels to a normalization layer of ``kind``: "frozen", "batch" or "group".

    Raises:
        ConfigError: for another kind, and from the function where the channels cannot be divided into the groups.
    """
    factories: dict[str, NormFactory] = {
        "frozen": FrozenBatchNorm,
        "batch": nn.BatchNorm2d,
        "group": lambda num_channels: _group_norm(num_groups, num_channels),
    }
    if kind not in factories:
        raise ConfigError(f"MODEL.BACKBONE.NORM is '{kind}', expected one of {', '.join(factories)}")
    return factories[kind]


def _group_norm(num_groups: int, num_channels: int) -> nn.GroupNorm:
    if num_channels % num_groups:
        raise ConfigError(
            f"MODEL.BACKBONE.NORM_GROUPS is {num_groups}, which does not divide a layer of {num_channels} channels; "
            "choose a divisor of STEM_OUT_CHANNELS and WIDTH_PER_GROUP (section MODEL.RESNETS)"
        )
    return nn.GroupNorm(num_groups, num_channels)


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
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    scale = norm.weight * (variance + norm.eps).rsqrt()
    return scale, norm.bias - mean * scale


@torch.no_grad()
def _folded(conv: nn.Conv2d, scale: Tensor, shift: Tensor) -> nn.Conv2d:
    """A convolution with bias that equals ``conv`` (which has none) followed by y * scale + shift."""
    folded = copy(conv)  # of the same class, with its stride, padding and groups
    folded._parameters = {}
    folded.weight = nn.Parameter(conv.weight * scale[:, None, None, None])
    folded.bias = nn.Parameter(shift.clone())
    return folded
