"""Label maps as the points that chaining and the track store take, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stemseg.inference.chaining import ChainedClip, ClipLabels, PointLabels


def clip_labels(frames: Sequence[int], maps: Tensor, num_instances: int) -> ClipLabels:
    """A clip's labels from maps [T, H, W]: 0 background, -1 outlier, else an instance from 1."""
    return ClipLabels(frames, _size(maps), _points(maps), num_instances)


def chained_clip(
    frames: Sequence[int], maps: Tensor, track_ids: list[int], link_ious: Sequence[float | None] = ()
) -> ChainedClip:
    """New frames of a clip from maps [F, H, W] of its instances."""
    return ChainedClip(frames, _size(maps), _points(maps), track_ids, link_ious)


def track_maps(chained: ChainedClip) -> Tensor:
    """Track ids of new frames, [F, H, W]: 0 background, -1 outlier."""
    maps = np.zeros((len(chained.points), chained.size[0] * chained.size[1]), dtype=np.int64)
    table = np.array([-1, 0, *chained.track_ids])
    for row, points in zip(maps, chained.points, strict=True):
        row[points.places] = table[points.labels + 1]
    return torch.from_numpy(maps).view(-1, *chained.size)


def _points(maps: Tensor) -> list[PointLabels]:
    """All pixels are points, since clips need not agree about the background here."""
    return [PointLabels(np.arange(frame.numel()), frame.flatten().int().numpy()) for frame in maps]


def _size(maps: Tensor) -> tuple[int, int]:
    return maps.shape[-2], maps.shape[-1]
