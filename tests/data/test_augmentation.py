import cv2
import numpy as np
import pytest

from stemseg.data.annotated_frame import AnnotatedClip, AnnotatedFrame, pack_masks
from stemseg.data.augmentation import AugmentationRange, FrameAugmenter, shift_colors, warp_frame
from tests.helpers.tiny_datasets import random_masks

RANGES = AugmentationRange(perspective=0.08, translation=0.1, rotation=12)


def make_frame(height=48, width=64, seed=0):
    rng = np.random.default_rng(seed)
    masks = random_masks(rng, 4, height, width)
    image = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), (0, 0), 2)
    return AnnotatedFrame(image, pack_masks(enumerate(masks[:3]), height, width), masks[3]), masks


def test_everything_is_warped_by_one_transform():
    frame, masks = make_frame()
    augmenter, rng = FrameAugmenter(RANGES), np.random.default_rng(1)
    for _ in range(10):
        homography = augmenter.sample_homography(48, 64, rng)
        warped = warp_frame(frame, homography)

        def alone(plane, matrix=homography, flags=cv2.INTER_NEAREST):
            return cv2.warpPerspective(plane, matrix, (64, 48), flags=flags)

        for i in range(3):
            np.testing.assert_array_equal(warped.ids.mask(i), alone(masks[i]))
        np.testing.assert_array_equal(warped.ignore, alone(masks[3]))
        np.testing.assert_array_equal(warped.valid, alone(np.ones((48, 64), np.uint8)))
        inside = cv2.erode(warped.valid, np.ones((5, 5), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
        np.testing.assert_array_equal(warped.image[inside], alone(frame.image, flags=cv2.INTER_LINEAR)[inside])


def test_the_image_moves_with_its_instances():
    height, width = 60, 80
    mask = np.zeros((height, width), np.uint8)
    mask[15:45, 20:60] = 1
    frame = AnnotatedFrame(np.repeat(mask[..., None] * 255, 3, axis=2), pack_masks([(0, mask)], height, width))
    augmenter, rng = FrameAugmenter(RANGES), np.random.default_rng(0)
    for _ in range(10):
        warped = warp_frame(frame, augmenter.sample_homography(height, width, rng))
        bright, instance = warped.image[..., 0] > 127, warped.ids.mask(0) > 0
        assert (bright & instance).sum() / (bright | instance).sum() > 0.95


def test_nothing_stands_beyond_the_image():
    frame, _ = make_frame()
    shift = np.array([[1, 0, 30], [0, 1, 0], [0, 0, 1]], dtype=float)
    warped = warp_frame(frame, shift)
    assert not warped.valid[:, :30].any() and warped.valid[:, 30:].all()
    assert not warped.ids.foreground()[:, :30].any() and not warped.ignore[:, :30].any()
    np.testing.assert_array_equal(warped.image[:, 30:], frame.image[:, :34])


def test_the_generator_decides_and_no_global_state_is_touched():
    frame, _ = make_frame()
    before = np.random.get_state()[1].copy()  # noqa: NPY002

    def run(seed):
        augmenter, rng = FrameAugmenter(RANGES), np.random.default_rng(seed)  # a fresh one: no state may linger
        return [augmenter(frame, rng) for _ in range(4)]

    shared, rng = FrameAugmenter(RANGES), np.random.default_rng(9)
    shared(frame, rng)  # what was drawn before must not matter
    again = [shared(frame, r) for r in [np.random.default_rng(5)] for _ in range(4)]
    for a, b, other in zip(run(5), again, run(6), strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.ids.foreground(), b.ids.foreground())
        assert (a.image != other.image).any()
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_ranges_are_kept():
    augmenter = FrameAugmenter(AugmentationRange(perspective=0.0, translation=0.1, rotation=12))
    rng = np.random.default_rng(0)
    angles, shifts = [], []
    for _ in range(400):
        matrix = augmenter.sample_homography(100, 200, rng)
        angles.append(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))
        center = matrix @ (100, 50, 1)
        shifts.append(center[:2] / center[2] - (100, 50))
    assert np.abs(angles).max() == pytest.approx(12, abs=0.5)
    np.testing.assert_allclose(np.abs(shifts).max(axis=0), (20, 10), atol=1)


def test_perspective_alone_looks_at_a_part_of_the_image():
    augmenter = FrameAugmenter(AugmentationRange(perspective=0.08, translation=0, rotation=0))
    frame, rng = make_frame()[0], np.random.default_rng(0)
    for _ in range(10):
        homography = augmenter.sample_homography(48, 64, rng)
        assert warp_frame(frame, homography).valid.all() and not np.allclose(homography, np.eye(3))


def test_flipping_mirrors_every_part():
    frame, _ = make_frame()
    warped = warp_frame(frame, np.array([[1, 0, 30], [0, 1, 0], [0, 0, 1]], dtype=float))
    flipped = AnnotatedClip([warped], (1, 1, 1), "clip").flipped().frames[0]
    np.testing.assert_array_equal(flipped.valid, warped.valid[:, ::-1])
    np.testing.assert_array_equal(flipped.ignore, warped.ignore[:, ::-1])
    np.testing.assert_array_equal(flipped.image, warped.image[:, ::-1])
    np.testing.assert_array_equal(flipped.ids.mask(1), warped.ids.mask(1)[:, ::-1])


def test_brightness_stays_in_its_range_and_blur_is_optional():
    gray = np.full((32, 32, 3), 128, dtype=np.uint8)
    augmenter = FrameAugmenter(AugmentationRange(perspective=0, translation=0, rotation=0, blur_probability=0.0))
    rng = np.random.default_rng(0)
    levels = [int(augmenter.change_colors(gray, rng).max()) for _ in range(200)]
    assert 128 - 40 <= min(levels) < 100 and 155 < max(levels) <= 128 + 40 + 1
    edge = gray.copy()
    edge[:, 16:] = 0
    sharp = {len(np.unique(augmenter.change_colors(edge, rng)[5, :, 2])) for _ in range(30)}
    assert max(sharp) <= 2
    blurred = FrameAugmenter(AugmentationRange(perspective=0, translation=0, rotation=0, blur_probability=0.5))
    assert max(len(np.unique(blurred.change_colors(edge, rng)[5, :, 2])) for _ in range(30)) > 3


@pytest.mark.parametrize("shifts", [(0, 0, 0), (4, 5, -40), (-4, -5, 40), (2, 3, 17)])
def test_colors_are_shifted_as_by_imgaug(shifts):
    from stemseg.data.imgaug_import import iaa

    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    steps = [iaa.WithChannels(channel, iaa.Add(shift)) for channel, shift in enumerate(shifts)]
    expected = iaa.WithColorspace("HSV", "BGR", children=steps)(image=image)
    hue = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)[..., 0].astype(int) + shifts[0]
    inside = (hue >= 0) & (hue < 180)  # imgaug's hues stop at 0
    np.testing.assert_array_equal(shift_colors(image, *shifts)[inside], expected[inside])
    assert inside.mean() > 0.9


def test_the_hue_goes_around():
    reds = np.array([[[0, 0, 255], [0, 8, 255]]], dtype=np.uint8)
    hues = cv2.cvtColor(shift_colors(reds, -3, 0, 0), cv2.COLOR_BGR2HSV)[..., 0]
    np.testing.assert_array_equal(hues, [[177, 178]])
