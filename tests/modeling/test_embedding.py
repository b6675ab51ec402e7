"""Coordinates: golden numbers for every mode. The Gaussian: the formula in float64, and mixed precision."""

import math

import pytest
import torch

from stemseg.modeling.embedding import (
    add_coordinates,
    bandwidth,
    coordinate_grid,
    gaussian_probability,
    squared_distance,
)
from stemseg.structures.embedding_dims import parse_dim_mode
from tests.helpers.golden_weights import det, load_golden, relative_difference

GOLDEN = load_golden("spatiotemporal_offset")
CASES = [key for key in GOLDEN if not key.startswith("x|")]  # "x" alone is no mode that a configuration may name


@pytest.mark.parametrize("case", CASES)
def test_offsets_plus_coordinates_equal_the_published_implementation(case):
    mode, time_scale, _ = case.split("|")
    expected = GOLDEN[case]
    offsets = det(f"offset.{mode}", expected.shape)
    axes = parse_dim_mode(mode).coordinates
    result = add_coordinates(offsets, axes, torch.tensor(float(time_scale.removeprefix("ts="))))
    assert relative_difference(result, expected) < 1e-6


def test_longer_side_reaches_beyond_one():
    grid = coordinate_grid(("t", "y", "x"), 3, 5, 10, torch.tensor(0.5))
    assert grid.shape == (3, 3, 5, 10)
    assert grid.amax(dim=(1, 2, 3)).tolist() == [0.5, 1.0, 2.0]
    assert grid.amin(dim=(1, 2, 3)).tolist() == [-0.5, -1.0, -2.0]


def test_half_precision_offsets_become_float32():
    offsets = torch.zeros(1, 2, 1, 2, 300, dtype=torch.bfloat16)
    result = add_coordinates(offsets, ("y", "x"), torch.tensor(1.0))
    assert result.dtype == torch.float32
    assert len(result[0, 1, 0, 0].unique()) == 300  # bfloat16 could not tell 300 columns apart


def draw(num_instances=3, size=4, num_points=50, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(size, num_points, generator=generator)
    centers = torch.randn(num_instances, size, generator=generator)
    return embeddings, centers, scale * bandwidth(torch.randn(num_instances, size, generator=generator))


def naive_distance(embeddings, centers, bandwidths):
    difference = embeddings.double()[None] - centers.double()[:, :, None]
    return (bandwidths.double()[:, :, None] * difference**2).sum(1)


def test_bandwidth_is_ten_at_zero():
    assert bandwidth(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([10.0, 27.1828], rel=1e-5)
    assert bandwidth(torch.zeros(1, dtype=torch.float16)).dtype == torch.float32


@pytest.mark.parametrize("scale", [1.0, 1e5])
def test_distance_and_probability_equal_the_formula(scale):
    embeddings, centers, bandwidths = draw(scale=scale)
    embeddings[:, 0] = centers[0] + 1e-4  # near a center, where the terms of the product form cancel
    expected = naive_distance(embeddings, centers, bandwidths)
    assert torch.allclose(squared_distance(embeddings, centers, bandwidths).double(), expected, rtol=1e-6, atol=1e-7)
    probabilities = gaussian_probability(squared_distance(embeddings, centers, bandwidths))
    assert torch.allclose(probabilities.double(), torch.exp(-0.5 * expected), atol=1e-6)


def test_rounding_gives_no_probability_above_one():
    assert gaussian_probability(torch.tensor([-1e-3, 0.0, 2.0])).tolist() == pytest.approx([1.0, 1.0, math.exp(-1)])


def test_gradients_equal_the_formula():
    inputs = [x.requires_grad_() for x in draw()]
    gradients = torch.autograd.grad(gaussian_probability(squared_distance(*inputs)).sum(), inputs)
    expected = torch.autograd.grad(torch.exp(-0.5 * naive_distance(*inputs)).sum(), inputs)
    for gradient, reference in zip(gradients, expected, strict=True):
        assert torch.allclose(gradient, reference, atol=1e-5)


def test_autocast_does_not_lower_the_precision():
    inputs = draw()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        probabilities = gaussian_probability(squared_distance(*inputs))
    assert probabilities.dtype == torch.float32
    assert torch.equal(probabilities, gaussian_probability(squared_distance(*inputs)))
