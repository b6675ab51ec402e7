"""Resizing, normalizing, padding, and clips collated to a batch."""

import json

import numpy as np
import pytest
import torch

from stemseg.config import load_config
from stemseg.data.preprocessing import (
    ImagePreprocessor,
    build_preprocessor,
    collate_clips,
    pad_to_multiple,
    padded_dims,
    resize_dims,
)
from stemseg.structures.clip import Clip, ClipTargets
from tests.helpers.paths import GOLDEN_DIR

MEAN = (102.9801, 115.9465, 122.7717)


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN_DIR / "preprocessing.npz")


def test_resize_dims_and_padding_are_the_published_ones():
    for row in json.loads((GOLDEN_DIR / "resize_params.json").read_text())["rows"]:
        width, height, min_dim, max_dim, new_width, new_height, _, pad_right, pad_bottom = row
        assert resize_dims(height, width, min_dim, max_dim) == (new_height, new_width)
        assert padded_dims(new_height, new_width) == (new_height + pad_bottom, new_width + pad_right)


def test_image_is_resized_and_normalized_as_published(golden):
    preprocessor = ImagePreprocessor(min_dim=60, max_dim=107, mean=MEAN, std=(1, 1, 1))
    frame = preprocessor(golden["image_bgr"])
    expected = golden["loader_output(MIN60,MAX107)"]
    # source positions are computed in single precision there: a thousandth of a gray level
    np.testing.assert_allclose(frame.numpy(), expected, atol=2e-3)
    assert pad_to_multiple(frame[None, None]).shape == tuple(golden["image_list_shape"])


def test_unit_scale_and_rgb_follow_the_published_order_of_operations(golden):
    height, width = golden["image_bgr"].shape[:2]
    preprocessor = ImagePreprocessor(
        min_dim=height, max_dim=width, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
        unit_scale=True, bgr_input=False,
    )  # fmt: skip
    np.testing.assert_allclose(preprocessor(golden["image_bgr"]).numpy(), golden["norm_rgb_unit"][0], atol=1e-6)


def test_pixels_outside_the_image_are_zero_after_normalization():
    image = np.full((20, 20, 3), 200, dtype=np.uint8)
    valid = np.ones((20, 20), dtype=np.uint8)
    valid[:, 10:] = 0
    preprocessor = ImagePreprocessor(min_dim=40, max_dim=40, mean=MEAN, std=(1, 1, 1))
    output = np.empty((3, 40, 40), dtype=np.float32)
    preprocessor.write(image, output, valid)
    assert (output[:, :, 22:] == 0).all()
    np.testing.assert_allclose(output[:, :, :18], (200 - np.float32(MEAN))[:, None, None] * np.ones((3, 40, 18)), 1e-5)


@pytest.mark.parametrize("options", [{}, {"bgr_input": False}, {"unit_scale": True}])
def test_restore_undoes_the_normalization(options):
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    preprocessor = ImagePreprocessor(min_dim=16, max_dim=24, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), **options)
    assert (preprocessor.restore(preprocessor(image)[None])[0] == image).all()


def test_one_overridden_side_keeps_the_ratio_of_the_configuration():
    cfg = load_config(None, ["INPUT.MIN_DIM=400", "INPUT.MAX_DIM=800"])
    assert (build_preprocessor(cfg, min_dim=100).min_dim, build_preprocessor(cfg, min_dim=100).max_dim) == (100, 200)
    assert (build_preprocessor(cfg, max_dim=1000).min_dim, build_preprocessor(cfg, max_dim=1000).max_dim) == (500, 1000)
    assert build_preprocessor(cfg, min_dim=10, max_dim=99).max_dim == 99


def test_padding_is_right_and_bottom_and_zero():
    frames = torch.ones(2, 3, 33, 20)
    padded = pad_to_multiple(frames)
    assert padded.shape == (2, 3, 64, 32)
    assert padded.sum() == frames.sum() and (padded[..., :33, :20] == 1).all()


def make_clip(height, width, instances, name):
    targets = ClipTargets(
        masks=torch.ones(instances, 2, height, width, dtype=torch.uint8),
        category_ids=torch.arange(1, instances + 1),
        ignore_mask=torch.ones(2, height, width, dtype=torch.uint8),
    )
    return Clip(torch.ones(2, 3, height, width), targets, name)


def test_clips_of_several_sizes_are_padded_to_the_largest():
    batch = collate_clips([make_clip(40, 70, 3, "a"), make_clip(65, 30, 0, "b")])
    assert batch.frames.shape == (2, 2, 3, 96, 96)
    assert batch.image_sizes == [(40, 70), (65, 30)] and batch.names == ["a", "b"]
    for n, (height, width) in enumerate(batch.image_sizes):
        assert (batch.frames[n, :, :, :height, :width] == 1).all() and batch.frames[n].sum() == 2 * 3 * height * width
        targets = batch.targets[n]
        assert targets.masks.shape[1:] == targets.ignore_mask.shape == (2, 96, 96)
        assert targets.masks.sum() == targets.num_instances * 2 * height * width
        assert targets.ignore_mask.sum() == 2 * height * width  # padding is background, not ignored
    assert batch.targets[0].category_ids.tolist() == [1, 2, 3] and batch.targets[1].num_instances == 0


def test_a_clip_that_fits_is_not_copied():
    clip = make_clip(32, 64, 1, "a")
    assert collate_clips([clip]).targets[0].masks is clip.targets.masks
