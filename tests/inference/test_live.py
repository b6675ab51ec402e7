"""Cameras: frames are shown, recorded, and segmented like those of any video."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from stemseg.inference import live
from stemseg.inference.frame_sources import open_path
from stemseg.inference.live import Camera, Preview, camera_number, record_camera
from stemseg.inference.video_segmenter import VideoSegmenter
from stemseg.structures.frame_range import FrameRange
from stemseg.structures.tracks import VideoTracks
from stemseg.utils.drawing import VideoWriter
from stemseg.utils.errors import DataError
from tests.inference.test_video_stream import frames, segmenter


class Film:
    """A camera that shows a film once; like a keyboard it can interrupt."""

    frames_per_second = 10.0

    def __init__(self, images: np.ndarray, interrupt_at: int | None = None) -> None:
        self._images = images
        self._interrupt_at = interrupt_at

    def __iter__(self):
        for t, image in enumerate(self._images):
            if t == self._interrupt_at:
                raise KeyboardInterrupt
            yield image


class Screen:
    """A preview that keeps what it shows; the user presses q at a frame."""

    def __init__(self, quit_at: int | None = None) -> None:
        self.pictures: list[np.ndarray] = []
        self._quit_at = quit_at

    def show(self, picture: np.ndarray) -> bool:
        self.pictures.append(picture)
        return len(self.pictures) - 1 != self._quit_at

    def close(self) -> None:
        pass


def record(tmp_path: Path, camera: Film, part: FrameRange | None = None) -> VideoTracks:
    return record_camera(
        camera, segmenter().open_stream(), tmp_path / "cam.webm",
        category_names={1: "cat"}, frames=part or FrameRange(), min_score=0.0, max_tracks=20,
    )  # fmt: skip


def test_a_recording_has_the_tracks_of_its_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(live, "Preview", lambda: screen)
    tracks = record(tmp_path, Film(frames(20)))
    assert (tracks.sequence_id, tracks.num_frames, tracks.height, tracks.width) == ("cam", 20, 64, 96)
    assert [track.track_id for track in tracks.tracks] == [1, 2]
    assert all(len(track.segmentations) == 20 and all(track.segmentations) for track in tracks.tracks)
    assert max(track.score for track in tracks.tracks) == 1
    source = open_path(tmp_path / "cam.webm")
    assert (source.sequence_id, len(list(source))) == ("cam", 20)
    assert 0 < len(screen.pictures) <= 20 and screen.pictures[0].shape == (360, 540, 3)


@pytest.mark.parametrize(
    ("camera", "quit_at", "expected"),
    [(Film(frames(20), interrupt_at=9), None, 9), (Film(frames(40)), 0, 12), (Film(frames(40)), None, 6)],
    ids=["interrupted", "q", "range"],
)
def test_a_recording_ends_when_the_user_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, camera: Film, quit_at: int | None, expected: int
) -> None:
    monkeypatch.setattr(live, "Preview", lambda: Screen(quit_at))
    part = FrameRange(0, 6) if expected == 6 else FrameRange()
    tracks = record(tmp_path, camera, part)
    assert tracks.num_frames == len(list(open_path(tmp_path / "cam.webm")))
    assert tracks.num_frames == expected or (quit_at is not None and tracks.num_frames < 40)


def test_a_camera_without_frames_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gave no frame"):
        record(tmp_path, Film(frames(0)))


def test_the_window_is_left_out_where_there_is_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[np.ndarray] = []
    monkeypatch.setattr(cv2, "imshow", lambda _, picture: shown.append(picture))
    monkeypatch.setattr(cv2, "waitKey", lambda _: ord("q"))
    monkeypatch.setattr(live.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert Preview().show(np.zeros((2, 2, 3))) and not shown
    monkeypatch.setenv("DISPLAY", ":0")
    assert not Preview().show(np.zeros((2, 2, 3))) and len(shown) == 1  # q


def test_a_build_without_windows_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise cv2.error("not implemented")

    monkeypatch.setattr(cv2, "imshow", fail)
    monkeypatch.setenv("DISPLAY", ":0")
    preview = Preview()
    assert preview.show(np.zeros((2, 2, 3))) and preview.show(np.zeros((2, 2, 3)))


def test_cameras_are_numbers_and_read_until_they_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with VideoWriter(tmp_path / "a.mp4", fps=5) as writer:
        for _ in range(3):
            writer.write(np.zeros((32, 48, 3), dtype=np.uint8))
    with Camera(str(tmp_path / "a.mp4")) as camera:
        assert len(list(camera)) == 3 and camera.frames_per_second == 5
    with pytest.raises(DataError, match="can't be opened"):
        Camera(str(tmp_path / "none.mp4"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1").mkdir()
    assert [camera_number(inputs) for inputs in (["0"], ["1"], ["0", "2"], ["a.mp4"])] == [0, None, None, None]


def test_the_command_line_segments_a_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stemseg.inference import main, run

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "Camera", lambda number: Opened(frames(10)))
    for name in ("build_network", "load_model_weights"):
        monkeypatch.setattr(run, name, lambda *_: None)
    monkeypatch.setattr(run, "make_segmenter", lambda *_: segmenter())
    (tmp_path / "weights.pth").write_bytes(b"")
    monkeypatch.setattr(run, "read_model_info", lambda _: run.ModelInfo())
    monkeypatch.setattr(VideoSegmenter, "segment", lambda *_: pytest.fail("the tracks are there already"))
    command = ["weights.pth", "--input", "0", "--cfg", "youtube_vis", "--save_vis", "--device", "cpu", "-o", "out"]
    assert main.main(command) == 0
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name.startswith("camera0_") and (folder / f"{folder.name}.webm").is_file()
    assert (folder / "report.html").is_file() and len(list((folder / "results" / folder.name).iterdir())) == 10


class Opened(Film):
    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass
