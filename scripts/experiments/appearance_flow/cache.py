"""Videos as a frozen backbone's feature maps, and training clips of them: what the branches of one base share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stemseg.data.preprocessing import PackedClip, collate_clips
from stemseg.modeling.losses.appearance_loss import quarter_colors
from stemseg.modeling.network import Network, stack_clips
from stemseg.structures.clip import ClipTargets
from stemseg.structures.network_output import FeaturePyramid
from stemseg.training.loss import downscale_targets


class CachedClip(NamedTuple):
    """A clip as the heads and the losses see it.

    Attributes:
        features: maps [1, C, T, H/s, W/s], float16 in a cache.
        colors: [1, 3, T, H/4, W/4].
        targets: at quarter scale.
    """

    features: FeaturePyramid
    colors: Tensor
    targets: ClipTargets

    def take(self, frames: Sequence[int]) -> CachedClip:
        """Some of its frames, in any order, in float32."""
        features = FeaturePyramid(*(x[:, :, frames].float() for x in self.features))
        targets = ClipTargets(
            self.targets.masks[:, frames], self.targets.category_ids, self.targets.ignore_mask[frames]
        )
        return CachedClip(features, self.colors[:, :, frames], targets)


@torch.no_grad()
def encode_clips(network: Network, clips: Iterable[PackedClip]) -> list[CachedClip]:
    """The maps of whole videos, in evaluation mode."""
    network.eval()
    cached = []
    for clip in clips:
        batch = collate_clips([clip]).to("cpu")
        features = stack_clips(network.encode(batch.frames[0]), num_clips=1)
        half = FeaturePyramid(*(x.half() for x in features))
        cached.append(CachedClip(half, quarter_colors(batch.frames), downscale_targets(batch.targets[0])))
    return cached


def join(clips: Sequence[CachedClip]) -> tuple[FeaturePyramid, Tensor, list[ClipTargets]]:
    """A batch: maps [N, C, T, h, w], colors [N, 3, T, h, w] and N targets."""
    features = FeaturePyramid(*(torch.cat(level) for level in zip(*(c.features for c in clips), strict=True)))
    return features, torch.cat([c.colors for c in clips]), [c.targets for c in clips]


class ClipOrder:
    """Endless batches of clips in an order that is a function of the seed; half of the clips run backwards.

    Args:
        videos: whole ones.
        num_frames: T of a clip.
        spans: frames from a clip's first to its last, the least and the most, as ``FRAME_GAP_LOWER`` and ``_UPPER``.
        batch_size: N.
        seed: of the order; every iteration begins anew.
    """

    def __init__(
        self, videos: Sequence[CachedClip], *, num_frames: int, spans: tuple[int, int], batch_size: int, seed: int
    ) -> None:
        self._videos = videos
        self._num_frames = num_frames
        self._spans = spans
        self._batch_size = batch_size
        self._seed = seed

    def __iter__(self) -> Iterator[tuple[FeaturePyramid, Tensor, list[ClipTargets]]]:
        rng = np.random.default_rng(self._seed)
        while True:
            yield join([self._draw(rng) for _ in range(self._batch_size)])

    def _draw(self, rng: np.random.Generator) -> CachedClip:
        video = self._videos[rng.integers(len(self._videos))]
        last = video.colors.shape[2] - 1
        span = min(int(rng.integers(self._spans[0], self._spans[1] + 1)), last)
        start = int(rng.integers(last - span + 1))
        frames = np.linspace(start, start + span, self._num_frames).round().astype(int)
        return video.take(list(frames[::-1] if rng.random() < 0.5 else frames))
