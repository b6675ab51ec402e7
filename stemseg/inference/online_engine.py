"""The streaming engine: frames in, tracks out, for a video of any length in bounded memory (method.md §8).

Frames go through the backbone once, and what the heads need of them stays while a clip still needs it. When a clip is
complete, the heads run on it; its embeddings wait until the averages over all clips are final for each of its frames.
Then it is clustered, chained to the tracks so far, and only compressed labels remain.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor

from stemseg.config import Config
from stemseg.inference.chaining import Chainer, ClipFrames, ClipLabels, ClipSchedule, PointLabels
from stemseg.inference.clustering import (
    ClipMaps,
    ClipPoints,
    ClusteringRule,
    Clusters,
    build_clustering,
    gather_points,
    keep_maps,
)
from stemseg.inference.semantics import (
    FrameAverages,
    FramePoints,
    SemanticRule,
    build_semantic_rule,
    class_votes,
    foreground_places,
)
from stemseg.inference.track_scores import ClipRatings, rate_instances
from stemseg.inference.tracks import TrackStore
from stemseg.modeling.clip_stream import FrameTerms
from stemseg.modeling.flow.appearance_flow import AppearanceFlow
from stemseg.modeling.network import Network
from stemseg.utils import devices
from stemseg.utils.devices import mixed_precision
from stemseg.utils.parallel import BackgroundWorker
from stemseg.utils.timing import Stopwatch

OUTPUT_STRIDE = 4
_CLIPS_WAITING = 2  # to be chained, in the background


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """Settings by which a video is cut, computed and upsampled.

    Attributes:
        clip_length: T, frames of a clip.
        frame_overlap: frames that consecutive clips share.
        frames_per_batch: frames that go through the backbone at once.
        label_stride: pixels of the network's input per pixel of a label map: 4; 1 upsamples the embeddings.
        device: of the network.
        clustering_device: of clustering, chaining and voting.
        amp: mixed precision, "none", "bf16", "fp16" or "auto".
        compat: as the published code did it: a video shorter than T averages the semantic logits of all repetitions of
            its first frame, not of the last one only; seediness is always that of the last one.
    """

    clip_length: int
    frame_overlap: int
    frames_per_batch: int
    label_stride: int
    device: torch.device
    clustering_device: torch.device
    amp: str = "none"
    compat: bool = False


class _Foreground(NamedTuple):
    """A frame's foreground: its P points in the label map, and its probability there [P]."""

    points: FramePoints
    probabilities: Tensor


class _ClusteredClip(NamedTuple):
    """A clip's P points and their instances; of each of its T frames, the foreground and the points' labels.

    Labels are instances from 1; -1 for outliers.
    """

    points: ClipPoints
    clusters: Clusters
    foreground: Sequence[_Foreground]
    labels: Sequence[Tensor]


