"""Training targets at the scale of the network's outputs (METHOD section 1)."""

from __future__ import annotations

from torch import Tensor

from stemseg.structures.clip import ClipTargets


def downscale_targets(targets: ClipTargets) -> ClipTargets:
    """Masks and ignore mask at a quarter of the size; H and W must be multiples of 4.

    Published weights were trained on bilinear interpolation followed by truncation to integers: a pixel is 1 only where
    all the pixels that it interpolates are. With a factor of 1/4 these are the inner 2x2 of each 4x4.
    """
    return ClipTargets(_erode(targets.masks), targets.category_ids, _erode(targets.ignore_mask))


def _erode(mask: Tensor) -> Tensor:
    """[..., H, W] uint8 -> [..., H/4, W/4]."""
    rows = mask[..., 1::4, :] & mask[..., 2::4, :]
    return rows[..., 1::4] & rows[..., 2::4]
