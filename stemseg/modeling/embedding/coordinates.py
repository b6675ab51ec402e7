"""The space-time coordinates that offsets are added to (METHOD section 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def coordinate_grid(axes: Sequence[str], num_frames: int, height: int, width: int, time_scale: Tensor) -> Tensor:
    """Coordinates of every point of a clip.

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
        "t": (time_scale.float() * torch.linspace(-1, 1, num_frames, device=device))[:, None, None],
        "y": torch.linspace(-y_limit, y_limit, height, device=device)[None, :, None],
        "x": torch.linspace(-x_limit, x_limit, width, device=device)[None, None, :],
    }
    shape = (num_frames, height, width)
    if not axes:
        return torch.empty((0, *shape), device=device)
    return torch.stack([lines[axis].expand(shape) for axis in axes])


def add_coordinates(offsets: Tensor, axes: Sequence[str], time_scale: Tensor) -> Tensor:
    """Offsets plus coordinates: O-hat = tanh offset + [t, y, x, 0...].

    Args:
        offsets: [N, E, T, h, w]; the first ``len(axes)`` channels are coordinate dimensions, the rest stay as they are.

    Returns:
        [N, E, T, h, w] float32.
    """
    num_frames, height, width = offsets.shape[2:]
    grid = coordinate_grid(axes, num_frames, height, width, time_scale)
    num_rest = offsets.shape[1] - len(axes)
    return offsets.float() + F.pad(grid, (0, 0, 0, 0, 0, 0, 0, num_rest))
