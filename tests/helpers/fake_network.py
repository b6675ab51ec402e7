"""A network without weights whose outputs can be predicted from the images, for tests of what surrounds the network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stemseg.modeling.clip_stream import PlainClipStream
from stemseg.structures.network_output import FeaturePyramid, NetworkOutput

CHANNELS = 3


class FakeNetwork(nn.Module):
    """Channels of an image are read as: object number, class number, foreground. Outputs also depend on the place of a
    frame in its clip, so that averaging over clips can be told from taking one of them."""

    def __init__(self, num_classes: int = 4, *, semantic: bool = True) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.semantic = semantic
        self.num_encoded = 0
        self.scale = nn.Parameter(torch.ones(()))

    @property
    def free_dim_bandwidths(self) -> Tensor:
        """One free dimension."""
        return torch.tensor([10.0])

    def open_stream(self) -> PlainClipStream:
        """The frames of a video."""
        return PlainClipStream(self)

    def encode(self, frames: Tensor) -> FeaturePyramid:
        """Means over the cells of each stride."""
        self.num_encoded += len(frames)
        return FeaturePyramid(*(F.avg_pool2d(frames, stride) * self.scale for stride in (4, 8, 16, 32)))

    def decode(self, features: FeaturePyramid) -> NetworkOutput:
        """Embedding (object number, t): B is 1, the other dimension is free."""
        objects, classes, foreground = features.stride4.split(1, dim=1)  # each [N, 1, T, h, w]
        place = torch.linspace(0, 0.3, objects.shape[2]).view(1, 1, -1, 1, 1).expand_as(objects)
        levels = torch.arange(self.num_classes).view(1, -1, 1, 1, 1)
        return NetworkOutput(
            embedding=torch.cat([objects * 3, place], dim=1),
            raw_bandwidth=torch.zeros_like(objects),
            seediness=(0.3 + 0.4 * foreground + place).clamp(0, 1),
            class_logits=place - (classes - levels).abs() if self.semantic else None,
            foreground_logits=foreground - 0.5 - place / 10 if self.semantic else None,
        )


def moving_squares(num_frames: int, size: tuple[int, int] = (64, 96)) -> Tensor:
    """Two crossing squares on the grid of the output, [F, 3, H, W]: object 1 of class 2, object 2 of class 3."""
    frames = torch.zeros(num_frames, CHANNELS, *size)
    for t in range(num_frames):
        for number, (top, left) in enumerate([(4, 4 * t % 72), (36, (80 - 4 * t) % 72)], start=1):
            square = torch.tensor([number, number + 1, 1.0])[:, None, None]
            frames[t, :, top : top + 20, left : left + 20] = square
    return frames
