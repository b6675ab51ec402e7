"""The tracks of one video: while they grow, and as its result (method.md §8.6).

:class:`TrackStore` keeps compressed label maps, and for each track the record that ranking, voting and scores need;
:func:`collect_tracks` turns them into ranked tracks with categories, scores and masks, which a :class:`MaskResizer`
brings from the label maps' scale to the video's size.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
import torch
from scipy.ndimage import find_objects
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn import functional as F

from stemseg.inference.chaining import ChainedClip, PointLabels
from stemseg.inference.track_scores import PIXELS, ClipRatings, TrackRecord, measure_track, rank_tracks, score_tracks
from stemseg.structures.rle import encode_rle_part
from stemseg.structures.tracks import Track, TrackStatistics, VideoTracks

# Labels are a partition and bilinear weights sum to 1, so two masks can't both exceed one half; the margin keeps
# rounding from letting both sides of an exact tie in.
_HALF = np.float32(0.5 + 1e-6)


class _CompressedLabels(NamedTuple):
    data: bytes
    dtype: np.dtype


@dataclass
class TrackStore:
    """Label maps of a video's frames in order, and the record of each track. Memory per frame: one compressed map.

    Attributes:
        label_stride: pixels of the network's input per pixel of a label map.
        size: (H, W) of the label maps, padding included; None before the first frame.
        records: by track id, from 1.
    """

    label_stride: int
    size: tuple[int, int] | None = None
    records: dict[int, TrackRecord] = field(default_factory=dict)
    _frames: list[_CompressedLabels] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def num_bytes(self) -> int:
        """Size of the compressed label maps."""
        return sum(len(frame.data) for frame in self._frames)

    def add(self, clip: ChainedClip, class_votes: Tensor | None = None, ratings: ClipRatings | None = None) -> None:
        """Take in the frames that a clip adds; they must follow the frames that are there.

        Args:
            clip: the labels of its new frames, and the track of each of its I instances.
            class_votes: [I, K], class logits summed over each instance's pixels in these frames.
            ratings: what the network says of these instances.
        """
        self.size = clip.size
        self._add_records(clip, None if class_votes is None else _as_array(class_votes))
        if ratings is not None:
            self._add_ratings(clip, ratings)
        table = np.array([-1, 0, *clip.track_ids], dtype=np.int32)
        for points in clip.points:
            self._frames.append(_compress(points.places, table[points.labels + 1], clip.size))

    def measure(self, track_ids: Sequence[int]) -> dict[int, TrackStatistics]:
        """The statistics of some tracks, in the video so far."""
        area = self.size[0] * self.size[1] if self.size else 1
        return {i: measure_track(self.records[i], num_frames=len(self), area=area) for i in track_ids}

    def labels(self, frame: int) -> np.ndarray:
        """Label map of a frame, [H, W]: track ids, 0 background, -1 outlier."""
        compressed = self._frames[frame]
        return np.frombuffer(zlib.decompress(compressed.data), dtype=compressed.dtype).reshape(self.size)

    def forget(self, frame: int) -> None:
        """Drop the label map of a frame, which can't be asked for any more."""
        self._frames[frame] = _CompressedLabels(b"", self._frames[frame].dtype)

    def _add_records(self, clip: ChainedClip, class_votes: np.ndarray | None) -> None:
        counts = np.stack([_count_pixels(points, len(clip.track_ids)) for points in clip.points])  # [F, I]
        for i, track_id in enumerate(clip.track_ids):
            visible = np.flatnonzero(counts[:, i])
            if not visible.size:
                continue
            first, last = clip.frames[visible[0]], clip.frames[visible[-1]]
            record = self.records.setdefault(track_id, TrackRecord(first, last))
            record.last_frame = last
            record.num_pixels += int(counts[:, i].sum())
            record.num_seen += len(visible)
            record.add_sums(class_logits=None if class_votes is None else class_votes[i])

    def _add_ratings(self, clip: ChainedClip, ratings: ClipRatings) -> None:
        arrays = {name: _as_array(values) for name, values in ratings._asdict().items() if values is not None}
        seeds, fits = arrays.pop("seeds"), arrays.pop("appearance_fits", None)
        for i, (track_id, iou) in enumerate(zip(clip.track_ids, clip.link_ious, strict=True)):
            if (record := self.records.get(track_id)) is None:
                continue
            record.add_sums(**{name: sums[i] for name, sums in arrays.items()})
            record.seeds.add(float(seeds[i]))
            if fits is not None and np.isfinite(fits[i]):
                record.appearance_fits.add(float(fits[i]))
            if iou is not None:
                record.links.add(iou)


def _as_array(values: Tensor) -> np.ndarray:
    return values.cpu().double().numpy()


def _count_pixels(points: PointLabels, num_instances: int) -> np.ndarray:
    """Pixels of each instance in a frame, [I]."""
    return np.bincount(points.labels + 1, minlength=num_instances + 2)[2:]


def _compress(places: np.ndarray, labels: np.ndarray, size: tuple[int, int]) -> _CompressedLabels:
    """The label map [H, W] of a frame's points [P]; in bytes, as long as it has fewer than 128 labels."""
    highest = labels.max(initial=0)
    dtype = next(np.dtype(t) for t in (np.int8, np.int16, np.int32) if highest <= np.iinfo(t).max)
    label_map = np.zeros(size, dtype)
    label_map.ravel()[places] = labels
    return _CompressedLabels(zlib.compress(label_map.data, 1), dtype)


