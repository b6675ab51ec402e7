"""EMBEDDING_DIM_MODE against the recorded dimension counts."""

import json

import pytest

from stemseg.structures.embedding_dims import parse_dim_mode
from stemseg.utils.errors import ConfigError
from tests.helpers.paths import GOLDEN_DIR

RECORDED = json.loads((GOLDEN_DIR / "embedding_dims.json").read_text())


@pytest.mark.parametrize("mode", [m for m, v in RECORDED.items() if v["embedding_dims"] is not None])
def test_counts_equal_the_recorded_ones(mode):
    dims = parse_dim_mode(mode)
    assert (dims.size, dims.num_free) == (RECORDED[mode]["embedding_dims"], RECORDED[mode]["free_dims"])
    assert dims.num_bandwidths + dims.num_free == dims.size


@pytest.mark.parametrize(("mode", "coordinates"), [("ff", ()), ("xyffff", ("y", "x")), ("xytfffff", ("t", "y", "x"))])
def test_channel_order(mode, coordinates):
    assert parse_dim_mode(mode).coordinates == coordinates


@pytest.mark.parametrize("mode", ["", "x", "t", "yx", "fff", "xyfffff", "txy", "xytx"])
def test_other_modes_are_refused(mode):
    with pytest.raises(ConfigError, match="expected 'ff'"):
        parse_dim_mode(mode)
