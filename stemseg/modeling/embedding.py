"""The embedding space: coordinates and mixing (method.md §4), and the Gaussians that instances are in it (§6).

Everything here is computed in float32 at least, whatever the surrounding precision.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

BANDWIDTH_SCALE = 10.0


def coordinate_grid(axes: Sequence[str], num_frames: int, height: int, width: int, time_scale: Tensor) -> Tensor:
    """Coordinates of every point of a clip, (4.1).

    The longer side of the image spans [-ratio, ratio], the shorter [-1, 1], time [-time_scale, time_scale].

    Args:
        axes: channels of the result, of "t", "y", "x"; may be empty.
        height, width: size of the quarter-scale map.
        time_scale: scalar; the grid lies on its device.

    Returns:
        [len(axes), T, h, w] float32.
    """
    device = time_scale.device
    x_limit, y_limit = max(1.0, width / height), max(1.0, height / width)
    lines = {
        "t": (time_scale.float() * torch.linspace(-1, 1, num_frames, device=device))[:, None, None],  # [T, 1, 1]
        "y": torch.linspace(-y_limit, y_limit, height, device=device)[None, :, None],  # [1, h, 1]
        "x": torch.linspace(-x_limit, x_limit, width, device=device)[None, None, :],  # [1, 1, w]
    }
    shape = (num_frames, height, width)
    if not axes:
        return torch.empty((0, *shape), device=device)
    return torch.stack([lines[axis].expand(shape) for axis in axes])


def add_coordinates(offsets: Tensor, axes: Sequence[str], time_scale: Tensor) -> Tensor:
    """Offsets plus coordinates: O-hat = tanh offset + [t, y, x, 0...], (4.2).

    Args:
        offsets: [N, E, T, h, w]; the first ``len(axes)`` channels are coordinate dimensions, the rest stay as they are.

    Returns:
        [N, E, T, h, w] float32.
    """
    num_frames, height, width = offsets.shape[2:]
    grid = coordinate_grid(axes, num_frames, height, width, time_scale)
    num_rest = offsets.shape[1] - len(axes)
    return offsets.float() + F.pad(grid, (0, 0, 0, 0, 0, 0, 0, num_rest))  # [E, T, h, w] for each clip


def mix_appearance(embedding: Tensor, appearance: Tensor, *, detach: bool) -> Tensor:
    """phi: H = O-hat + [0..., A], A on the last dimensions, (4.3).

    Args:
        embedding: O-hat [N, E, T, h, w], offsets plus coordinates.
        appearance: A [N, A, T, h, w].
        detach: keep the gradient of what is made of H from A, as the released code does.

    Returns:
        H [N, E, T, h, w].
    """
    num_rest = embedding.shape[1] - appearance.shape[1]
    rest, mixed = embedding.split([num_rest, appearance.shape[1]], dim=1)
    return torch.cat([rest, mixed + (appearance.detach() if detach else appearance)], dim=1)


def bandwidth(raw: Tensor) -> Tensor:
    """b = 10 * exp(raw), (6.1): the inverse variance of each embedding dimension, float32, of any shape."""
    return BANDWIDTH_SCALE * raw.float().exp()


def squared_distance(embeddings: Tensor, centers: Tensor, bandwidths: Tensor) -> Tensor:
    """d = sum_e b_e (x_e - mu_e)^2 of every point to every center.

    Args:
        embeddings: [E, P].
        centers: [I, E], mu.
        bandwidths: [I, E], b.

    Returns:
        [I, P], float64 where the device has it; near a center, rounding may leave a distance slightly below 0.
    """
    # expanded to b x^2 - 2 b mu x + b mu^2, this is one matrix product instead of several tensors [I, E, P]; the terms
    # cancel near the center, hence the higher precision
    with torch.autocast(embeddings.device.type, enabled=False):
        x, mu, b = (v.to(_product_dtype(v.device)) for v in (embeddings, centers, bandwidths))
        points = torch.cat([x.square(), x, torch.ones_like(x[:1])])  # [2 E + 1, P]
        weights = torch.cat([b, -2 * b * mu, (b * mu.square()).sum(dim=1, keepdim=True)], dim=1)  # [I, 2 E + 1]
        return weights @ points


def _product_dtype(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64


def gaussian_probability(squared_distances: Tensor) -> Tensor:
    """p = exp(-1/2 d), (6.3): the probability of a point under an instance in the training loss, float32 in [0, 1]."""
    return torch.exp(-0.5 * squared_distances.float().clamp(min=0))
