"""Pictures: colors, overlays, contact sheets and videos."""

import cv2
import numpy as np
import pytest

from stemseg.utils.drawing import VideoWriter, draw_instances, instance_palette, tile, write_image
from stemseg.utils.errors import DataError


def test_palette_starts_as_the_voc_palette_does():
    expected = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]
    np.testing.assert_array_equal(instance_palette()[:5], expected)
    assert len(np.unique(instance_palette(), axis=0)) == 256


def test_masks_are_painted_and_the_rest_stays():
    image = np.full((40, 60, 3), 100, dtype=np.uint8)
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:20, 10:30] = True
    painted = draw_instances(image, {1: mask}, opacity=0.5)
    np.testing.assert_array_equal(painted[~mask], image[~mask])
    np.testing.assert_array_equal(painted[15, 15], [50, 50, 114])  # B G R of palette color 1, half and half
    assert np.all(image == 100)
    labeled = draw_instances(image, {1: mask}, {1: "dog"})
    assert np.any(labeled != painted)


def test_an_empty_mask_with_a_caption_changes_nothing():
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(draw_instances(image, {3: np.zeros((8, 8))}, {3: "gone"}), image)


def test_contact_sheet_puts_images_row_by_row():
    images = [np.full((4, 5, 3), i, dtype=np.uint8) for i in range(3)]
    sheet = tile(images, columns=2, gap=1)
    assert sheet.shape == (9, 11, 3)
    assert [sheet[0, 0, 0], sheet[0, 6, 0], sheet[5, 0, 0]] == [0, 1, 2]
    assert np.all(sheet[5:, 6:] == 255)


def test_videos_hold_the_frames_that_were_written(tmp_path):
    with VideoWriter(tmp_path / "new" / "a.mp4") as writer:
        for value in (0, 100, 200):
            writer.write(np.full((32, 48, 3), value, dtype=np.uint8))
    reader = cv2.VideoCapture(str(tmp_path / "new" / "a.mp4"))
    means = []
    while (frame := reader.read()[1]) is not None:
        means.append(frame.mean())
    np.testing.assert_allclose(means, [0, 100, 200], atol=6)


def test_an_image_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(DataError, match="could not write"):
        write_image(tmp_path / "a.png", np.zeros((2, 2, 3), dtype=np.uint8))
