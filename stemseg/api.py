"""The package in Python: load a model, segment a video or a stream, look at what was found, save it.

import stemseg
segmenter = stemseg.load("laptop")
result = segmenter.segment("holiday.mp4")
result.masks(3)  # [I, H, W] bool
result.save("out")
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from stemseg.config import Config, load_config
from stemseg.inference.frame_sources import Frame, FrameSource
from stemseg.inference.inputs import InputVideos, build_exporters, build_writers, configured_names, data_section
from stemseg.inference.overlays import FramePainter, OverlayWriter, decode_masks
from stemseg.inference.own_videos import FrameSelection, MemoryVideo, open_own_videos
from stemseg.inference.result_folder import ResultFolder, without_faint
from stemseg.inference.run_summary import RunSummary, more_or_fewer
from stemseg.inference.settings import config_source
from stemseg.inference.track_scores import drawing_threshold
from stemseg.inference.video_segmenter import VideoSegmenter, build_segmenter
from stemseg.modeling.model_files import check_class_names, read_model_info
from stemseg.modeling.network import build_network
from stemseg.modeling.weights import find_checkpoint, load_model_weights
from stemseg.streaming import Stream
from stemseg.structures.frame_range import FrameRange
from stemseg.structures.track_summary import TrackSummary, summarize_tracks
from stemseg.structures.tracks import VideoTracks
from stemseg.utils.distributed import choose_device
from stemseg.utils.errors import ConfigError, DataError
from stemseg.utils.files import user_path
from stemseg.utils.text import shown

Video = str | Path | np.ndarray | Iterable[np.ndarray]


def load(
    model: str | Path = "laptop",
    *,
    device: str | None = None,
    cfg: str | Path | None = None,
    overrides: Sequence[str] = (),
    num_workers: int = 2,
) -> Segmenter:
    """Load a model that segments videos.

    Args:
        model: name of a model that ships with the package, or a checkpoint's path.
        device: "cpu", "cuda", "cuda:1", "mps"; None: a GPU where there is one.
        cfg: configuration that the checkpoint was trained with; None: the one in or beside it.
        overrides: changes of single configuration keys, such as "CLUSTERING.MIN_SEEDINESS_PROB=0.6".
        num_workers: threads that read frames ahead.

    Raises:
        CheckpointError: where the model is missing, damaged, or does not fit its configuration.
        ConfigError: where the configuration is missing or wrong.
    """
    if isinstance(overrides, str):
        raise ConfigError(f"overrides is the text {shown(overrides)}, expected a list of such, [{shown(overrides)}]")
    path = find_checkpoint(model)
    info = read_model_info(path)
    config = load_config(config_source(path, info, None if cfg is None else str(cfg)), overrides)
    check_class_names(info, config.INPUT.NUM_CLASSES, path)
    network = build_network(config)
    load_model_weights(network, path)
    names = {} if config.INPUT.NUM_CLASSES == 2 else info.category_names or configured_names(config)
    engine = build_segmenter(config, network, device=choose_device(device), num_workers=num_workers)
    return Segmenter(engine, config, category_names=names, name=path.stem)


class Segmenter:
    """A loaded model; :func:`load` makes it. Segments one video after another.

    Attributes:
        cfg: the configuration.
        category_names: name of each class; empty for a model without classes.
        name: of the model.
    """

    def __init__(
        self, engine: VideoSegmenter, cfg: Config, *, category_names: Mapping[int, str], name: str = "model"
    ) -> None:
        self.cfg = cfg
        self.category_names = dict(category_names)
        self.name = name
        self._engine = engine

    def segment(
        self, video: Video, *, frames: slice | None = None, fps: float | None = None, progress: bool = False
    ) -> Result:
        """Segment and track every object of a video.

        Args:
            video: a video file, a folder of images, or frames [H, W, 3] uint8, R G B: an array [T, H, W, 3], a
                sequence or any iterable. An iterator's frames are kept in memory, compressed, for the result's
                pictures; for what does not fit there use :meth:`stream`.
            frames: the part of the video that is taken, such as ``slice(100, 400, 2)``.
            fps: frames per second, of frames from memory.
            progress: show a progress bar.

        Raises:
            DataError: naming what can't be read.
        """
        source = open_video(video, fps=fps)
        if frames is not None:
            source = FrameSelection(source, _frame_range(frames))
        with tqdm(total=source.expected_length, unit="frame", desc="segmenting", disable=not progress) as bar:
            tracks = self._engine.segment(source, bar.update)
        return Result(tracks, source, self)

    def stream(self, *, min_score: float = 0.0) -> Stream:
        """A stream, for a camera or a video of any length; use it in a ``with`` block.

        Args:
            min_score: objects of less, by what is known so far, are left out.
        """
        return Stream(self._engine.open_stream(min_score=min_score), self.category_names)

    @property
    def drawing_threshold(self) -> float:
        """The score from which objects are drawn by default."""
        return drawing_threshold(self.cfg, data_section(None, self.cfg))


class Result:
    """The objects of one video.

    Attributes:
        tracks: the objects, best ranked first: id, label, score, frames, areas, boxes.
        num_frames, height, width: of the video.
        frame_names: name of each frame.
    """

    def __init__(self, tracks: VideoTracks, source: FrameSource, segmenter: Segmenter) -> None:
        self._video = tracks
        self._source = source
        self._segmenter = segmenter
        self.tracks: list[TrackSummary] = summarize_tracks(tracks, segmenter.category_names)
        self.num_frames = tracks.num_frames
        self.height = tracks.height
        self.width = tracks.width
        self.frame_names = list(tracks.frame_names)

    def __repr__(self) -> str:
        return f"<Result: {len(self.tracks)} tracks in {self.num_frames} frames of {self.width} x {self.height} pixels>"

    def masks(self, frame: int) -> np.ndarray:
        """The masks of one frame, [I, H, W] bool, in the order of ``tracks``; empty where an object is not seen.

        Raises:
            IndexError: where the video has no such frame.
        """
        self._check(frame)
        masks = np.zeros((len(self.tracks), self.height, self.width), dtype=bool)
        decoded = decode_masks(self._video.tracks, frame, (self.height, self.width))
        for i, track in enumerate(self._video.tracks):
            if track.track_id in decoded:
                masks[i] = decoded[track.track_id] != 0
        return masks

    def image(self, frame: int) -> np.ndarray:
        """One frame of the video, [H, W, 3] uint8, R G B. Reads the video up to there."""
        return np.ascontiguousarray(self._read(frame).image[..., ::-1])

    def overlay(self, frame: int, *, min_score: float | None = None) -> np.ndarray:
        """One frame with its objects painted over it, [H', W', 3] uint8, R G B; small frames are enlarged.

        Args:
            min_score: objects of less are not drawn; None: 0.2, or 0.05 in scores by pixels.
        """
        threshold = self._segmenter.drawing_threshold if min_score is None else min_score
        drawn = [track for track in self._video.tracks if track.score >= threshold]
        image = self._read(frame).image
        masks = decode_masks(drawn, frame, (self.height, self.width))
        labels = [(track.track_id, track.category_id, track.score) for track in drawn]
        picture = FramePainter(self._segmenter.category_names).paint(image, labels, masks)
        return np.ascontiguousarray(picture[..., ::-1])

    def save(
        self,
        folder: str | Path,
        *,
        min_score: float | None = None,
        side_by_side: bool = False,
        exports: Sequence[str] = (),
    ) -> Path:
        """Write everything into a folder: masks, results.json, pictures, a video and the page that shows them.

        Args:
            folder: made where it does not exist; what an earlier result of the same name left there is replaced.
            min_score: objects of less are left out of results and pictures; None: of pictures as in :meth:`overlay`, of
                results as the configuration says (``MIN_TRACK_SCORE``).
            side_by_side: the video shows each frame without and with its objects.
            exports: "coco" for polygons that annotation tools read.

        Returns:
            the page, ``report.html``.
        """
        folder, names, cfg = user_path(folder), self._segmenter.category_names, self._segmenter.cfg
        videos = InputVideos([self._source], names, self._source.description)
        writers = build_writers(cfg, None, folder) + build_exporters(exports, videos, folder)
        drawn = self._segmenter.drawing_threshold if min_score is None else min_score
        overlays = OverlayWriter(folder, names, min_score=drawn, side_by_side=side_by_side)
        details = {
            "model": self._segmenter.name,
            "video": self._source.description,
            "more or fewer": more_or_fewer(cfg),
        }
        summary = RunSummary(folder, names, min_score=drawn, overlays=overlays, details=details)
        ResultFolder(folder).save(
            self._video, fingerprint=self._source.fingerprint(), left_out=self._source.left_out, lost=self._source.lost
        )
        least = cfg.DATA[data_section(None, cfg)].MIN_TRACK_SCORE if min_score is None else min_score
        results = without_faint(self._video, least)
        for writer in writers:
            writer.write_sequence(results)
            writer.assemble([results])
        overlays.write(self._source, self._video)
        summary.add(self._source, self._video)
        summary.write_page()
        return summary.page

    def _read(self, frame: int) -> Frame:
        self._check(frame)
        return next(islice(self._source, frame, None))

    def _check(self, frame: int) -> None:
        if not 0 <= frame < self.num_frames:
            raise IndexError(f"the video has {self.num_frames} frames, from 0; there is no frame {frame}")


def _frame_range(frames: slice) -> FrameRange:
    """The frames that a slice means; counted from the start, since a video's length may not be known."""
    start = 0 if frames.start is None else frames.start
    stop, step = frames.stop, 1 if frames.step is None else frames.step
    are_whole = all(isinstance(value, int) for value in (start, stop or 0, step))
    if not are_whole or min(start, stop or 0) < 0 or step < 1:
        raise DataError(f"frames is {frames}, expected whole numbers from 0, and a step of 1 or more")
    return FrameRange(start, stop, step)


def open_video(video: Video, *, fps: float | None = None) -> FrameSource:
    """The frames that a user means by a path, an array or an iterable; see :meth:`Segmenter.segment`.

    Raises:
        DataError: where it means none, or several videos.
    """
    if not isinstance(video, str | Path | Iterable):
        raise DataError(f"the video is {shown(video)}, expected a path, an array or an iterable of frames")
    if not isinstance(video, str | Path):
        return MemoryVideo(video, fps=fps)
    sources = open_own_videos([video])
    if len(sources) > 1:
        names = ", ".join(str(source.sequence_id) for source in sources[:5])
        raise DataError(f"{video} means {len(sources)} videos ({names} ...); segment them one by one")
    return sources[0]
