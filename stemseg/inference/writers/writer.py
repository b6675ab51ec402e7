"""The interface of all result writers."""

from __future__ import annotations

from collections.abc import Iterable

from stemseg.structures.tracks import VideoTracks


class ResultWriter:
    """Writes results in the format of one official evaluator.

    Formats with files per sequence override :meth:`write_sequence`, which any process calls for its own sequences;
    formats with one file per dataset override :meth:`assemble`, which one process calls in the end.
    """

    def write_sequence(self, tracks: VideoTracks) -> None:
        """Write what belongs to one sequence alone."""

    def assemble(self, videos: Iterable[VideoTracks]) -> None:
        """Write what holds all sequences, given one by one."""
