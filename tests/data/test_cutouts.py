"""Objects cut out of clips: their size, light and way, alone and two of them as one."""

import cv2
import numpy as np
import pytest

from stemseg.data.copy_paste import paste
from stemseg.data.cutouts import CopyPasteRange, Cutout, cut_out, object_paths, resized, rider_paths
from tests.helpers.square_clips import square_clip


def test_cut_out_holds_the_object_alone():
    clip = square_clip((4, 3, 5), (12, 20, 8))
    cutout = cut_out(clip, 1)
    assert cutout.area == 64 and cutout.category_id == 1
    assert cutout.alphas[0].shape == (8, 10)  # as far as it goes in three frames
    for t, alpha in enumerate(cutout.alphas):
        expected = np.zeros((8, 10), np.uint8)
        expected[:, t : t + 8] = 255
        np.testing.assert_array_equal(alpha, expected)
    np.testing.assert_allclose(cutout.center, [5.0, 4.0])


@pytest.mark.parametrize("seed", range(5))
def test_paths_are_smooth_and_sizes_within_range(seed):
    rng = np.random.default_rng(seed)
    ranges = CopyPasteRange(height=240, width=400, object_size=(0.2, 0.5), motion=0.1)
    cutout = resized(cut_out(square_clip((2, 2, 12)), 0), ranges, rng)
    assert 0 < cutout.area <= 4 * 144 + 1e-6  # a small object is enlarged twice at most
    centers = np.array([m @ (*cutout.center, 1) for m in object_paths(cutout, 8, ranges, rng)])
    assert np.abs(np.diff(centers, n=3, axis=0)).max() < 1e-6  # constant acceleration


def test_object_sizes_follow_the_range():
    cutout = Cutout([np.zeros((60, 60, 3), np.uint8)], [np.full((60, 60), 255, np.uint8)], np.array([30.0, 30.0]),
                    3600.0, 1, "")  # fmt: skip
    ranges = CopyPasteRange(height=100, width=100, object_size=(0.1, 0.4))
    sizes = [np.sqrt(resized(cutout, ranges, np.random.default_rng(i)).area) for i in range(200)]
    assert 10 - 1e-6 <= min(sizes) < 12 and 36 < max(sizes) <= 40 + 1e-6
    shapes = {resized(cutout, ranges, np.random.default_rng(i)).alphas[0].shape for i in range(20)}
    assert all(10 <= h <= 40 and h == w for h, w in shapes)


@pytest.mark.parametrize("seed", range(8))
def test_a_rider_touches_its_mount_in_every_frame_and_moves_with_it(seed):
    mount = cut_out(square_clip((4, 3, 12), size=(60, 80)), 0)
    rider = cut_out(square_clip((9, 8, 10), size=(60, 80), category=2), 0)
    paths = [np.array([[1.0, 0, 30 + 2 * t], [0, 1.0, 24]]) for t in range(3)]
    clip = paste(square_clip(size=(60, 80), color=10), mount, paths, in_front=True)
    alone = [frame.ids.mask(0).sum() for frame in clip.frames]
    on_it = rider_paths(rider, mount, paths, np.random.default_rng(seed))
    clip = paste(clip, rider, on_it, in_front=True, as_part=True)
    assert clip.category_ids == (1,)
    for own, frame in zip(alone, clip.frames, strict=True):
        mask = frame.ids.mask(0)
        assert cv2.connectedComponents(mask)[0] == 2  # the ground and one piece
        assert own < mask.sum() <= 2.1 * own
        assert ((mask > 0) != (frame.image > 130).all(axis=2)).sum() <= 20  # two half covered edges meet
    centers = [[m @ (side / 2 + t, side / 2, 1) for t, m in enumerate(ms)] for side, ms in ((12, paths), (10, on_it))]
    np.testing.assert_allclose(np.subtract(*centers), [np.subtract(*centers)[0]] * 3)  # as far apart in all frames


def test_a_rider_out_of_sight_in_the_first_frames_keeps_its_place():
    mount = cut_out(square_clip((4, 3, 12), size=(60, 80)), 0)
    rider = cut_out(square_clip((9, 8, 10), size=(60, 80)), 0)
    rider.alphas[0][:] = 0
    paths = rider_paths(rider, mount, [np.eye(2, 3)] * 3, np.random.default_rng(0))
    assert np.isfinite(paths).all() and np.abs(np.diff(paths, axis=0)).max() <= 1 + 1e-9
