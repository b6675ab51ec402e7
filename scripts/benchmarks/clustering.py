"""Speed of clustering and chaining, without the network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from scripts.benchmarks.clips import MapSize, disc_masks, trained_maps
from scripts.benchmarks.timing import best_seconds
from stemseg.evaluation.report import MetricTable
from stemseg.inference.chaining import Chainer, ClipLabels, PointLabels
from stemseg.inference.clustering import ClipMaps, ClipPoints, SequentialClustering, gather_points
from stemseg.inference.semantics import FramePoints, foreground_places
from stemseg.structures.embedding_dims import parse_dim_mode
from tests import reference
from tests.helpers.label_maps import track_maps

_THRESHOLDS = {"min_seediness": 0.8, "primary": 0.5, "secondary": 0.3}


def benchmark_clustering(
    size: MapSize,
    *,
    num_instances: int,
    num_clips: int,
    overlap: int,
    dim_mode: str,
    repeats: int,
    device: torch.device,
) -> MetricTable:
    """Milliseconds of a clip, and frames of the video per second: a clip brings its length minus the overlap.

    Both ways get the clip's maps and its foreground; the points are gathered within the measured time.
    """
    clips = make_video(size, num_instances, num_clips, overlap, dim_mode, device)
    calls = {"ours": partial(label_video, clips), "naive": partial(label_video_naively, clips)}
    seconds = best_seconds(calls, repeats=repeats, device=device)
    fresh = size.num_frames - overlap
    rows = {
        name: (1000 * total / num_clips, num_clips * fresh / total, seconds["naive"] / total)
        for name, total in seconds.items()
    }
    return MetricTable("clustering + chaining", ("ms / clip", "frames / s", "speed-up"), rows, decimals=1)


def make_video(
    size: MapSize, num_instances: int, num_clips: int, overlap: int, dim_mode: str, device: torch.device
) -> list[tuple[ClipMaps, Tensor, Tensor]]:
    """Clips of one video: maps, foreground [T, h, w] and bandwidths of the free dimensions.

    The foreground is the discs and a tenth of all other pixels, which no instance should take.
    """
    dims = parse_dim_mode(dim_mode)
    generator = torch.Generator().manual_seed(0)
    free_bandwidths = torch.full((dims.num_free,), 1 / 0.3**2, device=device)
    clips = []
    for start in range(0, num_clips * (size.num_frames - overlap), size.num_frames - overlap):
        masks = disc_masks(size, num_instances, start=start)
        maps = trained_maps(dims, masks, generator).to(device)
        frames = range(start, start + size.num_frames)
        noise = torch.stack([_noise(frame, size) for frame in frames])  # the same in every clip that covers the frame
        foreground = masks.bool().any(dim=0) | (noise < 0.1)
        clips.append((ClipMaps(frames, maps, dims.size), foreground.to(device), free_bandwidths))
    return clips


def _noise(frame: int, size: MapSize) -> Tensor:
    return torch.rand((size.height, size.width), generator=torch.Generator().manual_seed(frame))


def label_video(clips: Sequence[tuple[ClipMaps, Tensor, Tensor]]) -> list[Tensor]:
    """Cluster and chain as the engine does: the track ids of each clip's new frames, [F, h, w]."""
    chainer, results = Chainer(), []
    for maps, foreground, free_bandwidths in clips:
        places = foreground_places(foreground)
        size = (foreground.shape[-2], foreground.shape[-1])
        labels = _cluster(gather_points(maps, [FramePoints(p, size) for p in places], free_bandwidths))
        labels = (labels + (labels >= 0)).int()
        frames = labels.split([len(frame) for frame in places])
        points = [PointLabels(p.cpu().numpy(), x.cpu().numpy()) for p, x in zip(places, frames, strict=True)]
        chained = chainer.add(ClipLabels(maps.frames, size, points, int(labels.max())))
        results.append(track_maps(chained))
    return results


def label_video_naively(clips: Sequence[tuple[ClipMaps, Tensor, Tensor]]) -> list[Tensor]:
    """Cluster and chain by the plain implementations, for the same result as :func:`label_video`."""
    previous: tuple[range, Tensor, dict[int, int]] | None = None
    num_tracks, results = 0, []
    for maps, foreground, free_bandwidths in clips:
        size = (foreground.shape[-2], foreground.shape[-1])
        frames = [FramePoints(places, size) for places in foreground_places(foreground)]
        points = gather_points(maps, frames, free_bandwidths)
        point_labels = reference.cluster(*points, **_THRESHOLDS)
        labels = _as_maps(point_labels, foreground)
        common = 0 if previous is None else previous[0][-1] - maps.frames[0] + 1
        matches = reference.match(previous[1][-common:], labels[:common]) if common else {}
        tracks = {}
        for i in range(1, int(labels.max()) + 1):
            if i in matches:
                tracks[i] = previous[2][matches[i]]
            else:
                num_tracks += 1
                tracks[i] = num_tracks
        previous = maps.frames, labels, tracks
        results.append(_with_tracks(labels[common:], list(tracks.values())))
    return results


def _cluster(points: ClipPoints) -> Tensor:
    clustering = SequentialClustering(
        min_seediness=_THRESHOLDS["min_seediness"],
        primary_threshold=_THRESHOLDS["primary"],
        secondary_threshold=_THRESHOLDS["secondary"],
        max_instances=20,
    )
    return clustering(*points).labels


def _as_maps(point_labels: Tensor, foreground: Tensor) -> Tensor:
    labels = torch.zeros(foreground.shape, dtype=torch.int32, device=foreground.device)
    labels[foreground] = (point_labels + (point_labels >= 0)).int()
    return labels


def _with_tracks(labels: Tensor, track_ids: Sequence[int]) -> Tensor:
    return torch.tensor([-1, 0, *track_ids], device=labels.device)[labels.long() + 1]
