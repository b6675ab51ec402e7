"""Pictures of results: overlays, their video, the contact sheet."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from stemseg.inference.frame_sources import open_path
from stemseg.inference.overlays import FramePainter, OverlayWriter
from stemseg.structures.rle import encode_rle
from stemseg.structures.tracks import Track, VideoTracks
from stemseg.utils.drawing import overlay_color, write_image

NUM_FRAMES = 14
SIZE = (60, 80)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    for i in range(NUM_FRAMES):
        write_image(tmp_path / "clip" / f"{i}.png", np.full((*SIZE, 3), 100, dtype=np.uint8))
    return tmp_path / "clip"


def tracks() -> VideoTracks:
    large, sliver = np.zeros(SIZE, dtype=np.uint8), np.zeros(SIZE, dtype=np.uint8)
    large[5:50, 5:60] = 1
    sliver[52:58, 70:78] = 1
    names = [str(i) for i in range(NUM_FRAMES)]
    masks = [
        Track(1, 2, 1.0, [encode_rle(large)] * (NUM_FRAMES - 1) + [None]),
        Track(2, 1, 0.02, [encode_rle(sliver)] * NUM_FRAMES),
    ]
    return VideoTracks("clip", *SIZE, NUM_FRAMES, names, masks)


def has_color(picture: np.ndarray, number: int) -> bool:
    """Whether the outline of a track is in the picture, despite compression."""
    distance = np.abs(picture.astype(int) - overlay_color(number)[::-1]).sum(axis=-1)
    return bool((distance < 60).sum() > 20)


def test_frames_their_video_and_a_sheet_are_written(video: Path, tmp_path: Path) -> None:
    writer = OverlayWriter(tmp_path, {1: "cat", 2: "dog"}, min_score=0.05)
    assert not writer.is_written("clip")
    writer.write(open_path(video), tracks())
    assert writer.is_written("clip")
    pictures = [cv2.imread(str(path)) for path in sorted((tmp_path / "overlays" / "clip").iterdir())]
    assert len(pictures) == NUM_FRAMES
    assert pictures[0].shape == (360, 480, 3)  # small frames are enlarged
    assert has_color(pictures[0], 1) and not has_color(pictures[-1], 1)
    assert not has_color(pictures[0], 2)  # below the score
    reader = cv2.VideoCapture(str(tmp_path / "overlays" / "clip.webm"))
    assert reader.read()[1].shape == (360, 480, 3)
    sheet = cv2.imread(str(tmp_path / "overlays" / "clip.jpg"))
    assert sheet.shape == (4 * 364 - 4, 3 * 484 - 4, 3)  # 12 frames


def test_faint_tracks_are_drawn_where_wanted(video: Path, tmp_path: Path) -> None:
    OverlayWriter(tmp_path, {}, min_score=0.01).write(open_path(video), tracks())
    assert has_color(cv2.imread(str(tmp_path / "overlays" / "clip" / "00000.jpg")), 2)


def test_the_video_can_show_both_side_by_side(video: Path, tmp_path: Path) -> None:
    OverlayWriter(tmp_path, {}, side_by_side=True).write(open_path(video), tracks())
    frame = cv2.VideoCapture(str(tmp_path / "overlays" / "clip.webm")).read()[1]
    assert frame.shape[1] == 2 * 480 + 4
    assert has_color(frame[:, 490:], 1) and not has_color(frame[:, :470], 1)


@pytest.mark.parametrize(("names", "expected"), [({2: "dog"}, 1), ({}, 0)])
def test_classes_are_named_where_their_names_are_known(names: dict[int, str], expected: int) -> None:
    image = np.full((400, 600, 3), 100, dtype=np.uint8)
    mask = np.ones((400, 600), dtype=np.uint8)
    plain = FramePainter({}).paint(image, [(1, 1, 0.5)], {1: mask})
    named = FramePainter(names).paint(image, [(1, 2, 0.5)], {1: mask})
    assert int(np.any(plain != named)) == expected
