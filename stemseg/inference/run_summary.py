"""The findings of a run, said at its end and shown on its page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from stemseg.config import Config
from stemseg.inference.frame_sources import FrameSource
from stemseg.inference.overlays import DEFAULT_FRAME_RATE, OverlayWriter
from stemseg.inference.report_page import VideoReport, write_report
from stemseg.structures.track_summary import count_labels, summarize_tracks
from stemseg.structures.tracks import VideoTracks
from stemseg.utils.files import file_name

_SHOWN_VIDEOS = 10


class RunSummary:
    """Gathers what was found in each video of a run.

    Args:
        output_dir: the run's; the page goes there.
        category_names: name of each category id; empty for a class-agnostic model.
        min_score: tracks of less are counted apart, as they are not drawn.
        overlays: wrote the run's pictures; None where it has none, and no page.
        details: how the results were made, by name, for the page.
    """

    def __init__(
        self,
        output_dir: Path,
        category_names: Mapping[int, str],
        *,
        min_score: float,
        overlays: OverlayWriter | None,
        details: Mapping[str, str],
    ) -> None:
        self._output_dir = output_dir
        self._names = category_names
        self._min_score = min_score
        self._overlays = overlays
        self._details = details
        self._videos: list[VideoReport] = []

    @property
    def page(self) -> Path:
        """The page's file."""
        return self._output_dir / "report.html"

    def add(self, source: FrameSource, tracks: VideoTracks) -> None:
        """Take in a finished video."""
        name = file_name(tracks.sequence_id)
        files = {
            "pictures": self._output_dir / "overlays" / name,
            "video": self._output_dir / "overlays" / f"{name}.webm",
            "masks (PNG)": self._output_dir / "results" / name,
            "polygons (COCO)": self._output_dir / "coco" / f"{name}.json",
            "tracks (JSON)": self._output_dir / "sequences" / f"{name}.json",
            "all results (JSON)": self._output_dir / "results.json",
        }
        self._videos.append(
            VideoReport(
                title=str(tracks.sequence_id),
                num_frames=tracks.num_frames,
                height=tracks.height,
                width=tracks.width,
                fps=source.frames_per_second or DEFAULT_FRAME_RATE,
                tracks=summarize_tracks(tracks, self._names),
                min_score=self._min_score,
                video=files["video"],
                sheet=files["video"].with_suffix(".jpg"),
                files={text: path for text, path in files.items() if path.exists()},
            )
        )

    def lines(self) -> Iterator[str]:
        """The number of objects of each video, the first few videos one by one."""
        for video in self._videos[:_SHOWN_VIDEOS]:
            drawn = [track for track in video.tracks if track.score >= self._min_score]
            faint = len(video.tracks) - len(drawn)
            rest = f", and {faint} fainter (score below {self._min_score:g})" if faint else ""
            frames = "1 frame" if video.num_frames == 1 else f"{video.num_frames} frames"
            yield f"{video.title}: {count_labels(drawn)} in {frames}{rest}"
        if len(self._videos) > _SHOWN_VIDEOS:
            yield f"and {len(self._videos) - _SHOWN_VIDEOS} more videos"

    def write_page(self) -> None:
        """Write ``report.html``, where the run has pictures."""
        if self._overlays is not None and self._videos:
            write_report(self.page, self._videos, details=self._details)


def more_or_fewer(cfg: Config) -> str:
    """Advice on the flags that change how many objects are found."""
    seediness = cfg.CLUSTERING.MIN_SEEDINESS_PROB
    flags = [f"--min_seediness_prob (now {seediness:g})", "--min_score"]
    if not cfg.MODEL.USE_SEMSEG_HEAD:
        flags.insert(1, f"--seediness_thresh (now {cfg.INFERENCE.SEEDINESS_THRESHOLD:g})")
    return f"for more objects lower {' or '.join(flags)}; for fewer raise them, or give --max_tracks N"
