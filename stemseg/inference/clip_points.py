"""The foreground points of a clip, gathered from its maps for the clustering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from stemseg.modeling.embedding.gaussian import bandwidth
from stemseg.structures.network_output import NetworkOutput


class ClipMaps(NamedTuple):
    """What is kept of a clip until it can be clustered.

    Attributes:
        frames: T frame numbers.
        maps: [E + B + 1, T, h, w] float32: embedding, raw bandwidth, seediness.
        embedding_size: E.
    """

    frames: Sequence[int]
    maps: Tensor
    embedding_size: int


class ClipPoints(NamedTuple):
    """P foreground points: embeddings [E, P], bandwidths [E, P], seediness [P]."""

    embeddings: Tensor
    bandwidths: Tensor
    seediness: Tensor


def keep_maps(frames: Sequence[int], output: NetworkOutput, device: torch.device) -> ClipMaps:
    """Move the last ``len(frames)`` frames of one clip's maps to the device that clusters."""
    parts = torch.cat([output.embedding[0], output.raw_bandwidth[0], output.seediness[0]])
    maps = parts[:, -len(frames) :].to(device, torch.float32)
    return ClipMaps(frames, maps, output.embedding.shape[1])


def gather_points(clip: ClipMaps, foreground: Tensor, free_bandwidths: Tensor) -> ClipPoints:
    """The points under a foreground mask.

    Args:
        clip: maps [C, T, h, w].
        foreground: [T, H, W] bool; where H and W are multiples of h and w the maps are upsampled bilinearly, one frame
            at a time, and only the foreground of it is kept.
        free_bandwidths: [n], constant bandwidth of each free dimension.
    """
    scale = foreground.shape[-1] // clip.maps.shape[-1]
    if scale == 1:
        points = clip.maps[:, foreground]
    else:
        points = torch.cat([_upsample(m, scale)[:, f] for m, f in zip(clip.maps.unbind(1), foreground, strict=True)], 1)
    embeddings, raw, seediness = points.split([clip.embedding_size, len(points) - clip.embedding_size - 1, 1])
    free = free_bandwidths.to(points)[:, None].expand(-1, points.shape[1])
    return ClipPoints(embeddings, torch.cat([bandwidth(raw), free]), seediness[0])


def _upsample(maps: Tensor, scale: int) -> Tensor:
    return F.interpolate(maps[None], scale_factor=scale, mode="bilinear", align_corners=False)[0]
