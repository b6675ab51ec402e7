"""Matching instances by overlap: golden numbers, and a naive implementation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stemseg.inference.chaining import _joint_histogram, label_ious, match_instances

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CASES = json.loads((GOLDEN / "association_meta.json").read_text())


@pytest.mark.parametrize("case", sorted(CASES))
def test_association_equals_the_published_one(case: str) -> None:
    arrays = np.load(GOLDEN / "association.npz")
    previous, current = torch.from_numpy(arrays[f"l1_{case}"]), torch.from_numpy(arrays[f"l2_{case}"])
    current = torch.where(current > 100, current - 100, current)  # there, new labels start at 101
    matches = match_instances(previous, current, 6, 6, compat=True)
    expected = CASES[case]
    assert sorted((i, j + 100) for j, i in matches.items()) == sorted(
        map(tuple, expected["associations(existing,current)"])
    )
    ious = label_ious(_joint_histogram(previous, current, 6, 6))
    costs = sorted(1 - ious[i - 1, j - 1] for j, i in matches.items())
    np.testing.assert_allclose(costs, sorted(expected["costs"]), atol=1e-6)


def test_ious_equal_pairwise_set_arithmetic() -> None:
    rng = np.random.default_rng(0)
    previous, current = rng.integers(-1, 5, (3, 8, 9)), rng.integers(-1, 4, (3, 8, 9))
    ious = label_ious(_joint_histogram(torch.from_numpy(previous), torch.from_numpy(current), 5, 4))
    for i in range(5):
        for j in range(4):
            a, b = previous == i + 1, current == j + 1
            union = (a | b).sum()
            assert ious[i, j] == pytest.approx((a & b).sum() / union if union else 0.0)


def test_instances_without_a_common_pixel_match_in_compat_mode_only() -> None:
    previous, current = torch.tensor([1, 1, 0, 0]), torch.tensor([0, 0, 1, 1])
    assert match_instances(previous, current, 1, 1) == {}
    assert match_instances(previous, current, 1, 1, compat=True) == {1: 1}


def test_a_minimum_overlap_can_be_demanded() -> None:
    previous, current = torch.tensor([1, 1, 1, 1]), torch.tensor([1, 0, 0, 0])  # IoU 1 / 4
    assert match_instances(previous, current, 1, 1, min_iou=0.2) == {1: 1}
    assert match_instances(previous, current, 1, 1, min_iou=0.3) == {}


def test_nothing_to_match() -> None:
    empty = torch.zeros(4, dtype=torch.int32)
    assert match_instances(empty, empty, 0, 0) == {}
    assert match_instances(torch.tensor([1, 1, -1, 0]), torch.tensor([-1, -1, -1, 0]), 1, 0) == {}