def collect_tracks(
    store: TrackStore,
    *,
    sequence_id: str | int,
    frame_names: Sequence[str],
    video_size: tuple[int, int],
    network_size: tuple[int, int],
    max_tracks: int,
    score: str = PIXELS,
) -> VideoTracks:
    """The result of a video at its original size. Tracks without a single mask pixel at that size are left out.

    Args:
        store: label maps of all frames.
        sequence_id: the video's id, kept as it is.
        frame_names: name of each frame.
        video_size, network_size: (height, width) of the video and of the network's input without padding.
        max_tracks: tracks kept, longest-lived first.
        score: see :func:`stemseg.inference.track_scores.score_tracks`.
    """
    kept = rank_tracks(store.records, max_tracks)
    segmentations: dict[int, list[str | None]] = {track_id: [None] * len(store) for track_id in kept}
    if kept and store.size is not None:
        resizer = MaskResizer(
            label_size=store.size, label_stride=store.label_stride, network_size=network_size, video_size=video_size
        )
        for frame in range(len(store)):
            for track_id, counts in resizer.encode(store.labels(frame), kept).items():
                segmentations[track_id][frame] = counts
    return VideoTracks(
        sequence_id=sequence_id,
        height=video_size[0],
        width=video_size[1],
        num_frames=len(store),
        frame_names=list(frame_names),
        tracks=_build_tracks(store, segmentations, score),
    )


def _build_tracks(store: TrackStore, segmentations: Mapping[int, list[str | None]], score: str) -> list[Track]:
    """Tracks in the order of ``segmentations``, numbered from 1."""
    statistics = store.measure(list(segmentations))
    scores = score_tracks(statistics, score)
    visible = {track_id: masks for track_id, masks in segmentations.items() if any(masks)}
    return [
        Track(number, store.records[track_id].category, scores[track_id], masks, statistics[track_id])
        for number, (track_id, masks) in enumerate(visible.items(), start=1)
    ]


class MaskResizer:
    """Upsamples the mask of a label to the network's input, cuts the padding off and resizes it to the video's size.

    All three steps are linear and separable, so each axis has one sparse matrix (two or three entries a row), and a
    mask costs two products over the rectangle around it: nothing is made at full size but the result.

    Args:
        label_size: (H, W) of label maps.
        label_stride: pixels of the network's input per pixel of a label map: 4, or 1 with upsampled embeddings.
        network_size: (height, width) of the network's input without padding.
        video_size: (height, width) of the video.
    """

    def __init__(
        self,
        *,
        label_size: tuple[int, int],
        label_stride: int,
        network_size: tuple[int, int],
        video_size: tuple[int, int],
    ) -> None:
        self.video_size = video_size
        self._rows, self._columns = (
            _axis_matrix(*lengths, label_stride) for lengths in zip(label_size, network_size, video_size, strict=True)
        )

    def boxes(self, labels: np.ndarray) -> dict[int, tuple[slice, slice]]:
        """The rows and columns around each label from 1 that a label map [H, W] holds, in one pass over it."""
        return {i: box for i, box in enumerate(find_objects(labels), start=1) if box is not None}

    def resize(self, labels: np.ndarray) -> dict[int, np.ndarray]:
        """Binary masks [height, width] uint8 of all labels from 1 in a label map [H, W], at the video's size."""
        masks = {}
        for label, box in self.boxes(labels).items():
            part, top, left = self.resize_box(labels, label, box)
            masks[label] = np.zeros(self.video_size, dtype=np.uint8)
            masks[label][top : top + part.shape[0], left : left + part.shape[1]] = part
        return masks

    def resize_box(self, labels: np.ndarray, label: int, box: tuple[slice, slice]) -> tuple[np.ndarray, int, int]:
        """The mask of a label, given its box in the label map, but only a rectangle that holds all of it.

        Returns:
            [h, w] bool, and its top and left in the video's frame. It lies column by column in memory, as run-length
            encoding wants it.
        """
        inside = (labels[box] == label).astype(np.float32)
        rows, columns = self._rows[:, box[0]], self._columns[:, box[1]]
        y0, y1 = _extent(rows.sum(axis=1) > _HALF)
        x0, x1 = _extent(columns.sum(axis=1) > _HALF)
        if y0 == y1 or x0 == x1:  # in the padding
            return np.zeros((0, 0), dtype=bool), y0, x0
        tall = rows[y0:y1] @ inside  # [h, columns of the box]
        return (columns[x0:x1] @ cv2.transpose(tall) > _HALF).T, y0, x0

    def encode(self, labels: np.ndarray, wanted: Collection[int]) -> dict[int, str]:
        """Compressed RLE counts of each wanted label that has pixels in the result."""
        boxes = self.boxes(labels)
        parts = {label: self.resize_box(labels, label, boxes[label]) for label in wanted if label in boxes}
        return {label: encode_rle_part(*part, self.video_size) for label, part in parts.items() if part[0].any()}


def _axis_matrix(label_length: int, network_length: int, video_length: int, stride: int) -> csr_array:
    """[video, label] float32: how each pixel of the video mixes pixels of the label map, along one axis."""
    identity = torch.eye(label_length, dtype=torch.float64)[None]  # [1, label, label]
    upsampled = F.interpolate(identity, size=label_length * stride, mode="linear", align_corners=False)
    cut = upsampled[..., :network_length]  # [1, label, network]
    resized = F.interpolate(cut, size=video_length, mode="linear", align_corners=False)  # [1, label, video]
    return csr_array(resized[0].T.numpy().astype(np.float32))


def _extent(flags: np.ndarray) -> tuple[int, int]:
    """First set position and one behind the last; an empty range where none is set."""
    positions = np.flatnonzero(flags)
    return (int(positions[0]), int(positions[-1]) + 1) if positions.size else (0, 0)
