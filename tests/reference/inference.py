"""Inference of a whole video written plainly: every clip through the whole network, all maps in memory at full size.

Nothing is shared between clips, nothing streams, and no two things happen at once (method.md §8).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from stemseg.config import Config
from stemseg.data.preprocessing import build_preprocessor
from stemseg.modeling.embedding import bandwidth
from stemseg.modeling.network import Network
from stemseg.structures.network_output import NetworkOutput
from tests.reference.clustering import cluster_and_rate, label_ious


class PlainClip(NamedTuple):
    """A clip's frame numbers, how many of the leading ones repeat frame 0, and the network's maps of its T frames.

    ``output`` without the N of its maps: [C, T, h, w].
    """

    frames: list[int]
    num_padding: int
    output: NetworkOutput


class PlainTrack(NamedTuple):
    """A track: its id in the labels, its class, the score of kind "confidence" and that of kind "pixels", its masks.

    ``masks`` [F, height, width] bool, at the video's size.
    """

    label: int
    category: int
    confidence: float
    pixels: float
    masks: np.ndarray


class PlainVideo(NamedTuple):
    """All clips, the track of each pixel of all F frames [F, H, W] (0 background, -1 outlier), and the tracks."""

    clips: list[PlainClip]
    labels: Tensor
    tracks: list[PlainTrack]


class _Points(NamedTuple):
    """Each pixel of a clip: labels [T, H, W] and the probability of its own instance [T, H, W]."""

    labels: Tensor
    posteriors: Tensor


@torch.inference_mode()
def segment_plainly(
    network: Network, cfg: Config, images: Sequence[np.ndarray], *, overlap: int, max_tracks: int
) -> PlainVideo:
    """Segment images [height, width, 3] uint8 of one size by a network in evaluation mode, with its configuration."""
    preprocessor = build_preprocessor(cfg)
    frames = torch.stack([preprocessor(image, 32) for image in images])  # [F, 3, H, W]
    clips = [
        PlainClip(numbers, padding, _without_batch(network(frames[numbers][None])))
        for numbers, padding in clip_frames(len(frames), cfg.INPUT.NUM_FRAMES, overlap)
    ]
    scale = 4 if cfg.INFERENCE.RESIZE_EMBEDDINGS else 1
    scores = _upsample(_mean(clips, cfg, _foreground_maps(cfg, clips)), scale)  # [F, C, H, W]
    clustered = [_cluster(clip, scores[:, 0], cfg, network.free_dim_bandwidths, scale) for clip in clips]
    labels, posteriors = _chain(clips, clustered, cfg, len(frames))
    size = preprocessor.output_size(*images[0].shape[:2])
    maps = _Maps(labels, posteriors, scores[:, 0], _final(clips, scale), _class_means(clips, cfg, scale))
    tracks = [_track(i, maps, cfg, size, images[0].shape[:2], 4 // scale) for i in _longest(labels, max_tracks)]
    return PlainVideo(clips, labels, [track for track in tracks if track.masks.any()])


def clip_frames(num_frames: int, clip_length: int, overlap: int) -> list[tuple[list[int], int]]:
    """Frame numbers of all clips of a video, and how many of the leading ones repeat frame 0."""
    if num_frames < clip_length:
        padding = clip_length - num_frames
        return [([0] * padding + list(range(num_frames)), padding)]
    starts = list(range(0, num_frames - clip_length + 1, clip_length - overlap))
    if starts[-1] + clip_length < num_frames:
        starts.append(num_frames - clip_length)
    return [(list(range(start, start + clip_length)), 0) for start in starts]


class _Maps(NamedTuple):
    """Maps of all F frames at the labels' size: labels, posterior, foreground score and seediness [F, H, W].

    Then the mean class logits [F, K, H, W], None in a class-agnostic model.
    """

    labels: Tensor
    posteriors: Tensor
    scores: Tensor
    seediness: Tensor
    class_logits: Tensor | None


def _without_batch(output: NetworkOutput) -> NetworkOutput:
    return NetworkOutput(*(None if maps is None else maps[0] for maps in output))


def _upsample(maps: Tensor, scale: int) -> Tensor:
    """[F, C, h, w] -> [F, C, scale * h, scale * w]."""
    return maps if scale == 1 else F.interpolate(maps, scale_factor=scale, mode="bilinear", align_corners=False)


def _foreground_maps(cfg: Config, clips: Sequence[PlainClip]) -> list[Tensor]:
    """The maps [C, T, h, w] of each clip whose mean tells the foreground."""
    if not cfg.MODEL.USE_SEMSEG_HEAD:
        return [clip.output.seediness for clip in clips]
    outputs = [clip.output for clip in clips]
    return [o.class_logits if o.foreground_logits is None else o.foreground_logits for o in outputs]


def _mean(clips: Sequence[PlainClip], cfg: Config, maps: Sequence[Tensor]) -> Tensor:
    """Foreground scores of all frames at a quarter of their size, [F, 1, h, w]: above the threshold is an object."""
    means = _average(clips, maps, repeats=cfg.CLUSTERING.STEMSEG_COMPAT and cfg.MODEL.USE_SEMSEG_HEAD)
    if means.shape[1] == 1:
        return means
    return means[:, 1:].logsumexp(dim=1, keepdim=True) - means[:, :1]


def _average(clips: Sequence[PlainClip], maps: Sequence[Tensor], *, repeats: bool) -> Tensor:
    """Means [F, C, h, w] over all clips that cover a frame; of repetitions of frame 0 the last counts, or all do."""
    found: dict[int, list[Tensor]] = {}
    for clip, clip_maps in zip(clips, maps, strict=True):
        for place, frame in enumerate(clip.frames):
            if repeats or place >= clip.num_padding:
                found.setdefault(frame, []).append(clip_maps[:, place])
    return torch.stack([torch.stack(found[frame]).mean(dim=0) for frame in sorted(found)])


def _class_means(clips: Sequence[PlainClip], cfg: Config, scale: int) -> Tensor | None:
    if not cfg.MODEL.USE_SEMSEG_HEAD or cfg.INPUT.NUM_CLASSES <= 2:
        return None
    maps = [clip.output.class_logits for clip in clips]
    return _upsample(_average(clips, maps, repeats=cfg.CLUSTERING.STEMSEG_COMPAT), scale)


def _final(clips: Sequence[PlainClip], scale: int) -> Tensor:
    """The seediness [F, H, W] of each frame in the first clip that covers it."""
    maps: dict[int, Tensor] = {}
    for clip in clips:
        for place in range(clip.num_padding, len(clip.frames)):
            maps.setdefault(clip.frames[place], clip.output.seediness[:, place])
    return _upsample(torch.stack([maps[frame] for frame in sorted(maps)]), scale)[:, 0]


def _cluster(clip: PlainClip, scores: Tensor, cfg: Config, free_bandwidths: Tensor, scale: int) -> _Points:
    """Instances of a clip's T' frames without repetitions, at the labels' size; labels from 1."""
    new = slice(clip.num_padding, None)
    foreground = scores[clip.frames[new]] > (0 if cfg.MODEL.USE_SEMSEG_HEAD else cfg.INFERENCE.SEEDINESS_THRESHOLD)
    raw = (clip.output.embedding, clip.output.raw_bandwidth, clip.output.seediness)
    embeddings, widths, seediness = (
        _upsample(maps[:, new].transpose(0, 1), scale).transpose(0, 1)[:, foreground] for maps in raw
    )
    bandwidths = torch.cat([bandwidth(widths), free_bandwidths[:, None].expand(-1, widths.shape[1])])
    section = cfg.CLUSTERING
    found, own = cluster_and_rate(
        embeddings,
        bandwidths,
        seediness[0],
        min_seediness=section.MIN_SEEDINESS_PROB,
        primary=section.PRIMARY_PROB_THRESHOLD,
        secondary=section.SECONDARY_PROB_THRESHOLD,
        max_instances=section.MAX_INSTANCES,
        compat=section.STEMSEG_COMPAT,
    )
    labels, posteriors = torch.zeros(foreground.shape, dtype=torch.int64), torch.zeros(foreground.shape)
    labels[foreground] = torch.where(found >= 0, found + 1, -1)
    posteriors[foreground] = own
    return _Points(labels, posteriors)


