"""Pictures: colors, overlays, contact sheets and videos."""

import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from stemseg.utils.drawing import (
    OVERLAY_COLORS,
    VideoWriter,
    draw_instances,
    enlarge,
    enlarge_mask,
    instance_palette,
    overlay_color,
    shrink,
    tile,
    write_image,
)
from stemseg.utils.errors import OutputError
from tests.helpers.color_distance import VISION, ciede2000, closest_pair, to_lab


def test_palette_starts_as_the_voc_palette_does():
    expected = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]
    np.testing.assert_array_equal(instance_palette()[:5], expected)
    assert len(np.unique(instance_palette(), axis=0)) == 256


def test_masks_are_painted_and_the_rest_stays():
    image = np.full((60, 90, 3), 100, dtype=np.uint8)
    mask = np.zeros((60, 90), dtype=bool)
    mask[10:40, 10:70] = True
    painted = draw_instances(image, {1: mask}, opacity=0.5)
    around = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5))) != 0  # the outline's rim
    np.testing.assert_array_equal(painted[~around], image[~around])
    np.testing.assert_array_equal(painted[25, 35], [50, 155, 178])  # B G R of the first color, half and half
    assert painted[9, 35].max() < 60  # the dark rim
    np.testing.assert_array_equal(painted[10, 35], [0, 210, 255])  # the outline
    assert np.all(image == 100)
    labeled = draw_instances(image, {1: mask}, {1: "1"}, opacity=0.5)
    changed = np.any(labeled != painted, axis=-1)
    assert changed.any() and not (changed & ~mask).any()  # the caption lies on its mask


def test_a_mask_of_a_pixel_is_still_seen():
    mask = np.zeros((40, 40), dtype=np.uint8)
    mask[20, 20] = 1
    painted = draw_instances(np.zeros((40, 40, 3), dtype=np.uint8), {3: mask})
    np.testing.assert_array_equal(painted[20, 20], overlay_color(3)[::-1])


def test_an_empty_mask_with_a_caption_changes_nothing():
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(draw_instances(image, {3: np.zeros((8, 8))}, {3: "gone"}), image)


def test_small_pictures_are_enlarged_and_large_ones_shrunk():
    image, mask = np.zeros((24, 40, 3), dtype=np.uint8), np.eye(24, 40, dtype=bool)
    assert enlarge(image, 60).shape == (60, 100, 3) and enlarge(image, 20) is image
    assert enlarge_mask(np.ones((24, 40)), 60).shape == (60, 100)
    assert set(np.unique(enlarge_mask(mask, 60))) == {0, 1}
    assert shrink(image, 20).shape == (12, 20, 3) and shrink(image, 40) is image


def test_contact_sheet_puts_images_row_by_row():
    images = [np.full((4, 5, 3), i, dtype=np.uint8) for i in range(3)]
    sheet = tile(images, columns=2, gap=1)
    assert sheet.shape == (9, 11, 3)
    assert [sheet[0, 0, 0], sheet[0, 6, 0], sheet[5, 0, 0]] == [0, 1, 2]
    assert np.all(sheet[5:, 6:] == 255)


@pytest.mark.parametrize("suffix", [".webm", ".mp4"])
def test_videos_hold_the_frames_that_were_written(tmp_path, suffix, capfd):
    path = tmp_path / "new" / f"a{suffix}"
    with VideoWriter(path) as writer:
        for value in (0, 100, 200):
            writer.write(np.full((32, 48, 3), value, dtype=np.uint8))
    reader = cv2.VideoCapture(str(path))
    means = []
    while (frame := reader.read()[1]) is not None:
        means.append(frame.mean())
    np.testing.assert_allclose(means, [0, 100, 200], atol=6)
    assert "FFMPEG" not in capfd.readouterr().err
    if suffix == ".webm":
        assert path.read_bytes()[:4] == b"\x1a\x45\xdf\xa3" and b"V_VP8" in path.read_bytes()  # what browsers play


def test_a_video_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "a.webm").mkdir()
    with pytest.raises(OutputError, match=r"could not write .*a\.webm"), VideoWriter(tmp_path / "a.webm") as writer:
        writer.write(np.zeros((32, 48, 3), dtype=np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["a.webm"]


def test_a_video_that_breaks_off_leaves_the_old_one(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"old")
    with pytest.raises(KeyError), VideoWriter(tmp_path / "a.mp4") as writer:
        writer.write(np.zeros((32, 48, 3), dtype=np.uint8))
        raise KeyError
    assert (tmp_path / "a.mp4").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_an_image_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OutputError, match="could not write"):
        write_image(tmp_path / "a.png", np.zeros((2, 2, 3), dtype=np.uint8))


def test_the_measure_of_colors_is_ciede2000():
    """Pairs of Sharma, Wu and Dalal's table (2005)."""
    first = np.array(
        [[50.0, 2.6772, -79.7751], [50.0, 2.5, 0.0], [60.2574, -34.0099, 36.2677], [2.0776, 0.0795, -1.135]]
    )
    second = np.array(
        [[50.0, 0.0, -82.7485], [73.0, 25.0, -18.0], [60.4626, -34.1751, 39.4387], [0.9033, -0.0636, -0.5514]]
    )
    np.testing.assert_allclose(ciede2000(first, second), [2.0425, 27.1492, 1.2644, 0.9082], atol=1e-4)


@pytest.mark.parametrize("vision", VISION)
def test_overlay_colors_stay_apart_also_for_color_blind_eyes(vision):
    colors = np.array(OVERLAY_COLORS)
    assert closest_pair(colors[:4], vision) > 21.9
    assert closest_pair(colors[:8], vision) > 16.8
    assert closest_pair(colors, vision) > 8
    assert closest_pair(instance_palette()[1:21], vision) < 8  # what the palette of result files would give


def test_overlay_colors_show_on_black_and_on_white():
    lightness = to_lab(np.array(OVERLAY_COLORS))[:, 0]
    assert lightness.min() > 44 and lightness.max() < 90
    assert overlay_color(1) == OVERLAY_COLORS[0] == overlay_color(21)


@pytest.mark.parametrize("free", [0, 1 << 30])
def test_a_video_that_filled_the_disk_is_not_kept(tmp_path, monkeypatch, free):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    is_full = (
        pytest.raises(OutputError, match=r"could not write .*a\.webm: the disk is full") if free == 0 else nullcontext()
    )
    with is_full, VideoWriter(tmp_path / "a.webm") as writer:
        writer.write(np.zeros((32, 48, 3), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ([] if free == 0 else ["a.webm"])
