"""The framework figure draws without fonts, data or network, and always the same."""

import cv2

from scripts.figure import main as draw_framework


def test_draws_the_same_picture_twice(tmp_path):
    for name in ("one.png", "two.png"):
        assert draw_framework.main(["--output", str(tmp_path / name)]) == 0
    first = (tmp_path / "one.png").read_bytes()
    assert first == (tmp_path / "two.png").read_bytes()
    assert len(first) < 500_000
    assert cv2.imread(str(tmp_path / "one.png")).shape == (1020, 2000, 3)
