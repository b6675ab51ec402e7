"""The semantics of frames, averaged over the clips that cover them: foreground, classes (method.md §8.2, §8.3).

An instance's class (§8.7) is that of the largest sum of class logits over its pixels, at any scale of the label map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stemseg.config import Config
from stemseg.structures.network_output import NetworkOutput
from stemseg.utils import devices


class FrameAverages:
    """Running means of maps, frame by frame; frames are dropped as soon as they are of no more use."""

    def __init__(self) -> None:
        self._sums: dict[int, Tensor] = {}
        self._counts: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._sums)

    def add(self, frames: Sequence[int], maps: Tensor) -> None:
        """Add a clip's maps [C, T, h, w]; a frame may occur several times."""
        for frame, frame_map in zip(frames, maps.unbind(dim=1), strict=True):  # [C, h, w]
            self._sums[frame] = self._sums[frame] + frame_map if frame in self._sums else frame_map
            self._counts[frame] = self._counts.get(frame, 0) + 1

    def means(self, frames: Sequence[int]) -> Tensor:
        """The mean maps of some frames, [F, C, h, w]."""
        return torch.stack([self.mean(frame) for frame in frames])

    def mean(self, frame: int) -> Tensor:
        """The mean map of a frame, [C, h, w]."""
        return self._sums[frame] / self._counts[frame]

    def forget_before(self, frame: int) -> None:
        """Drop every earlier frame."""
        for old in [f for f in self._sums if f < frame]:
            del self._sums[old], self._counts[old]


class SemanticRule:
    """Reads a network's semantic maps: which pixels are foreground, and what their class logits are.

    With a semantic head, pixels are foreground where the foreground channel's sigmoid exceeds 1/2, or, without that
    channel, where the background is less likely than all classes together. Without a head, where the mean seediness
    exceeds a threshold.

    Args:
        seediness_threshold: of the mean seediness, in networks without a semantic head.
        num_classes: K, background included; 2 means class-agnostic.
        has_semantic_head: whether the network has class logits.
    """

    def __init__(self, *, seediness_threshold: float, num_classes: int, has_semantic_head: bool) -> None:
        self._threshold = 0.0 if has_semantic_head else seediness_threshold
        self._num_classes = num_classes if has_semantic_head else 0

    @property
    def reads_logits(self) -> bool:
        """Whether its maps are semantic logits; else they are the seediness."""
        return self._num_classes > 0

    def maps(self, output: NetworkOutput) -> Tensor:
        """The maps of a clip that tell the foreground, [C, T, h, w] float32.

        The foreground channel, or seediness, C = 1; the class logits of a semantic head without that channel.
        """
        if not self._num_classes:
            return output.seediness[0].float()
        present = [logits for logits in (output.foreground_logits, output.class_logits) if logits is not None]
        return present[0][0].float()

    def class_maps(self, output: NetworkOutput) -> Tensor | None:
        """The class logits of a clip, [K, T, h, w] float32; None where there is nothing to choose from."""
        if self._num_classes <= 2 or output.class_logits is None:
            return None
        return output.class_logits[0].float()

    def foreground(self, means: Tensor, scale: int = 1) -> Tensor:
        """Foreground masks [F, scale * h, scale * w] bool of mean maps [F, C, h, w]."""
        return self.is_foreground(self.foreground_scores(means, scale))

    def foreground_scores(self, means: Tensor, scale: int = 1) -> Tensor:
        """Logits of the foreground, or without a head the seediness, [F, scale * h, scale * w]."""
        scores = self._foreground_scores(means)  # [F, 1, h, w]
        if scale > 1:
            scores = F.interpolate(scores, scale_factor=scale, mode="bilinear", align_corners=False)
        return scores[:, 0]

    def is_foreground(self, scores: Tensor) -> Tensor:
        """The places where :meth:`foreground_scores`, of any shape, mean foreground."""
        return scores > self._threshold

    def foreground_probabilities(self, scores: Tensor) -> Tensor:
        """:meth:`foreground_scores`, of any shape, as probabilities."""
        return scores.sigmoid() if self._num_classes else scores

    def _foreground_scores(self, means: Tensor) -> Tensor:
        if means.shape[1] == 1:  # a foreground channel, or seediness
            return means
        return means[:, 1:].logsumexp(dim=1, keepdim=True) - means[:, :1]


def build_semantic_rule(cfg: Config) -> SemanticRule:
    """The rule that fits a configuration's network."""
    return SemanticRule(
        seediness_threshold=cfg.INFERENCE.SEEDINESS_THRESHOLD,
        num_classes=cfg.INPUT.NUM_CLASSES,
        has_semantic_head=cfg.MODEL.USE_SEMSEG_HEAD,
    )


def foreground_places(masks: Tensor) -> list[Tensor]:
    """The places of each frame's foreground in the flattened map, ascending: masks [F, H, W] bool -> F tensors [P]."""
    flat = masks.flatten(1)  # [F, H * W]
    if devices.is_host(masks.device):
        return [torch.from_numpy(np.flatnonzero(frame)) for frame in flat.numpy()]
    return places_without_waiting(flat)


