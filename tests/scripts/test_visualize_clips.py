import cv2
import numpy as np

from scripts.visualize_clips import draw_ignored, letterbox, main
from tests.helpers.tiny_datasets import custom_config, make_videos


def test_sheets_and_video_are_written(tmp_path, capsys):
    make_videos(tmp_path / "data", size=(40, 64))
    custom_config(tmp_path / "data", "videos.json").save(tmp_path / "config.yaml")
    command = ["--cfg", str(tmp_path / "config.yaml"), "-o", str(tmp_path / "out"), "--num_clips", "2", "--start", "3",
               "--width", "80", "--set", "TRAINING.SEED=4", "INPUT.MIN_DIM=40", "INPUT.MAX_DIM=64"]  # fmt: skip
    assert main(command) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "clip_000003.png", "clip_000004.png", "clips.mp4",
    ]  # fmt: skip
    sheet = cv2.imread(str(tmp_path / "out" / "clip_000003.png"))
    assert sheet.shape == (28 + 50, 4 * 80 + 3 * 4, 3)
    video = cv2.VideoCapture(str(tmp_path / "out" / "clips.mp4"))
    assert sum(1 for _ in iter(lambda: video.read()[0], False)) == 8


def test_a_users_mistake_ends_without_a_traceback(tmp_path, capsys):
    assert main(["--cfg", "davis_1", "--set", "DATA.MIX={custom: 1}", "-o", str(tmp_path)]) == 1
    assert "error: 'DATA.CUSTOM.TRAIN_JSON' is null" in capsys.readouterr().err


def test_only_ignored_pixels_are_striped():
    image = np.full((40, 40, 3), 90, np.uint8)
    ignore = np.zeros((40, 40), np.uint8)
    ignore[:, 20:] = 1
    drawn = draw_ignored(image, ignore)
    assert (drawn[:, :20] == 90).all() and set(np.unique(drawn[:, 20:])) == {30, 90}


def test_letterbox_keeps_proportions():
    canvas = letterbox(np.full((10, 40, 3), 255, np.uint8), 80, 60)
    assert canvas.shape == (60, 80, 3) and (canvas[20:40] == 255).all() and canvas[:20].max() == canvas[40:].max() == 0