def _chain(
    clips: Sequence[PlainClip], clustered: Sequence[_Points], cfg: Config, num_frames: int
) -> tuple[Tensor, Tensor]:
    """Track ids and posteriors [F, H, W] of all frames; a frame keeps those of the first clip that covers it."""
    size = clustered[0].labels.shape[1:]
    labels, posteriors = torch.zeros((num_frames, *size), dtype=torch.int64), torch.zeros((num_frames, *size))
    covered, num_tracks, tracks_before, labels_before = 0, 0, {}, None
    for clip, points in zip(clips, clustered, strict=True):
        common = covered - clip.frames[0] if labels_before is not None else 0
        matches = {} if not common else _match(labels_before[-common:], points.labels[:common], cfg)
        tracks = {-1: -1, 0: 0}
        for i in range(1, int(points.labels.max()) + 1):
            num_tracks += i not in matches
            tracks[i] = tracks_before[matches[i]] if i in matches else num_tracks
        end = clip.frames[-1] + 1
        labels[covered:end] = points.labels[common:].clone().apply_(lambda label, ids=tracks: ids[label])
        posteriors[covered:end] = points.posteriors[common:]
        covered, tracks_before, labels_before = end, tracks, points.labels
    return labels, posteriors


def _match(previous: Tensor, current: Tensor, cfg: Config) -> dict[int, int]:
    """Label in ``current`` -> the label in ``previous`` that it continues, of those that the common frames show."""
    ious = label_ious(previous, current, max(0, int(previous.max())), max(0, int(current.max())))
    rows, columns = ([i for i in maps.unique().tolist() if i > 0] for maps in (previous, current))
    costs = 1 - np.array([[float(ious[i - 1, j - 1]) for j in columns] for i in rows]).reshape(len(rows), len(columns))
    pairs = [(rows[a], columns[b]) for a, b in zip(*linear_sum_assignment(costs), strict=True)]
    section = cfg.CLUSTERING
    return {j: i for i, j in pairs if section.STEMSEG_COMPAT or ious[i - 1, j - 1] > section.MIN_MATCH_IOU}


