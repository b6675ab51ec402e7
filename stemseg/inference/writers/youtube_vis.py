"""Results as YouTube-VIS 2019, 2021 and OVIS want them: ``results.json``, and the same in ``results.zip``."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from stemseg.inference.result_folder import ResultWriter
from stemseg.structures.tracks import VideoTracks
from stemseg.utils.files import replacing, write_text


class YouTubeVisWriter(ResultWriter):
    """Writes all tracks of all videos into one file, and a zip of it that evaluation servers take.

    Args:
        output_dir: where the two files go.
    """

    def __init__(self, output_dir: Path) -> None:
        self._json = output_dir / "results.json"
        self._zip = output_dir / "results.zip"

    def assemble(self, videos: Iterable[VideoTracks]) -> None:
        """Write both files; without any track they hold an empty list."""
        text = json.dumps([entry for video in videos for entry in track_entries(video)])
        write_text(self._json, text)
        with replacing(self._zip) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(self._json.name, text)


def track_entries(video: VideoTracks) -> Iterator[dict[str, Any]]:
    """The result entry of each track; ``video_id`` is the sequence's id as in the annotation file."""
    for track in video.tracks:
        yield {
            "video_id": video.sequence_id,
            "category_id": track.category_id,
            "score": track.score,
            "segmentations": [
                None if counts is None else {"size": [video.height, video.width], "counts": counts}
                for counts in track.segmentations
            ],
        }
