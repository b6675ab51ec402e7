"""A camera: its frames are segmented as they come, shown where there is a display, and recorded with their tracks."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from stemseg.inference.overlays import DEFAULT_FRAME_RATE, FramePainter
from stemseg.inference.video_stream import SeenFrame, VideoStream
from stemseg.structures.frame_range import FrameRange
from stemseg.structures.rle import encode_rle
from stemseg.structures.tracks import Track, VideoTracks
from stemseg.utils.drawing import VideoWriter
from stemseg.utils.errors import DataError
from stemseg.utils.text import first_line

_logger = logging.getLogger("stemseg.inference")
_WINDOW = "stemseg (q ends)"


def camera_number(inputs: list[str]) -> int | None:
    """The camera that ``--input`` means: a number, where there is no file of that name; else None."""
    is_number = len(inputs) == 1 and inputs[0].isdecimal() and not Path(inputs[0]).exists()
    return int(inputs[0]) if is_number else None


class Camera:
    """Frames of a camera, [H, W, 3] uint8, B G R, until it is closed; use it in a ``with`` block.

    Args:
        device: its number, or an address that OpenCV opens.

    Raises:
        DataError: where there is none.
    """

    def __init__(self, device: int | str) -> None:
        self._capture = cv2.VideoCapture(device)
        if not self._capture.isOpened():
            raise DataError(
                f"camera {device} can't be opened; is it connected, and free of other programs? Another number may be "
                "the right one: --input 1"
            )
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.frames_per_second = rate if 0 < rate < 1000 else DEFAULT_FRAME_RATE

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            found, image = self._capture.read()
            if not found:
                return
            yield image

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._capture.release()


class Preview:
    """A window that shows frames; does nothing where there is no display, or where this OpenCV has no windows."""

    def __init__(self) -> None:
        has_display = sys.platform in ("win32", "darwin") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
        self._is_open = has_display
        if not has_display:
            _logger.info("there is no display: frames are not shown")

    def show(self, picture: np.ndarray) -> bool:
        """Show a frame; False where the user has pressed q."""
        if not self._is_open:
            return True
        try:
            cv2.imshow(_WINDOW, picture)
            return cv2.waitKey(1) & 0xFF != ord("q")
        except cv2.error as error:
            self._is_open = False
            _logger.warning("frames can't be shown: %s", first_line(str(error).strip()))
            return True

    def close(self) -> None:
        """Close the window."""
        if self._is_open:
            cv2.destroyAllWindows()


class TrackRecorder:
    """Gathers the objects of a stream's frames as the tracks of a video, compressed."""

    def __init__(self) -> None:
        self._masks: dict[int, dict[int, str]] = {}
        self._categories: dict[int, int] = {}
        self._size = (0, 0)
        self._num_frames = 0

    def add(self, frame: SeenFrame) -> None:
        """Take in the next frame."""
        self._size = (frame.image.shape[0], frame.image.shape[1])
        self._num_frames = frame.index + 1
        for seen in frame.objects:
            self._masks.setdefault(seen.track_id, {})[frame.index] = encode_rle(seen.mask)
            self._categories[seen.track_id] = seen.category_id

    def tracks(self, sequence_id: str, max_tracks: int, score: Callable[[list[int]], dict[int, float]]) -> VideoTracks:
        """The tracks in most frames, ranked and numbered as those of any other video.

        Args:
            max_tracks: tracks at most.
            score: gives the scores of the stream's tracks of some ids.
        """
        ranked = sorted(self._masks, key=lambda i: (-len(self._masks[i]), i))[:max_tracks]
        scores = score(ranked)
        tracks = [
            Track(number, self._categories[i], scores[i], self._in_frames(self._masks[i]))
            for number, i in enumerate(ranked, start=1)
        ]
        names = [f"{frame:05d}" for frame in range(self._num_frames)]
        return VideoTracks(sequence_id, *self._size, self._num_frames, names, tracks)

    def _in_frames(self, masks: Mapping[int, str]) -> list[str | None]:
        return [masks.get(frame) for frame in range(self._num_frames)]


def record_camera(
    camera: Camera,
    stream: VideoStream,
    recording: Path,
    *,
    category_names: Mapping[int, str],
    frames: FrameRange,
    min_score: float,
    max_tracks: int,
) -> VideoTracks:
    """Segment a camera's frames until it ends, the last of ``frames`` is reached, q is pressed or Ctrl-C.

    Args:
        recording: file (.webm) that gets the frames as they are.
        min_score: objects of less are not shown.
        max_tracks: tracks that are kept, those in most frames.

    Raises:
        DataError: where the camera gives no frame.
    """
    recorder, painter, preview = TrackRecorder(), FramePainter(category_names), Preview()
    _logger.info("frames are shown at most %d frames late; q or Ctrl-C ends", stream.max_delay)
    try:
        with VideoWriter(recording, fps=camera.frames_per_second / frames.step) as video:
            try:
                for image in islice(camera, frames.start, frames.stop, frames.step):
                    video.write(image)
                    if not _show(stream.step(image), recorder, painter, preview, min_score):
                        break
            except KeyboardInterrupt:
                _logger.info("ended; the frames so far are kept")
            for frame in stream.finish():
                recorder.add(frame)
            tracks = recorder.tracks(recording.stem, max_tracks, stream.score_tracks)
            if not tracks.num_frames:
                raise DataError("the camera gave no frame; is it free of other programs?")
            return tracks
    finally:
        preview.close()


def _show(
    seen: list[SeenFrame], recorder: TrackRecorder, painter: FramePainter, preview: Preview, min_score: float
) -> bool:
    """Record frames and show them with their objects; False where the user wants to end."""
    go_on = True
    for frame in seen:
        recorder.add(frame)
        shown = [found for found in frame.objects if found.score >= min_score]
        labels = [(found.track_id, found.category_id, found.score) for found in shown]
        go_on &= preview.show(painter.paint(frame.image, labels, {found.track_id: found.mask for found in shown}))
    return go_on
