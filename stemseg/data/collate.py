"""From single clips to a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from stemseg.data.preprocessing import pad_to, padded_dims
from stemseg.structures.clip import Clip, ClipBatch, ClipTargets


def collate_clips(clips: Sequence[Clip]) -> ClipBatch:
    """Pad clips of any sizes right and bottom with zeros to the batch's largest, rounded up to a multiple of 32.

    Padding is background, not an ignore region: the network meets the same zeros at inference and must find nothing
    there.
    """
    sizes = [(clip.frames.shape[-2], clip.frames.shape[-1]) for clip in clips]
    height, width = padded_dims(max(h for h, _ in sizes), max(w for _, w in sizes))
    frames = torch.stack([pad_to(clip.frames, height, width) for clip in clips])  # [N, T, 3, H, W]
    return ClipBatch(frames, [_pad_targets(c.targets, height, width) for c in clips], sizes, [c.name for c in clips])


def _pad_targets(targets: ClipTargets, height: int, width: int) -> ClipTargets:
    return ClipTargets(
        masks=pad_to(targets.masks, height, width),
        category_ids=targets.category_ids,
        ignore_mask=pad_to(targets.ignore_mask, height, width),
    )
