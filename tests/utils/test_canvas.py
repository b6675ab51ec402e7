"""A drawing surface: shapes lie where they are asked for, at the final picture's scale."""

import numpy as np
import pytest

from stemseg.utils.canvas import Canvas

BLACK = "#000000"


def ink(canvas: Canvas) -> np.ndarray:
    """Darkness of each pixel, [H, W] 0 to 255."""
    return 255 - np.asarray(canvas.finish().convert("L")).astype(int)


@pytest.mark.parametrize("supersampling", [1, 2, 3])
def test_a_box_covers_its_pixels_and_no_others(supersampling):
    canvas = Canvas(40, 30, supersampling=supersampling)
    canvas.box((10, 5), (20, 15), fill=BLACK, radius=0)
    found = ink(canvas)
    assert found.shape == (30, 40)
    assert found[7:18, 12:28].min() > 250
    assert max(found[:3].max(), found[23:].max(), found[:, :8].max(), found[:, 33:].max()) < 3  # Lanczos ripples


def test_an_arrow_points_at_its_end():
    canvas = Canvas(60, 40)
    canvas.arrow([(5, 10), (30, 10), (30, 35)], color=BLACK)
    found = ink(canvas)
    assert found[10, 15] == 255 and found[20, 30] == 255
    assert np.argwhere(found > 100)[:, 0].max() in range(32, 36)
    assert (found[24] > 100).sum() > (found[15] > 100).sum()  # the head is wider than the shaft


def test_a_line_passes_through_its_points():
    canvas = Canvas(40, 30)
    canvas.line([(5, 5), (20, 20), (35, 5)], color=BLACK, line=3)
    found = ink(canvas)
    assert found[10, 10] > 200 and found[10, 30] > 200 and found[5, 20] == 0


def test_text_is_as_wide_as_it_says():
    canvas = Canvas(200, 40)
    canvas.text((10, 20), "appearance", size=20, color=BLACK, anchor="lm")
    columns = np.flatnonzero(ink(canvas).max(axis=0) > 50)
    assert columns[0] in range(9, 14)
    assert columns[-1] - 10 == pytest.approx(Canvas.text_width("appearance", 20), abs=4)


def test_a_picture_is_shown_in_its_colors():
    canvas = Canvas(40, 30)
    canvas.picture((5, 5), (20, 20), np.full((10, 10, 3), (255, 0, 0), np.uint8))  # blue, B G R
    assert tuple(np.asarray(canvas.finish())[15, 15]) == (0, 0, 255)
