"""Resizing, normalizing, padding, and clips collated to a batch."""

import json

import numpy as np
import pytest
import torch

from stemseg.config import load_config
from stemseg.data.annotated_frame import AnnotatedClip, AnnotatedFrame, pack_masks
from stemseg.data.images import resize_planes
from stemseg.data.preprocessing import (
    ImagePreprocessor,
    build_preprocessor,
    collate_clips,
    pad_to_multiple,
    padded_dims,
    prepare_clip,
    resize_dims,
)
from tests.helpers.paths import GOLDEN_DIR

MEAN = (102.9801, 115.9465, 122.7717)
NORM = {"mean": MEAN, "std": (2.0, 3.0, 4.0)}


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN_DIR / "preprocessing.npz")


def test_resize_dims_and_padding_are_the_published_ones():
    for row in json.loads((GOLDEN_DIR / "resize_params.json").read_text())["rows"]:
        width, height, min_dim, max_dim, new_width, new_height, _, pad_right, pad_bottom = row
        assert resize_dims(height, width, min_dim, max_dim) == (new_height, new_width)
        assert padded_dims(new_height, new_width) == (new_height + pad_bottom, new_width + pad_right)


@pytest.mark.parametrize(("size", "expected"), [((1, 200), (1, 64)), ((400, 2), (64, 1)), ((1000, 1), (64, 1))])
def test_an_image_as_thin_as_a_line_keeps_a_pixel(size, expected):
    preprocessor = ImagePreprocessor(min_dim=32, max_dim=64, mean=MEAN, std=(1, 1, 1))
    assert preprocessor(np.full((*size, 3), 200, np.uint8)).shape == (3, *expected)
    assert preprocessor(np.full((*size, 3), 200, np.uint8), 32).shape == (3, *padded_dims(*expected))


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


def make_clip(height, width, instances, name, *, ignored=True, warped=False):
    """Two frames, in which the instances lie above each other and cover everything."""
    rng = np.random.default_rng(height)
    everything = np.ones((height, width), dtype=np.uint8)
    ids = pack_masks([(i, everything) for i in range(instances)], height, width)
    valid = rng.integers(0, 2, (height, width), dtype=np.uint8) if warped else None
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    frames = [AnnotatedFrame(image, ids, everything if ignored else None, v) for v in (None, valid)]
    return AnnotatedClip(frames, tuple(range(1, instances + 1)), name)


def pack(*options, size=(64, 96), **more):
    return prepare_clip(make_clip(*options, **more), ImagePreprocessor(min_dim=min(size), max_dim=max(size), **NORM))


def test_clips_of_several_sizes_are_padded_to_the_largest():
    batch = collate_clips([pack(40, 70, 3, "a", size=(40, 70)), pack(65, 30, 0, "b", size=(30, 65))]).to("cpu")
    assert batch.frames.shape == (2, 2, 3, 96, 96)
    assert batch.image_sizes == [(40, 70), (65, 30)] and batch.names == ["a", "b"]
    for n, (height, width) in enumerate(batch.image_sizes):
        inner = batch.frames[n, ..., :height, :width]
        assert inner.any(dim=(0, 1)).all() and batch.frames[n].count_nonzero() == inner.count_nonzero()
        targets = batch.targets[n]
        assert targets.masks.shape[1:] == targets.ignore_mask.shape == (2, 96, 96)
        assert targets.masks.sum() == targets.num_instances * 2 * height * width
        assert targets.ignore_mask.sum() == 2 * height * width  # padding is background, not ignored
    assert batch.targets[0].category_ids.tolist() == [1, 2, 3] and batch.targets[1].num_instances == 0


@pytest.mark.parametrize("options", [{}, {"bgr_input": False}, {"unit_scale": True}])
@pytest.mark.parametrize("warped", [False, True])
def test_a_batch_holds_what_the_images_are_prepared_to(options, warped):
    clip = make_clip(30, 50, 1, "a", warped=warped)
    preprocessor = ImagePreprocessor(min_dim=45, max_dim=75, **NORM, **options)
    frames = collate_clips([prepare_clip(clip, preprocessor)]).to("cpu").frames[0]
    for frame, prepared in zip(clip.frames, frames, strict=True):
        expected = np.empty((3, 45, 75), dtype=np.float32)
        preprocessor.write(frame.image, expected, frame.valid)
        np.testing.assert_array_equal(prepared[:, :45, :75], expected)


@pytest.mark.parametrize("options", [{}, {"bgr_input": False}, {"unit_scale": True}])
def test_a_gpu_makes_the_same_of_a_clip_as_opencv(options):
    preprocessor = ImagePreprocessor(min_dim=64, max_dim=96, **NORM, **options)
    packed = prepare_clip(make_clip(40, 60, 1, "a", warped=True), preprocessor)
    planes = resize_planes(preprocessor.normalize(packed.frames, packed.valid), *packed.size)  # on any device
    torch.testing.assert_close(planes, packed.unpack().frames, atol=2e-5, rtol=2e-6)


def test_a_clip_travels_in_a_byte_for_each_value_of_its_files():
    packed = pack(40, 60, 1, "a", ignored=False)
    tensors = [packed.frames, packed.targets.layers, packed.targets.values, packed.targets.category_ids]
    assert packed.valid is None and packed.targets.ignore_mask is None
    assert sum(t.nbytes for t in tensors) == 2 * (3 * 40 * 60 + 64 * 96) + 2 + 8
    batch = collate_clips([packed]).to("cpu")
    unpacked = [batch.frames, batch.targets[0].masks, batch.targets[0].ignore_mask]
    assert 4 * sum(t.nbytes for t in tensors) < sum(t.nbytes for t in unpacked)
    assert collate_clips([packed]).clips[0].frames is packed.frames  # nothing is copied on the way


def test_disjoint_instances_travel_in_one_layer_and_the_invisible_are_dropped():
    masks = np.zeros((4, 20, 30), dtype=np.uint8)
    masks[0, 2:9, 3:8] = masks[1, 11:18, 12:28] = masks[2, 11:18, 2:9] = 1
    masks[3, 19, 29] = 1  # too small to be left at half the size
    frames = [
        AnnotatedFrame(np.zeros((20, 30, 3), np.uint8), pack_masks(enumerate(m), 20, 30)) for m in (masks, masks[:2])
    ]
    clip = AnnotatedClip(frames, (5, 6, 7, 8), "clip")
    packed = prepare_clip(clip, ImagePreprocessor(min_dim=10, max_dim=15, **NORM))
    assert len(packed.targets.layers) == 1
    targets = packed.unpack().targets
    assert targets.category_ids.tolist() == [5, 6, 7]
    areas = targets.masks.sum(dim=(2, 3))
    assert (areas[:2] > 0).all() and areas[2, 0] > 0 and areas[2, 1] == 0


@pytest.mark.parametrize("size", [(60, 107), (31, 200), (200, 120)])
def test_images_are_prepared_alike_where_the_network_is(size):
    preprocessor = ImagePreprocessor(min_dim=64, max_dim=120, **NORM)
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    expected = torch.stack([preprocessor(image, 32) for image in images])
    found = preprocessor.on_device(torch.from_numpy(images), torch.device("cpu"), 32)
    torch.testing.assert_close(found, expected)
