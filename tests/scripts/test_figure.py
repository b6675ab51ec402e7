"""The framework figure draws without fonts, data or network, and always the same."""

import cv2
import numpy as np

from scripts.figure import main as draw_framework
from stemseg.utils.canvas import Canvas


def test_draws_the_same_picture_twice(tmp_path):
    for name in ("one.png", "two.png"):
        draw_framework.main(["--output", str(tmp_path / name)])
    first = (tmp_path / "one.png").read_bytes()
    assert first == (tmp_path / "two.png").read_bytes()
    assert len(first) < 500_000
    assert cv2.imread(str(tmp_path / "one.png")).shape == (1020, 2000, 3)


def test_an_arrow_points_at_its_end(tmp_path):
    canvas = Canvas(60, 40)
    canvas.arrow([(5, 10), (30, 10), (30, 35)], color="#000000")
    canvas.finish().save(tmp_path / "arrow.png")
    ink = 255 - cv2.imread(str(tmp_path / "arrow.png"), cv2.IMREAD_GRAYSCALE).astype(int)
    assert ink[10, 15] == 255 and ink[20, 30] == 255
    assert np.argwhere(ink > 100)[:, 0].max() in range(32, 36)
    assert (ink[24, :] > 100).sum() > (ink[15, :] > 100).sum()  # the head is wider than the shaft