class InferenceEngine:
    """Segments one video: :meth:`step` with each new piece of it, then :meth:`finish`.

    Args:
        network: in evaluation mode, on ``settings.device``.
        settings: see :class:`EngineSettings`.
        clustering, chainer, semantics: the parts; the chainer must be new.
        stopwatch: takes the seconds of the stages "backbone", "heads", "clustering" and "chaining".
        appearance_flow: rates what the tracks look like; None: nobody asks.
        in_background: chain clips and compress labels in a thread beside the network.
    """

    def __init__(
        self,
        network: Network,
        settings: EngineSettings,
        *,
        clustering: ClusteringRule,
        chainer: Chainer,
        semantics: SemanticRule,
        stopwatch: Stopwatch | None = None,
        appearance_flow: AppearanceFlow | None = None,
        in_background: bool = False,
    ) -> None:
        self._network = network
        self._settings = settings
        self._clustering = clustering
        self._chainer = chainer
        self._semantics = semantics
        self._flow = appearance_flow
        self._stopwatch = stopwatch or Stopwatch()
        self._schedule = ClipSchedule(settings.clip_length, settings.frame_overlap)
        self._stream = network.open_stream()
        self._averages = FrameAverages()  # of what tells the foreground ...
        self._class_averages = FrameAverages()  # ... and the classes
        self._foreground: dict[int, _Foreground] = {}  # of frames, once it is final
        self._waiting: deque[ClipMaps] = deque()
        self._store = TrackStore(label_stride=settings.label_stride)
        self._num_labeled = 0  # frames that have been in a labeled clip
        self._worker = BackgroundWorker(max_waiting=_CLIPS_WAITING, in_place=not in_background)

    @property
    def store(self) -> TrackStore:
        """The tracks, with the labels of all frames that are final so far."""
        self._worker.finish()
        return self._store

    @property
    def max_delay(self) -> int:
        """Frames that may arrive behind a frame before its labels are final: 2 T - 1 for clips of T frames.

        The first clip's frames wait longest: for their own clip, and for all others that cover its last frame.
        """
        return 2 * self._settings.clip_length - 1

    @property
    def num_kept_features(self) -> int:
        """Frames whose features are in memory."""
        return len(self._stream)

    @property
    def num_kept_averages(self) -> int:
        """Frames whose semantic averages are in memory."""
        return len(self._averages)

    @property
    def num_waiting_clips(self) -> int:
        """Clips whose embeddings are in memory."""
        return len(self._waiting)

    @torch.inference_mode()
    def step(self, frames: Tensor) -> None:
        """Take in the next frames of the video, [F, 3, H, W] float32, normalized and padded, on any device."""
        for batch in frames.split(self._settings.frames_per_batch):
            for frame in self._encode(batch):
                self._stream.append(frame)
                self._advance(self._schedule.add(1))

    @torch.inference_mode()
    def finish(self) -> TrackStore:
        """End the video; the store then holds the labels of all its frames."""
        self._advance(self._schedule.finish())
        return self.store

    def _encode(self, frames: Tensor) -> list[FrameTerms]:
        with self._stopwatch.stage("backbone"), self._precision():
            return list(self._stream.encode(frames.to(self._settings.device, non_blocking=True)))

    def _advance(self, clips: list[ClipFrames]) -> None:
        for clip in clips:
            self._run_heads(clip)
        first_open = self._schedule.first_open_frame
        self._stream.forget_before(first_open)
        while self._waiting and self._waiting[0].frames[-1] < first_open:
            self._label(self._waiting.popleft())
        self._forget_before(self._waiting[0].frames[0] if self._waiting else first_open)

    def _forget_before(self, frame: int) -> None:
        """Drop all that earlier frames have no more use for."""
        self._averages.forget_before(frame)
        self._class_averages.forget_before(frame)
        for old in [f for f in self._foreground if f < frame]:
            del self._foreground[old]

    def _run_heads(self, clip: ClipFrames) -> None:
        with self._stopwatch.stage("heads"):
            with self._precision():
                output = self._stream.decode(clip.indices)
            repeats = self._settings.compat and self._semantics.reads_logits
            averaged = clip.indices if repeats else clip.frames
            self._averages.add(averaged, self._semantics.maps(output)[:, -len(averaged) :])
            classes = self._semantics.class_maps(output)
            if classes is not None:
                self._class_averages.add(averaged, classes[:, -len(averaged) :])
            self._waiting.append(keep_maps(clip.frames, output, self._settings.clustering_device))

    def _label(self, clip: ClipMaps) -> None:
        """Cluster a clip whose frames are final, and have it chained."""
        with self._stopwatch.stage("clustering"):
            found = self._cluster(clip)
            num_new = sum(frame >= self._num_labeled for frame in clip.frames)
            self._num_labeled = clip.frames[-1] + 1
            places = [frame.points.places for frame in found.foreground]
            votes, ratings = self._vote(clip, num_new, found)
            # all that leaves the device does so in one copy, which the worker waits for
            pixel_sums, seeds, *others = ratings
            optional = dict(zip(("votes", *ratings._fields[2:]), (votes, *others), strict=True))
            given = {name: x.to(seeds.device) for name, x in optional.items() if x is not None}
            tensors = [*places, *found.labels, pixel_sums, seeds, *given.values()]
            fetch = devices.copy_to_host(tensors)
        size = clip.maps.shape[-2] * self._scale, clip.maps.shape[-1] * self._scale
        self._worker.do(partial(self._chain, clip.frames, size, found.clusters.num_instances, fetch, list(given)))

    def _chain(
        self,
        frames: Sequence[int],
        size: tuple[int, int],
        num_instances: int,
        fetch: Callable[[], list[Tensor]],
        given: Sequence[str],
    ) -> None:
        """Chain a clip to the tracks and keep what is new.

        Args:
            fetch: gives places and labels of T frames, pixel sums and seeds, and what is named by ``given``.
        """
        with self._stopwatch.stage("chaining"):
            tensors = iter(fetch())
            places, labels = ([next(tensors).numpy() for _ in frames] for _ in range(2))
            ratings = ClipRatings(next(tensors), next(tensors))
            optional = dict(zip(given, tensors, strict=True))
            votes = optional.pop("votes", None)
            points = [PointLabels(*frame) for frame in zip(places, labels, strict=True)]
            chained = self._chainer.add(ClipLabels(frames, size, points, num_instances))
            self._store.add(chained, votes, ratings._replace(**optional))

    @property
    def _scale(self) -> int:
        """The label maps' size by that of the network's output."""
        return OUTPUT_STRIDE // self._settings.label_stride

    def _cluster(self, clip: ClipMaps) -> _ClusteredClip:
        foreground = self._find_foreground(clip)
        frames = [frame.points for frame in foreground]
        points = gather_points(clip, frames, self._network.free_dim_bandwidths)
        clusters = self._clustering(*points)
        labels = (clusters.labels + (clusters.labels >= 0)).int()  # instances from 1; outliers stay at -1
        return _ClusteredClip(points, clusters, foreground, labels.split([len(frame) for frame in frames]))

    def _find_foreground(self, clip: ClipMaps) -> list[_Foreground]:
        """The foreground of a clip's frames; found once, since it is the same in all clips."""
        missing = [frame for frame in clip.frames if frame not in self._foreground]
        if missing:
            scores = self._semantics.foreground_scores(self._averages.means(missing), self._scale)  # [F, H, W]
            scores = scores.to(clip.maps.device)
            found = foreground_places(self._semantics.is_foreground(scores))
            for frame, frame_scores, places in zip(missing, scores, found, strict=True):
                probabilities = self._semantics.foreground_probabilities(frame_scores.flatten()[places])
                points = FramePoints(places, (clip.maps.shape[-2], clip.maps.shape[-1]), self._scale)
                self._foreground[frame] = _Foreground(points, probabilities)
        return [self._foreground[frame] for frame in clip.frames]

    def _vote(self, clip: ClipMaps, num_new: int, found: _ClusteredClip) -> tuple[Tensor | None, ClipRatings]:
        """Class logits [I, K] summed over the pixels of each instance, None without classes, and its ratings.

        Sums are over the clip's last ``num_new`` frames.
        """
        points = [frame.points for frame in found.foreground[-num_new:]]
        probabilities = torch.cat([frame.probabilities for frame in found.foreground])
        ratings = rate_instances(found.points, found.clusters, probabilities, sum(map(len, points)))
        instances = (points, found.labels[-num_new:], found.clusters.num_instances)
        if clip.appearance is not None:
            maps = clip.appearance[:, -num_new:].unbind(dim=1)  # [A, h, w] each
            sums = class_votes(*instances, maps, derive=_with_squared_norm)
            ratings = ratings._replace(appearance_sums=sums)
            if self._flow is not None and found.clusters.num_instances:
                appearance = clip.appearance[:, -num_new:].to(self._settings.device)
                masks = _coarse_masks(*instances, clip.maps.shape[-2:], self._scale).to(self._settings.device)
                ratings = ratings._replace(appearance_fits=self._flow.rate_instances(appearance, masks))
        if not len(self._class_averages):
            return None, ratings
        logits = [self._class_averages.mean(frame).to(clip.maps.device) for frame in clip.frames[-num_new:]]
        votes, class_sums = class_votes(*instances, logits, derive=_with_softmax).chunk(2, dim=1)
        return votes, ratings._replace(class_sums=class_sums)

    def _precision(self) -> torch.autocast:
        return mixed_precision(self._settings.device, self._settings.amp)


