"""Pictures of results: each frame with its tracks painted over it, all of them as a video, and a contact sheet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from stemseg.inference.frame_sources import Frame, FrameSource
from stemseg.structures.rle import decode_rle
from stemseg.structures.tracks import Track, VideoTracks
from stemseg.utils.captions import CaptionPlacer
from stemseg.utils.drawing import (
    VideoWriter,
    draw_instances,
    draw_text,
    enlarge,
    enlarge_mask,
    shrink,
    tile,
    write_image,
)
from stemseg.utils.files import file_name, write_text
from stemseg.utils.parallel import map_in_threads

DEFAULT_FRAME_RATE = 10.0
_MIN_SIDE = 360  # pixels: smaller frames are enlarged, so that captions can be read
_VIDEO_SIDE = 1280  # pixels: larger pictures are shrunk in the video
_PAINTED_AHEAD = 4  # frames
_SHEET_FRAMES, _SHEET_COLUMNS, _SHEET_WIDTH = 12, 3, 480


class FramePainter:
    """Paints the tracks of one video over its frames, one after another; small frames are enlarged.

    Args:
        category_names: name of each category id; categories without one are not named.
    """

    def __init__(self, category_names: Mapping[int, str]) -> None:
        self._names = category_names
        self._placer = CaptionPlacer()

    def paint(
        self, image: np.ndarray, tracks: Sequence[tuple[int, int, float]], masks: Mapping[int, np.ndarray]
    ) -> np.ndarray:
        """The picture of a frame.

        Args:
            image: [H, W, 3] uint8, B G R.
            tracks: number, category id and score of the tracks in question.
            masks: of those that the frame shows, [H, W] by number.
        """
        captions = {number: self._captions(number, category, score) for number, category, score in tracks}
        large = {number: enlarge_mask(mask, _MIN_SIDE) for number, mask in masks.items()}
        return draw_instances(enlarge(image, _MIN_SIDE), large, captions, placer=self._placer)

    def _captions(self, number: int, category: int, score: float) -> list[str]:
        """Texts from long to short: a class's name and score are left out where there is no room for them."""
        name = self._names.get(category)
        return [str(number)] if name is None else [f"{number} {name} {score:.2f}", f"{number} {name}", str(number)]


class OverlayWriter:
    """Writes ``overlays/<sequence>/00000.jpg``, ``overlays/<sequence>.webm`` and ``overlays/<sequence>.jpg``, a sheet.

    Args:
        output_dir: the pictures go into its ``overlays``.
        category_names: name of each category id; categories without one are not named.
        min_score: tracks whose score is below are not drawn.
        side_by_side: the video shows each frame without and with its tracks.
    """

    def __init__(
        self,
        output_dir: Path,
        category_names: Mapping[int, str],
        *,
        min_score: float = 0.0,
        side_by_side: bool = False,
    ) -> None:
        self._folder = output_dir / "overlays"
        self._names = category_names
        self._min_score = min_score
        self._side_by_side = side_by_side

    @property
    def min_score(self) -> float:
        """Tracks whose score is below are not drawn."""
        return self._min_score

    def is_written(self, sequence_id: str | int) -> bool:
        """Whether the sequence's pictures are there, drawn as this writer would."""
        try:
            return self._record(sequence_id).read_text(encoding="utf-8") == self._choices()
        except FileNotFoundError:
            return False

    def video_file(self, sequence_id: str | int) -> Path:
        """The sequence's video; a folder of that name holds its pictures, a .jpg its contact sheet."""
        return self._folder / f"{file_name(sequence_id)}.webm"

    def write(self, source: FrameSource, tracks: VideoTracks, *, num_workers: int = 0) -> None:
        """Read the video once more and write its pictures, one frame at a time.

        With workers one more thread paints, while this one packs the video, which takes longest.
        """
        drawn = [track for track in tracks.tracks if track.score >= self._min_score]
        labels = [(track.track_id, track.category_id, track.score) for track in drawn]
        painter, sheet = FramePainter(self._names), _ContactSheet(tracks.num_frames)
        final = self.video_file(tracks.sequence_id)

        def paint(job: tuple[int, tuple[Frame, None]]) -> tuple[np.ndarray, np.ndarray]:
            index, (frame, _) = job
            masks = decode_masks(drawn, index, frame.image.shape[:2])
            picture = painter.paint(frame.image, labels, masks)
            write_image(final.with_suffix("") / f"{index:05d}.jpg", picture)
            return frame.image, picture

        with VideoWriter(final, fps=source.frames_per_second or DEFAULT_FRAME_RATE) as video:
            frames = source.load(lambda frame: None, num_workers=num_workers)
            # the painter remembers where captions were, so there is one
            painted = map_in_threads(paint, enumerate(frames), workers=min(1, num_workers), max_ahead=_PAINTED_AHEAD)
            for index, (image, picture) in enumerate(painted):
                sheet.add(index, picture)
                video.write(shrink(self._beside(image, picture), _VIDEO_SIDE))
            write_image(final.with_suffix(".jpg"), sheet.picture())
        write_text(self._record(tracks.sequence_id), self._choices())

    def _record(self, sequence_id: str | int) -> Path:
        """The file that says how the sequence's pictures were drawn, written last."""
        return self.video_file(sequence_id).with_suffix(".json")

    def _choices(self) -> str:
        names = {str(i): name for i, name in self._names.items()}
        return json.dumps({"min_score": self._min_score, "side_by_side": self._side_by_side, "names": names})

    def _beside(self, image: np.ndarray, picture: np.ndarray) -> np.ndarray:
        if not self._side_by_side:
            return picture
        return tile([cv2.resize(image, (picture.shape[1], picture.shape[0])), picture], columns=2)


class _ContactSheet:
    """Gathers a few frames of a video, evenly spread, as one picture."""

    def __init__(self, num_frames: int) -> None:
        count = min(_SHEET_FRAMES, num_frames)
        self._wanted = {round(i) for i in np.linspace(0, num_frames - 1, count)}
        self._pictures: list[np.ndarray] = []

    def add(self, index: int, picture: np.ndarray) -> None:
        """Take in the picture of a frame, if it is one of those wanted."""
        if index not in self._wanted:
            return
        height = max(1, round(picture.shape[0] * _SHEET_WIDTH / picture.shape[1]))
        small = cv2.resize(picture, (_SHEET_WIDTH, height), interpolation=cv2.INTER_AREA)
        draw_text(small, f"frame {index}", (6, 18))
        self._pictures.append(small)

    def picture(self) -> np.ndarray:
        """All of them, in rows."""
        return tile(self._pictures, columns=min(_SHEET_COLUMNS, len(self._pictures)))


def decode_masks(tracks: Sequence[Track], frame: int, size: tuple[int, int]) -> dict[int, np.ndarray]:
    """Masks [H, W] uint8 of the tracks that a frame shows, by number; ``size`` is (H, W)."""
    visible = ((track.track_id, track.segmentations[frame]) for track in tracks)
    return {number: decode_rle(counts, *size) for number, counts in visible if counts is not None}
