"""Resizing masks through matrices against resizing whole images, step by step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from stemseg.inference.mask_resizer import MaskResizer
from stemseg.structures.rle import decode_rle


@pytest.mark.parametrize(
    ("stride", "label_size", "network_size", "video_size"),
    [(4, (24, 32), (83, 124), (80, 120)), (4, (8, 16), (32, 60), (200, 375)), (1, (32, 64), (30, 51), (100, 170))],
)
def test_masks_equal_those_of_whole_image_interpolation(
    stride: int, label_size: tuple[int, int], network_size: tuple[int, int], video_size: tuple[int, int]
) -> None:
    coarse = np.random.default_rng(0).integers(-1, 4, (label_size[0] // 4, label_size[1] // 4))
    labels = coarse.repeat(4, axis=0).repeat(4, axis=1)
    resizer = MaskResizer(label_size=label_size, label_stride=stride, network_size=network_size, video_size=video_size)
    for label in (1, 2, 3):
        full = torch.from_numpy(labels == label)[None, None].float()
        full = F.interpolate(full, scale_factor=stride, mode="bilinear", align_corners=False)
        full = full[..., : network_size[0], : network_size[1]]
        full = F.interpolate(full, size=video_size, mode="bilinear", align_corners=False)
        differing = resizer.resize(labels, label) != (full[0, 0] > 0.5).numpy()
        assert differing.mean() < 1e-3  # exact ties at one half may round either way


def test_masks_of_a_partition_never_overlap() -> None:
    labels = np.random.default_rng(1).integers(1, 5, (24, 32))
    resizer = MaskResizer(label_size=(24, 32), label_stride=4, network_size=(96, 128), video_size=(96, 128))
    assert sum(resizer.resize(labels, label) for label in range(1, 5)).max() == 1


def test_only_visible_labels_are_encoded() -> None:
    labels = np.zeros((8, 8), dtype=np.int16)
    labels[2:6, 2:6] = 3
    labels[7, 7] = 4  # in the padding
    resizer = MaskResizer(label_size=(8, 8), label_stride=4, network_size=(24, 24), video_size=(24, 24))
    counts = resizer.encode(labels, [3, 4, 5])
    assert list(counts) == [3]
    assert decode_rle(counts[3], 24, 24).sum() == pytest.approx(16 * 16, rel=0.1)
