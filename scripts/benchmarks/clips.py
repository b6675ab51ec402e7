"""Synthetic clips of discs that move over the image, with embeddings as a network might give them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from stemseg.modeling.embedding import coordinate_grid
from stemseg.structures.clip import ClipTargets
from stemseg.structures.embedding_dims import EmbeddingDims
from stemseg.structures.network_output import NetworkOutput


class MapSize(NamedTuple):
    """Frames of a clip, and height and width of its maps: a quarter of the image's."""

    num_frames: int
    height: int
    width: int


def disc_masks(size: MapSize, num_discs: int, *, start: int = 0, radius: float = 0.13) -> Tensor:
    """Masks of discs that circle in the image, each pixel in at most one of them, [I, T, h, w] uint8.

    Args:
        start: number of the first frame; discs go on moving from clip to clip.
        radius: as a part of the height.
    """
    time = (start + torch.arange(size.num_frames))[None] * 0.02  # [1, T]
    phase = torch.arange(num_discs)[:, None] * 2.399963  # the golden angle spreads any number of them
    orbit = 0.42 * torch.sqrt((torch.arange(num_discs)[:, None] + 0.5) / num_discs)
    center_y = size.height * (0.5 + orbit * torch.sin(phase + time))  # [I, T]
    center_x = size.width * (0.5 + orbit * torch.cos(phase + time))
    y, x = torch.arange(size.height)[:, None], torch.arange(size.width)[None]
    squared = (y - center_y[..., None, None]) ** 2 + (x - center_x[..., None, None]) ** 2
    inside = squared < (radius * size.height) ** 2
    return (inside & (inside.cumsum(dim=0) == 1)).to(torch.uint8)


def disc_targets(masks: Tensor) -> ClipTargets:
    """Targets of one clip with these masks; nothing is ignored."""
    return ClipTargets(masks, torch.ones(len(masks), dtype=torch.int64), torch.zeros_like(masks[0]))


def untrained_maps(dims: EmbeddingDims, size: MapSize, generator: torch.Generator) -> Tensor:
    """Embedding, raw bandwidth and seediness by a network that has learned nothing yet, [E + B + 1, T, h, w]."""
    grid = coordinate_grid(dims.coordinates, *size, torch.tensor(1.0))
    embedding = 0.1 * torch.randn((dims.size, *size), generator=generator)
    embedding[: len(grid)] += grid
    raw_bandwidth = 0.1 * torch.randn((dims.num_bandwidths, *size), generator=generator)
    return torch.cat([embedding, raw_bandwidth, torch.rand((1, *size), generator=generator)])


def trained_maps(dims: EmbeddingDims, masks: Tensor, generator: torch.Generator) -> Tensor:
    """Embedding, raw bandwidth and seediness by a trained network, [E + B + 1, T, h, w].

    Each disc's pixels gather around a point of its own, most seedy near it; everything else is scattered.
    """
    size = MapSize(*masks.shape[1:])
    embedding = coordinate_grid(dims.coordinates, *size, torch.tensor(1.0))
    embedding = torch.cat([embedding, torch.zeros((dims.size - len(embedding), *size))])
    embedding = embedding + 0.3 * torch.randn(embedding.shape, generator=generator)
    noise = 0.03 * torch.randn(embedding.shape, generator=generator)
    distance = noise.norm(dim=0)
    seediness = 0.1 * torch.rand(size, generator=generator)
    points = torch.Generator().manual_seed(0)  # the same for every clip of a video
    for mask in masks.bool():
        center = 2 * torch.rand((dims.size, 1), generator=points) - 1
        embedding[:, mask] = center + noise[:, mask]
        seediness[mask] = torch.exp(-distance[mask])
    raw_bandwidth = torch.full((dims.num_bandwidths, *size), 1.5)
    return torch.cat([embedding, raw_bandwidth, seediness[None]])


def as_output(maps: Tensor, dims: EmbeddingDims) -> NetworkOutput:
    """Maps [E + B + 1, T, h, w] as the output for one clip, of leaves that take gradients."""
    parts = maps.split([dims.size, dims.num_bandwidths, 1])
    return NetworkOutput(*(part[None].detach().clone().requires_grad_() for part in parts))
