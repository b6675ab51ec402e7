"""RLE masks: recorded counts, round trips, and damage that must be found."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from stemseg.structures.rle import (
    check_rle_size,
    decode_rle,
    encode_rle,
    encode_rle_part,
    merge_rles,
    paint_rles,
    rle_area,
    rle_run_lengths,
)
from stemseg.utils.errors import DataError
from tests.helpers.paths import GOLDEN_DIR


def recorded_masks():
    with np.load(GOLDEN_DIR / "rle.npz") as masks:
        return {name: masks[name] for name in masks.files}


def test_counts_equal_the_recorded_ones():
    recorded = json.loads((GOLDEN_DIR / "rle.json").read_text())
    texts = set(_texts(recorded))
    for name, mask in recorded_masks().items():
        assert encode_rle(mask) in texts, name


def _texts(node):
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from _texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value)


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (64, 48), (3, 2000)])
@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 1.0])
def test_round_trip(shape, density):
    mask = (np.random.default_rng(0).random(shape) < density).astype(np.uint8)
    counts = encode_rle(mask)
    np.testing.assert_array_equal(decode_rle(counts, *shape), mask)
    assert rle_area(counts, *shape) == mask.sum()
    assert sum(rle_run_lengths(counts)) == mask.size
    assert sum(rle_run_lengths(counts)[1::2]) == mask.sum()


def test_union():
    rng = np.random.default_rng(1)
    masks = [rng.random((9, 11)) < 0.2 for _ in range(3)]
    union = decode_rle(merge_rles([encode_rle(m) for m in masks], 9, 11), 9, 11)
    np.testing.assert_array_equal(union, np.any(masks, axis=0))


@pytest.mark.parametrize(("height", "width"), [(5, 8), (6, 7), (7, 6)])
def test_counts_of_another_size_are_refused(height, width):
    counts = encode_rle(np.ones((5, 7)))
    with pytest.raises(DataError, match="cover 35 pixels, expected"):
        check_rle_size(counts, height, width)
    with pytest.raises(DataError):
        decode_rle(counts, height, width)


@pytest.mark.parametrize("counts", ["P", "5\n", "é"])
def test_damaged_counts_are_refused(counts):
    with pytest.raises(DataError, match="RLE counts"):
        rle_run_lengths(counts)


@pytest.mark.parametrize("density", [0.0, 0.3, 0.9, 1.0])
def test_a_part_is_encoded_like_the_mask_that_holds_it(density):
    """Parts of all places and sizes, among them such as fill whole columns, whose runs then join."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = rng.integers(1, 9, 2)
        top, left = rng.integers(0, height), rng.integers(0, width)
        part = rng.random((rng.integers(1, height - top + 1), rng.integers(1, width - left + 1))) < density
        mask = np.zeros((height, width), dtype=np.uint8)
        mask[top : top + part.shape[0], left : left + part.shape[1]] = part
        assert encode_rle_part(part, top, left, (height, width)) == encode_rle(mask)


def test_decoding_equals_that_of_pycocotools():
    mask = (np.random.default_rng(0).random((40, 30)) < 0.5).astype(np.uint8)
    counts = encode_rle(mask)
    decoded = decode_rle(counts, 40, 30)
    np.testing.assert_array_equal(decoded, coco_mask.decode({"size": [40, 30], "counts": counts.encode()}))
    assert decoded.flags.f_contiguous
    assert decoded.flags.writeable


def test_the_last_of_painted_masks_is_on_top():
    first, second = np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.uint8)
    first[:, :3], second[2:, 1:] = 1, 1
    painted = paint_rles({7: encode_rle(first), 9: encode_rle(second)}, 4, 5)
    np.testing.assert_array_equal(painted, np.where(second, 9, 7 * first))
    with pytest.raises(DataError, match="cover 20 pixels"):
        paint_rles({1: encode_rle(first)}, 5, 5)
