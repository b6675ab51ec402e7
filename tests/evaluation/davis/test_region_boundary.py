"""J and F of all pairs at once against a mask-by-mask implementation of their definitions."""

import math

import cv2
import numpy as np
import pytest

from stemseg.evaluation.davis.region_boundary import pair_scores


def _naive_boundary(mask):
    height, width = mask.shape
    boundary = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            lower, right = min(y + 1, height - 1), min(x + 1, width - 1)
            boundary[y, x] = any(mask[y, x] != mask[v, u] for v, u in ((y, right), (lower, x), (lower, right)))
    return boundary


def _naive_scores(prediction, truth):
    union = (prediction | truth).sum()
    region = (prediction & truth).sum() / union if union else 1.0
    radius = math.ceil(0.008 * math.hypot(*truth.shape))
    axis = np.arange(-radius, radius + 1)
    disk = (axis[:, None] ** 2 + axis[None, :] ** 2 <= radius**2).astype(np.uint8)
    first, second = (_naive_boundary(m).astype(np.uint8) for m in (prediction, truth))
    if first.sum() == 0 or second.sum() == 0:
        return region, float(first.sum() == second.sum())
    precision = (first & cv2.dilate(second, disk)).sum() / first.sum()
    recall = (second & cv2.dilate(first, disk)).sum() / second.sum()
    return region, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _random_map(rng, num_ids, height, width):
    coarse = rng.integers(0, num_ids + 1, (5, 6)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)


@pytest.mark.parametrize(("num_predictions", "num_objects"), [(3, 2), (9, 3), (20, 1), (1, 70)])
def test_all_pairs_equal_one_by_one(num_predictions, num_objects):
    rng = np.random.default_rng(num_predictions)
    prediction = _random_map(rng, num_predictions, 44, 52)
    truth = np.roll(_random_map(rng, num_objects, 44, 52), 2, axis=1)
    prediction[:15] = 0
    scores = pair_scores(prediction, truth, num_predictions, num_objects)
    for p in range(num_predictions):
        for g in range(num_objects):
            region, boundary = _naive_scores(prediction == p + 1, truth == g + 1)
            assert scores.region[p, g] == region
            assert scores.boundary[p, g] == pytest.approx(boundary, abs=1e-12)


def test_tolerance_is_a_disk_on_480p():
    """The radius is 8 pixels at 854 x 480: a thin line 8 pixels off is found, 9 pixels off is not."""
    found = []
    for shift in (8, 9):
        truth, prediction = np.zeros((2, 480, 854), dtype=np.uint8)
        truth[:, 100:] = 1
        prediction[:, 100 + shift :] = 1
        found.append(pair_scores(prediction, truth, 1, 1).boundary.item())
    assert found == [1.0, 0.0]


def test_empty_masks():
    empty, full = np.zeros((20, 30), dtype=np.uint8), np.zeros((20, 30), dtype=np.uint8)
    full[5:10, 5:10] = 1
    assert [s.item() for s in pair_scores(empty, empty, 1, 1)] == [1.0, 1.0]
    assert [s.item() for s in pair_scores(empty, full, 1, 1)] == [0.0, 0.0]
    assert [s.item() for s in pair_scores(full, empty, 1, 1)] == [0.0, 0.0]


def test_an_object_that_fills_the_image_has_no_boundary():
    full = np.ones((20, 30), dtype=np.uint8)
    scores = pair_scores(full, full, 1, 1)
    assert (scores.region.item(), scores.boundary.item()) == (1.0, 1.0)
