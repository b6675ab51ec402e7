"""The Gaussians that instances are in the embedding space (METHOD section 6). Always computed in float32."""

from __future__ import annotations

import torch
from torch import Tensor

BANDWIDTH_SCALE = 10.0


def bandwidth(raw: Tensor) -> Tensor:
    """b = 10 * exp(raw): the inverse variance of each embedding dimension, float32, of any shape."""
    return BANDWIDTH_SCALE * raw.float().exp()


def squared_distance(embeddings: Tensor, centres: Tensor, bandwidths: Tensor) -> Tensor:
    """d = sum_e b_e (x_e - mu_e)^2 of every point to every centre.

    Args:
        embeddings: [E, P].
        centres: [I, E], mu.
        bandwidths: [I, E], b.

    Returns:
        [I, P] float32.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        difference = embeddings.float()[None] - centres.float()[:, :, None]  # [I, E, P]
        return (difference.square() * bandwidths.float()[:, :, None]).sum(dim=1)


def gaussian_probability(embeddings: Tensor, centres: Tensor, bandwidths: Tensor) -> Tensor:
    """p = exp(-1/2 d), the probability that the training loss gives each point for each instance.

    Arguments as in :func:`squared_distance`.

    Returns:
        [I, P] float32 in [0, 1].
    """
    return torch.exp(-0.5 * squared_distance(embeddings, centres, bandwidths))
