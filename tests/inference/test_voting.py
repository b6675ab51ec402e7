"""Class votes against the plain way: upsample all logits, add them up within each mask."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from stemseg.inference.semantics import class_votes, label_weights


@pytest.mark.parametrize("scale", [1, 4])
def test_votes_equal_sums_over_upsampled_logits(scale: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 7, 5, 6, generator=generator)
    labels = torch.randint(-1, 4, (3, 5 * scale, 6 * scale), generator=generator)
    upsampled = F.interpolate(logits, scale_factor=scale, mode="bilinear", align_corners=False) if scale > 1 else logits
    expected = torch.stack([(upsampled * (labels == i)[:, None]).sum(dim=(0, 2, 3)) for i in (1, 2, 3)])
    torch.testing.assert_close(class_votes(labels, 3, logits), expected, rtol=1e-5, atol=1e-4)


def test_weights_of_a_label_sum_to_its_pixels() -> None:
    labels = torch.zeros(16, 24, dtype=torch.int32)
    labels[0:3, 0:5] = 1  # touches the border, where interpolation clamps
    labels[7:16, 9:24] = 2
    weights = label_weights(labels, 3, (4, 6))
    torch.testing.assert_close(weights.sum(dim=1), torch.tensor([15.0, 135.0, 0.0]))


def test_no_instances() -> None:
    assert class_votes(torch.zeros(1, 4, 4, dtype=torch.int32), 0, torch.zeros(1, 5, 4, 4)).shape == (0, 5)
