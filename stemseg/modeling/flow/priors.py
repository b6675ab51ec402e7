"""The learned Gaussian prior over the latents of a level."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stemseg.modeling.flow.zero_conv import ZeroConv2d


class GaussianPrior(ZeroConv2d):
    """p(z | context): a convolution of the context gives mean and log deviation of every value; N(0, 1) at first."""

    def __init__(self, context_channels: int, latent_channels: int) -> None:
        super().__init__(context_channels, 2 * latent_channels)

    def log_prob(self, z: Tensor, context: Tensor) -> Tensor:
        """log p(z | context) of each place: z [N, C, h, w], context [N, C', h, w] -> [N, h, w]."""
        mean, log_std = self(context).chunk(2, dim=1)
        normalised = (z - mean) * torch.exp(-log_std)
        per_value = -0.5 * (math.log(2 * math.pi) + normalised.square()) - log_std
        return per_value.sum(dim=1)

    def transform(self, noise: Tensor, context: Tensor) -> Tensor:
        """Turn standard normal noise [N, C, h, w] into a draw from p(z | context)."""
        mean, log_std = self(context).chunk(2, dim=1)
        return mean + noise * log_std.exp()
