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
        [I, P], float64 where the device has it; near a centre, rounding may leave a distance slightly below 0.
    """
    # expanded to b x^2 - 2 b mu x + b mu^2, this is one product of [I, 2 E + 1] and [2 E + 1, P] instead of several
    # tensors [I, E, P]; the terms cancel near the centre, hence the higher precision
    with torch.autocast(embeddings.device.type, enabled=False):
        x, mu, b = (v.to(_product_dtype(v.device)) for v in (embeddings, centres, bandwidths))
        points = torch.cat([x.square(), x, torch.ones_like(x[:1])])
        weights = torch.cat([b, -2 * b * mu, (b * mu.square()).sum(dim=1, keepdim=True)], dim=1)
        return weights @ points


def _product_dtype(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64


def gaussian_probability(squared_distances: Tensor) -> Tensor:
    """p = exp(-1/2 d), the probability that the training loss gives a point for an instance, float32 in [0, 1]."""
    return torch.exp(-0.5 * squared_distances.float().clamp(min=0))