def places_without_waiting(masks: Tensor) -> list[Tensor]:
    """The same for masks [F, H * W] on a GPU, whose host waits once, for the numbers of points."""
    counts = devices.read(masks.sum(dim=1))
    ranks = masks.cumsum(dim=1) - 1
    places = torch.arange(masks.shape[1], device=masks.device)
    found = []
    for mask, rank, count in zip(masks, ranks, counts, strict=True):
        slots = places.new_empty(count + 1)  # the last one takes what is background
        slots.scatter_(0, torch.where(mask, rank, count), places)
        found.append(slots[:count])
    return found


class FramePoints:
    """Points of one frame, in a map that is a whole number of times as fine as the network's.

    Args:
        places: [P], in the flattened fine map [scale * h * scale * w].
        size: (h, w) of the coarse map.
        scale: of the fine one.
    """

    def __init__(self, places: Tensor, size: tuple[int, int], scale: int = 1) -> None:
        self.places = places
        self.size = size
        self.scale = scale

    def __len__(self) -> int:
        return len(self.places)

    @cached_property
    def corners(self) -> list[tuple[Tensor, Tensor | None]]:
        """The coarse pixels that they are interpolated from bilinearly (align_corners False), with their weights.

        Four pairs of places in the flattened coarse map [P] and weights [P] float32. At scale 1 each point is its own
        only corner, without a weight.
        """
        if self.scale == 1:
            return [(self.places, None)]
        height, width = self.size
        places = self.places.int()
        rows = places.div(self.scale * width, rounding_mode="floor")
        columns = places - rows * (self.scale * width)
        top, bottom, down = _neighbors(rows, self.scale, height)
        left, right, across = _neighbors(columns, self.scale, width)
        top, bottom, up, back = top * width, bottom * width, 1 - down, 1 - across
        # for whole-numbered scales all weights are multiples of a small power of two, and exact
        return [
            (top + left, up * back),
            (top + right, up * across),
            (bottom + left, down * back),
            (bottom + right, down * across),
        ]


def _neighbors(fine: Tensor, scale: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """The coarse positions before and behind each fine one, and the weight of the one behind."""
    position = ((fine.float() + 0.5) / scale - 0.5).clamp(min=0)
    lower = position.floor()
    before = lower.int()
    return before, (before + 1).clamp(max=length - 1), position - lower


def sample(maps: Tensor, points: FramePoints) -> Tensor:
    """Values at some points of maps [C, h, w] upsampled bilinearly, of which nothing else is computed: [C, P]."""
    values = maps.flatten(1)
    total = torch.zeros(len(values), len(points), device=maps.device)
    for pixels, weight in points.corners:
        if weight is None:
            return values.index_select(1, pixels)
        total.addcmul_(values.index_select(1, pixels), weight)
    return total


def class_votes(
    points: Sequence[FramePoints],
    labels: Sequence[Tensor],
    num_instances: int,
    maps: Sequence[Tensor],
    *,
    derive: Callable[[Tensor], Tensor] = lambda values: values,
) -> Tensor:
    """Sums of maps over the pixels of each instance, such as of class logits, [I, K'] float32.

    Where the labels are finer than the maps, the result is that of maps upsampled bilinearly to their size. They never
    are: a sum over upsampled maps equals one over the maps themselves, weighted by :func:`label_weights`.

    Args:
        points: of each of F frames.
        labels: their instances [P], from 1; 0 and -1 do not vote.
        num_instances: I.
        maps: F maps [K, h, w].
        derive: the values that are summed, of those in the maps: [K, n] -> [K', n]. Asked for where an instance is.
    """
    votes: list[Tensor] = []
    for frame_points, frame_labels, frame_maps in zip(points, labels, maps, strict=True):
        weights, pixels = label_weights(frame_points, frame_labels, num_instances)  # [I, n]
        values = frame_maps.flatten(1)  # [K, h * w]
        votes.append(weights @ derive(values if pixels is None else values.index_select(1, pixels)).T)
    return torch.stack(votes).sum(dim=0)


def label_weights(points: FramePoints, labels: Tensor, num_instances: int) -> tuple[Tensor, Tensor | None]:
    """The share of each coarse pixel in each instance: the transpose of bilinear upsampling, applied to its mask.

    Args:
        points: P of one frame.
        labels: [P], see :func:`class_votes`.
        num_instances: I.

    Returns:
        [I, n] float32, whose row i sums to the number of pixels of instance i + 1, and the n pixels [n] that points
        have a share in; on a GPU None, which means all h * w of them: the host does not know n.
    """
    neighbors, touched, count = points.corners, None, points.size[0] * points.size[1]
    if devices.is_host(labels.device):
        is_touched = torch.zeros(count, dtype=torch.bool)
        for pixels, _ in neighbors:
            is_touched.index_fill_(0, pixels.long(), True)
        touched = torch.from_numpy(np.flatnonzero(is_touched.numpy()))
        numbers = torch.empty(count, dtype=torch.int32)
        numbers[touched], count = torch.arange(len(touched), dtype=torch.int32), len(touched)
        neighbors = [(numbers.index_select(0, pixels), weight) for pixels, weight in neighbors]
    total = torch.zeros((num_instances + 1) * count, device=labels.device)
    # what is no instance goes to a row that is dropped: leaving it out would make a GPU's host wait
    rows = torch.where(labels > 0, labels - 1, num_instances) * count
    ones = total.new_ones(len(rows))
    for pixels, weight in neighbors:
        # sums of multiples of a small power of two: exact, in any order
        total.index_add_(0, rows + pixels, ones if weight is None else weight)
    return total.view(num_instances + 1, count)[:num_instances], touched
