"""Space-time coordinates: golden numbers for every mode, and their limits."""

import pytest
import torch
from golden_weights import det, load_golden, relative_difference

from stemseg.modeling.embedding import add_coordinates, coordinate_grid
from stemseg.structures.embedding_dims import parse_dim_mode

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
