"""From a frame source to the tracks of a video, with one network for many videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from stemseg.config import Config
from stemseg.data.preprocessing import SIZE_MULTIPLE, ImagePreprocessor, build_preprocessor
from stemseg.datasets import find_dataset
from stemseg.inference.frame_sources import Frame, FrameSource
from stemseg.inference.online_engine import InferenceEngine, build_engine
from stemseg.inference.track_scores import PIXELS, score_kind
from stemseg.inference.tracks import collect_tracks
from stemseg.inference.video_stream import VideoStream
from stemseg.modeling.network import Network
from stemseg.structures.tracks import VideoTracks
from stemseg.utils import devices
from stemseg.utils.timing import Stopwatch


class VideoSegmenter:
    """Segments videos one after another.

    Args:
        new_engine: makes the engine of each video.
        preprocessor: shared with training.
        max_tracks: tracks kept of each video, longest-lived first.
        frames_per_batch: frames given to the engine at once.
        num_workers: threads that read and prepare frames ahead.
        stopwatch: takes the seconds of the stages "reading" and "masks", beside the engine's.
        score: what a track's score says, see :func:`stemseg.inference.track_scores.score_tracks`.
        prepare_on: device that resizes and normalizes frames; None: the reading threads do.
    """

    def __init__(
        self,
        *,
        new_engine: Callable[[], InferenceEngine],
        preprocessor: ImagePreprocessor,
        max_tracks: int,
        frames_per_batch: int,
        num_workers: int,
        stopwatch: Stopwatch,
        score: str = PIXELS,
        prepare_on: torch.device | None = None,
    ) -> None:
        self._prepare_on = prepare_on
        self.stopwatch = stopwatch
        self._new_engine = new_engine
        self._preprocessor = preprocessor
        self._max_tracks = max_tracks
        self._frames_per_batch = frames_per_batch
        self._num_workers = num_workers
        self._score = score

    def segment(self, source: FrameSource, progress: Callable[[int], object] | None = None) -> VideoTracks:
        """Segment and track every object of one video.

        Args:
            source: the video.
            progress: called with the number of frames that went through, again and again.

        Raises:
            DataError: naming the frame that can't be read or differs in size.
        """
        return self.start(source, progress)()

    def start(self, source: FrameSource, progress: Callable[[int], object] | None = None) -> Callable[[], VideoTracks]:
        """Run the network over one video; see :meth:`segment`.

        Returns:
            a function that makes the masks, in whatever thread: meanwhile the network can go on with the next video.
        """
        engine, names, video_size = self._new_engine(), [], (0, 0)
        for batch in self._batches(source):
            names += [frame.name for frame, _ in batch]
            video_size = batch[0][0].image.shape[:2]
            engine.step(self._prepare_batch([tensor for _, tensor in batch]))
            if progress is not None:
                progress(len(batch))
        collect = partial(
            collect_tracks,
            engine.finish(),
            sequence_id=source.sequence_id,
            frame_names=names,
            video_size=video_size,
            network_size=self._preprocessor.output_size(*video_size),
            max_tracks=self._max_tracks,
            score=self._score,
        )
        return partial(self._collect, collect)

    def _collect(self, collect: Callable[[], VideoTracks]) -> VideoTracks:
        with self.stopwatch.stage("masks"):
            return collect()

    def open_stream(self, *, min_score: float = 0.0) -> VideoStream:
        """A stream of a video that arrives frame by frame, without objects of a lower score."""
        return VideoStream(
            self._new_engine(),
            self._preprocessor,
            prepare=lambda image: self._prepare_batch([self._prepare(image)]),
            score=self._score,
            min_score=min_score,
        )

    def _batches(self, source: FrameSource) -> Iterator[list[tuple[Frame, Tensor]]]:
        frames = source.load(lambda frame: self._prepare(frame.image), num_workers=self._num_workers)
        while True:
            with self.stopwatch.stage("reading"):
                batch = list(islice(frames, self._frames_per_batch))
            if not batch:
                return
            yield batch

    def _prepare(self, image: np.ndarray) -> Tensor:
        """The part of preparing an image that is done where it is read."""
        if self._prepare_on is not None:
            return torch.from_numpy(image)
        return self._preprocessor(image, SIZE_MULTIPLE)

    def _prepare_batch(self, images: Sequence[Tensor]) -> Tensor:
        """The network's input for several images [H, W, 3] uint8, or those prepared: [F, 3, h, w] float32."""
        batch = torch.stack(list(images))
        if self._prepare_on is None:
            return batch
        return self._preprocessor.on_device(batch, self._prepare_on, SIZE_MULTIPLE)


def build_segmenter(
    cfg: Config,
    network: Network,
    *,
    device: torch.device,
    section: str | None = None,
    clustering_device: torch.device | None = None,
    num_workers: int = 0,
    stopwatch: Stopwatch | None = None,
    compiled: bool = False,
) -> VideoSegmenter:
    """A segmenter with the settings of a configuration; takes the network over.

    The network is moved to ``device`` and prepared for inference for good: it can't be trained any more, nor saved.
    Give :meth:`Network.inference_copy` of one that is still needed.

    Args:
        section: the section of DATA that gives overlap and number of tracks; None takes that of TRAINING.MODE.
        clustering_device: None clusters where the network is.
        compiled: compile the network, which takes a minute or two and pays for long videos.

    Raises:
        ConfigError: where it can't be compiled.
    """
    network.to(device).prepare_for_inference()
    if compiled:
        network.compile_parts()
    stopwatch = stopwatch or Stopwatch()
    rules = cfg.DATA[section or find_dataset(cfg.TRAINING.MODE).section]

    def new_engine() -> InferenceEngine:
        return build_engine(
            cfg,
            network,
            frame_overlap=rules.INFERENCE_FRAME_OVERLAP,
            device=device,
            clustering_device=clustering_device,
            stopwatch=stopwatch,
            in_background=num_workers > 0,
        )

    return VideoSegmenter(
        new_engine=new_engine,
        preprocessor=build_preprocessor(cfg),
        max_tracks=rules.MAX_INFERENCE_TRACKS,
        prepare_on=None if devices.is_host(device) else device,
        frames_per_batch=cfg.INFERENCE.FRAMES_PER_BATCH,
        num_workers=num_workers,
        stopwatch=stopwatch,
        score=score_kind(cfg),
    )


def segment_video(
    network: Network,
    source: FrameSource,
    cfg: Config,
    *,
    device: torch.device | None = None,
    section: str | None = None,
) -> VideoTracks:
    """Segment one video with a copy of a network, which stays as it is, in training too.

    Args:
        device: None: the network's.
    """
    device = device or next(network.parameters()).device
    return build_segmenter(cfg, network.inference_copy(), device=device, section=section).segment(source)
