"""Normalisation layers of the backbone: frozen as in published checkpoints, or trainable for training from scratch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from stemseg.utils.errors import ConfigError

NormFactory = Callable[[int], nn.Module]


class FrozenBatchNorm(nn.Module):
    """Batch normalisation with constant statistics: y = x * s + (bias - mean * s), s = weight / sqrt(var).

    The variance has no epsilon added, other than in ``nn.BatchNorm2d``: Caffe2's weights were made this way.
    """

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
        """Normalise [F, C, H, W]."""
        scale, shift = (v.to(x.dtype)[:, None, None] for v in self.scale_and_shift())
        return torch.addcmul(shift, x, scale)


def norm_factory(kind: str, *, num_groups: int) -> NormFactory:
    """A function from a number of channels to a normalisation layer of ``kind``: "frozen", "batch" or "group".

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
