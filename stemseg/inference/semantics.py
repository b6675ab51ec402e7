"""The semantics of frames, averaged over the clips that cover them: foreground, classes (method.md §8.2, §8.3).

An instance's class (§8.7) is that of the largest sum of class logits over its pixels, at any scale of the label map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from stemseg.config import Config
from stemseg.structures.network_output import NetworkOutput


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
        return torch.stack([self._sums[frame] / self._counts[frame] for frame in frames])

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
        """The maps of a clip to be averaged, [C, T, h, w] float32: class and foreground logits, or seediness."""
        if not self._num_classes:
            return output.seediness[0].float()
        parts = [logits[0].float() for logits in (output.class_logits, output.foreground_logits) if logits is not None]
        return torch.cat(parts)

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

    def class_logits(self, means: Tensor) -> Tensor | None:
        """Class logits [F, K, h, w] of mean maps [F, C, h, w]; None where there is nothing to choose from."""
        return means[:, : self._num_classes] if self._num_classes > 2 else None

    def _foreground_scores(self, means: Tensor) -> Tensor:
        if means.shape[1] != self._num_classes:  # a foreground channel, last; or seediness
            return means[:, -1:]
        return means[:, 1:].logsumexp(dim=1, keepdim=True) - means[:, :1]


def build_semantic_rule(cfg: Config) -> SemanticRule:
    """The rule that fits a configuration's network."""
    return SemanticRule(
        seediness_threshold=cfg.INFERENCE.SEEDINESS_THRESHOLD,
        num_classes=cfg.INPUT.NUM_CLASSES,
        has_semantic_head=cfg.MODEL.USE_SEMSEG_HEAD,
    )


def class_votes(labels: Tensor, num_instances: int, class_logits: Tensor) -> Tensor:
    """Summed class logits of each instance, [I, K] float32.

    Where the label map is larger than the logits, the result is that of logits upsampled bilinearly to its size. They
    never are: a sum over upsampled logits equals one over the logits themselves, weighted by :func:`label_weights`.

    Args:
        labels: [F, H, W], instances from 1; 0 and -1 do not vote.
        num_instances: I.
        class_logits: [F, K, h, w], H / h = W / w a whole number.
    """
    votes = torch.zeros(num_instances, class_logits.shape[1], device=labels.device)
    for frame_labels, logits in zip(labels, class_logits, strict=True):
        weights = label_weights(frame_labels, num_instances, logits.shape[-2:])  # [I, h * w]
        votes += weights @ logits.to(weights).flatten(1).T  # [I, h * w] @ [h * w, K]
    return votes


def label_weights(labels: Tensor, num_instances: int, size: tuple[int, int]) -> Tensor:
    """The share of each coarse pixel in each instance: the transpose of bilinear upsampling, applied to its mask.

    Args:
        labels: [H, W], instances from 1.
        num_instances: I.
        size: (h, w) of the coarse map.

    Returns:
        [I, h * w] float32; row i sums to the number of pixels of instance i + 1.
    """
    height, width = size
    rows, columns = (labels > 0).nonzero(as_tuple=True)  # [P]
    offsets = (labels[rows, columns].long() - 1) * (height * width)
    row_pairs = _source_pixels(rows, labels.shape[0] // height, height)
    column_pairs = _source_pixels(columns, labels.shape[1] // width, width)
    # float32 is exact: for whole-numbered scales all weights are multiples of a small power of two
    total = torch.zeros(num_instances * height * width, device=labels.device)
    for source_rows, row_weights in row_pairs:
        for source_columns, column_weights in column_pairs:
            pixels = offsets + source_rows * width + source_columns
            total += torch.bincount(pixels, row_weights * column_weights, minlength=total.shape[0])
    return total.view(num_instances, height * width)


def _source_pixels(fine: Tensor, scale: int, length: int) -> list[tuple[Tensor, Tensor]]:
    """The coarse pixels that each fine one is interpolated from (align_corners False), with their weights."""
    if scale == 1:
        return [(fine, torch.ones_like(fine, dtype=torch.float32))]
    position = ((fine.float() + 0.5) / scale - 0.5).clamp(min=0)
    lower = position.floor().long()
    fraction = position - lower
    return [(lower, 1 - fraction), ((lower + 1).clamp(max=length - 1), fraction)]
