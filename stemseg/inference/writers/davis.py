"""Results as DAVIS wants them: ``results/<sequence>/00000.png``, palette images whose values are track numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from stemseg.inference.result_folder import file_name
from stemseg.inference.writers.writer import ResultWriter
from stemseg.structures.rle import decode_rle
from stemseg.structures.tracks import VideoTracks
from stemseg.utils.drawing import instance_palette
from stemseg.utils.errors import ConfigError

MAX_TRACKS = 255  # a palette image has no more values


class DavisWriter(ResultWriter):
    """Writes one PNG for each frame, named like the frame, also where there is nothing in it.

    Args:
        output_dir: the folders of sequences go into its ``results``.
    """

    def __init__(self, output_dir: Path) -> None:
        self._results = output_dir / "results"
        self._palette = instance_palette().tobytes()

    def write_sequence(self, tracks: VideoTracks) -> None:
        """Write a sequence's id maps; where tracks overlap, the later one in rank is seen.

        Raises:
            ConfigError: where there are more tracks than a palette has values.
        """
        if len(tracks.tracks) > MAX_TRACKS:
            raise ConfigError(
                f"sequence '{tracks.sequence_id}' has {len(tracks.tracks)} tracks, but palette PNGs hold at most "
                f"{MAX_TRACKS}; give --max_tracks {MAX_TRACKS} or fewer"
            )
        folder = self._results / file_name(tracks.sequence_id)
        folder.mkdir(parents=True, exist_ok=True)
        for frame, name in enumerate(_unique_names(tracks)):
            image = Image.fromarray(paint_id_map(tracks, frame))
            image.putpalette(self._palette)
            image.save(folder / f"{name}.png")


def paint_id_map(tracks: VideoTracks, frame: int) -> np.ndarray:
    """Id map of a frame, [H, W] uint8: number of the track, 0 for none."""
    id_map = np.zeros((tracks.height, tracks.width), dtype=np.uint8, order="F")  # as decoded masks lie in memory
    for track in tracks.tracks:
        counts = track.segmentations[frame]
        if counts is not None:
            np.copyto(id_map, track.track_id, where=decode_rle(counts, tracks.height, tracks.width).view(bool))
    return id_map


def _unique_names(tracks: VideoTracks) -> list[str]:
    """The frames' names, or their numbers where frames from different folders share a name."""
    if len(set(tracks.frame_names)) == tracks.num_frames:
        return tracks.frame_names
    return [f"{frame:05d}" for frame in range(tracks.num_frames)]