def build_engine(
    cfg: Config,
    network: Network,
    *,
    frame_overlap: int,
    device: torch.device,
    clustering_device: torch.device | None = None,
    stopwatch: Stopwatch | None = None,
    in_background: bool = False,
) -> InferenceEngine:
    """An engine for one video; it clusters on ``clustering_device``, or on the network's where that is None."""
    compat = cfg.CLUSTERING.STEMSEG_COMPAT
    return InferenceEngine(
        network,
        EngineSettings(
            clip_length=cfg.INPUT.NUM_FRAMES,
            frame_overlap=frame_overlap,
            frames_per_batch=cfg.INFERENCE.FRAMES_PER_BATCH,
            label_stride=1 if cfg.INFERENCE.RESIZE_EMBEDDINGS else OUTPUT_STRIDE,
            device=device,
            clustering_device=clustering_device or device,
            amp=cfg.INFERENCE.AMP,
            compat=compat,
        ),
        clustering=build_clustering(cfg),
        chainer=Chainer(min_iou=cfg.CLUSTERING.MIN_MATCH_IOU, compat=compat),
        semantics=build_semantic_rule(cfg),
        stopwatch=stopwatch,
        appearance_flow=cast(AppearanceFlow, network.offset_head) if cfg.INFERENCE.RATE_APPEARANCE else None,
        in_background=in_background,
    )


def _coarse_masks(
    points: Sequence[FramePoints], labels: Sequence[Tensor], num_instances: int, size: Sequence[int], scale: int
) -> Tensor:
    """The instances of F frames as masks on the network's output, [I, F, h, w] bool: each cell is as its middle is.

    Args:
        points, labels: places in the label map and labels, of each frame.
        num_instances: I.
        size: (h, w) of the network's output.
        scale: the label map's size by it.
    """
    height, width = size
    maps = []
    for frame, frame_labels in zip(points, labels, strict=True):
        label_map = frame_labels.new_zeros(height * scale * width * scale)
        label_map[frame.places] = frame_labels
        maps.append(label_map.view(height * scale, width * scale)[scale // 2 :: scale, scale // 2 :: scale])
    label_maps = torch.stack(maps)  # [F, h, w]
    return torch.stack([label_maps == i for i in range(1, num_instances + 1)])


def _with_squared_norm(vectors: Tensor) -> Tensor:
    """[A, P] -> [A + 1, P]."""
    return torch.cat([vectors, vectors.square().sum(dim=0, keepdim=True)])


def _with_softmax(logits: Tensor) -> Tensor:
    """[K, P] -> [2 K, P]."""
    return torch.cat([logits, logits.softmax(dim=0)])
