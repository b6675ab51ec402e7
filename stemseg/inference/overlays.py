"""Pictures of results: each frame with its tracks painted over it, and all of them as an .mp4."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stemseg.inference.frame_sources import FrameSource
from stemseg.structures.rle import decode_rle
from stemseg.structures.tracks import Track, VideoTracks
from stemseg.utils.drawing import VideoWriter, draw_instances, write_image
from stemseg.utils.files import file_name

DEFAULT_FRAME_RATE = 10.0
_MIN_CAPTION_SCORE = 0.05  # slivers along an object's rim are painted, but their captions would hide the objects'


class OverlayWriter:
    """Writes ``overlays/<sequence>/00000.jpg`` and ``overlays/<sequence>.mp4``.

    Args:
        output_dir: the pictures go into its ``overlays``.
        category_names: name of each category id; categories without one are not named.
    """

    def __init__(self, output_dir: Path, category_names: Mapping[int, str]) -> None:
        self._folder = output_dir / "overlays"
        self._names = category_names

    def is_written(self, sequence_id: str | int) -> bool:
        """Whether the sequence's video is there, which is written last."""
        return self._video_file(sequence_id).is_file()

    def write(self, source: FrameSource, tracks: VideoTracks, *, num_workers: int = 0) -> None:
        """Read the video once more and write its pictures, one frame at a time."""
        named = [track for track in tracks.tracks if track.score >= _MIN_CAPTION_SCORE]
        captions = {track.track_id: self._caption(track) for track in named}
        final = self._video_file(tracks.sequence_id)
        with VideoWriter(final, fps=source.frames_per_second or DEFAULT_FRAME_RATE) as video:
            frames = source.load(lambda frame: None, num_workers=num_workers)
            for index, (frame, _) in enumerate(frames):
                picture = draw_instances(frame.image, _masks(tracks, index), captions)
                write_image(final.with_suffix("") / f"{index:05d}.jpg", picture)
                video.write(picture)

    def _caption(self, track: Track) -> str:
        words = [str(track.track_id), self._names.get(track.category_id, ""), f"{track.score:.2f}"]
        return " ".join(word for word in words if word)

    def _video_file(self, sequence_id: str | int) -> Path:
        return self._folder / f"{file_name(sequence_id)}.mp4"


def _masks(tracks: VideoTracks, frame: int) -> dict[int, np.ndarray]:
    visible = ((track.track_id, track.segmentations[frame]) for track in tracks.tracks)
    return {number: decode_rle(counts, tracks.height, tracks.width) for number, counts in visible if counts is not None}
