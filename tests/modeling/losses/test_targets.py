"""Targets at quarter scale: golden numbers, and against interpolation with truncation."""

import torch
import torch.nn.functional as F
from golden_weights import load_golden

from stemseg.structures.clip import ClipTargets
from stemseg.training.loss import downscale_targets


def test_masks_equal_the_published_implementation():
    golden = {key: torch.from_numpy(value) for key, value in load_golden("semseg_losses").items()}
    small = downscale_targets(ClipTargets(golden["full_masks"], golden["category_ids"], golden["full_ignore"]))
    assert torch.equal(small.masks, golden["small_masks"])
    assert torch.equal(small.ignore_mask, golden["small_ignore"])
    assert torch.equal(small.category_ids, golden["category_ids"])


def test_equals_truncated_bilinear_interpolation():
    masks = (torch.rand(3, 2, 32, 64, generator=torch.Generator().manual_seed(0)) < 0.8).to(torch.uint8)
    small = downscale_targets(ClipTargets(masks, torch.ones(3), masks[0]))
    expected = F.interpolate(masks.float(), scale_factor=0.25, mode="bilinear", align_corners=False).to(torch.uint8)
    assert torch.equal(small.masks, expected)
    assert 0 < expected.float().mean() < 1


def test_no_instances_stay_no_instances():
    empty = ClipTargets(torch.zeros(0, 2, 32, 64, dtype=torch.uint8), torch.zeros(0), torch.zeros(2, 32, 64).byte())
    assert downscale_targets(empty).masks.shape == (0, 2, 8, 16)