def _longest(labels: Tensor, max_tracks: int) -> list[int]:
    """Tracks by the time from their first to their last frame, those found first before others as long."""

    def lifetime(i: int) -> int:
        seen = (labels == i).any(dim=2).any(dim=1).nonzero()
        return int(seen[-1] - seen[0])

    ids = [i for i in labels.unique().tolist() if i > 0]
    return sorted(ids, key=lambda i: (-lifetime(i), i))[:max_tracks]


def _track(
    i: int, maps: _Maps, cfg: Config, network_size: tuple[int, int], video_size: tuple[int, int], stride: int
) -> PlainTrack:
    inside = maps.labels == i  # [F, H, W]
    scores = maps.scores[inside]
    foreground = scores.sigmoid() if cfg.MODEL.USE_SEMSEG_HEAD else scores
    seen = inside.any(dim=2).any(dim=1).nonzero()
    life = float(seen[-1] - seen[0] + 1) / len(inside)
    means = (maps.seediness[inside].mean(), maps.posteriors[inside].mean(), foreground.mean())
    confidence = float(torch.stack(means).prod()) * life ** (1 / 3)
    largest = max(int((maps.labels == j).sum()) for j in maps.labels.unique() if j > 0)
    category = 1
    if maps.class_logits is not None:
        votes = (maps.class_logits * inside[:, None]).sum(dim=(0, 2, 3))  # [K]
        category += int(votes[1:].argmax())
    masks = np.stack([_resize_mask(frame, network_size, video_size, stride) for frame in inside])
    return PlainTrack(i, category, min(1.0, max(0.0, confidence)), int(inside.sum()) / largest, masks)


def _resize_mask(mask: Tensor, network_size: tuple[int, int], video_size: tuple[int, int], stride: int) -> np.ndarray:
    """A mask of the labels' size [H, W] at the video's size, [height, width] bool."""
    large = _upsample(mask[None, None].double(), stride)[..., : network_size[0], : network_size[1]]
    return (F.interpolate(large, video_size, mode="bilinear", align_corners=False)[0, 0] > 0.5 + 1e-6).numpy()
