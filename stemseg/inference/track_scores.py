"""The record of each track while it grows, what it says of the track, and tracks' order and scores (method.md §8.6).

Everything is a sum, a count or a minimum, so that it is gathered in one pass over the video and takes no memory that
grows with it. docs/track_scores.md says how well the values tell good tracks from bad ones, and how the score by
confidence was chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stemseg.config import Config
from stemseg.inference.clustering import ClipPoints, Clusters, posteriors
from stemseg.structures.tracks import TrackStatistics

PIXELS, CONFIDENCE = "pixels", "confidence"  # values of INFERENCE.TRACK_SCORE, beside "auto"
# by default, tracks of less are not drawn: slivers along an object's rim, parts of the scene
_FAINT = {PIXELS: 0.05, CONFIDENCE: 0.2}


class ClipRatings(NamedTuple):
    """Sums of the network's verdicts on each of the I instances of a clip.

    Attributes:
        pixel_sums: [I, 3], seediness, posterior p and foreground probability, each summed over the instance's pixels in
            the frames that the clip adds.
        seeds: [I], the highest seediness of the instance's pixels in all frames of the clip: that of its seed.
        class_sums: [I, K], class probabilities, summed like ``pixel_sums``; None in a class-agnostic model.
        appearance_sums: [I, A + 1], the appearance embedding and its squared norm, summed likewise; None without one.
        appearance_fits: [I], log p(A | masks) of the flow per dimension, in the frames that the clip adds; NaN for too
            small an instance; None where nobody asks.
    """

    pixel_sums: Tensor
    seeds: Tensor
    class_sums: Tensor | None = None
    appearance_sums: Tensor | None = None
    appearance_fits: Tensor | None = None


def rate_instances(points: ClipPoints, clusters: Clusters, foreground: Tensor, num_new: int) -> ClipRatings:
    """Rate the instances of a clip by their points.

    Args:
        points: all P of the clip, ordered by frame.
        clusters: the instances among them.
        foreground: [P], the probability of belonging to any object.
        num_new: points in the frames that the clip adds, which are its last ones.
    """
    bins, width = clusters.labels + 1, clusters.num_instances + 1  # outliers in the first
    seeds = torch.zeros(width, device=bins.device).scatter_reduce_(0, bins, points.seediness.float(), "amax")
    new = slice(len(bins) - num_new, None)
    members = clusters._replace(labels=clusters.labels[new])
    new_points = ClipPoints(points.embeddings[:, new], points.bandwidths[:, new], points.seediness[new])
    values = (new_points.seediness, posteriors(new_points, members), foreground[new])
    dtype = torch.float32 if bins.device.type == "mps" else torch.float64  # a million values of almost the same size
    sums = torch.zeros(3, width, dtype=dtype, device=bins.device)
    for row, value in zip(sums, values, strict=True):
        row.index_add_(0, bins[new], value.to(dtype))
    return ClipRatings(sums[:, 1:].T, seeds[1:])


@dataclass
class RunningValue:
    """The mean and the minimum of values that come one by one; None without any."""

    count: int = 0
    total: float = 0.0
    minimum: float | None = None

    def add(self, value: float) -> None:
        """Take in one more."""
        self.minimum = value if self.minimum is None else min(self.minimum, value)
        self.count += 1
        self.total += value

    @property
    def mean(self) -> float | None:
        """The mean so far."""
        return self.total / self.count if self.count else None


@dataclass
class TrackRecord:
    """The record of one track.

    Attributes:
        first_frame, last_frame: the first and the last frame that it has pixels in.
        num_pixels: pixels in all frames, at the label maps' scale.
        num_seen: frames that it has pixels in.
        class_logits: [K] summed over its pixels; None in a class-agnostic model.
        pixel_sums, class_sums, appearance_sums: of :class:`ClipRatings`, over all clips.
        seeds: seediness at its seeds, one a clip.
        links: IoU where two clips' instances were joined.
        appearance_fits: log p(A | masks), one a clip.
    """

    first_frame: int
    last_frame: int
    num_pixels: int = 0
    num_seen: int = 0
    class_logits: np.ndarray | None = None
    pixel_sums: np.ndarray = field(default_factory=lambda: np.zeros(3))
    class_sums: np.ndarray | None = None
    appearance_sums: np.ndarray | None = None
    seeds: RunningValue = field(default_factory=RunningValue)
    links: RunningValue = field(default_factory=RunningValue)
    appearance_fits: RunningValue = field(default_factory=RunningValue)

    @property
    def lifetime(self) -> int:
        """Frames from its first to its last, that is last - first."""
        return self.last_frame - self.first_frame

    @property
    def category(self) -> int:
        """The most voted class other than the background (class 0); 1 in a class-agnostic model."""
        return 1 if self.class_logits is None else 1 + int(self.class_logits[1:].argmax())

    def add_sums(self, **sums: np.ndarray | None) -> None:
        """Add to the sums of these names; None adds nothing."""
        for name, values in sums.items():
            if values is not None:
                known = getattr(self, name)
                setattr(self, name, values if known is None else known + values)


def measure_track(record: TrackRecord, *, num_frames: int, area: int) -> TrackStatistics:
    """The statistics of a track.

    Args:
        num_frames: of the video, or of the part that has been seen.
        area: pixels of a label map.
    """
    num_pixels, life = max(record.num_pixels, 1), record.lifetime + 1
    seediness, posterior, foreground = (record.pixel_sums / num_pixels).tolist()
    return TrackStatistics(
        pixels=record.num_pixels,
        share=record.num_pixels / (num_frames * area),
        life=life / num_frames,
        seen=record.num_seen / life,
        seediness=seediness,
        posterior=posterior,
        foreground=foreground,
        seed_mean=record.seeds.mean,
        seed_min=record.seeds.minimum,
        link_mean=record.links.mean,
        link_min=record.links.minimum,
        class_probability=None if record.class_sums is None else float(record.class_sums[record.category]) / num_pixels,
        appearance_variance=_variance(record.appearance_sums, num_pixels),
        appearance_likelihood=record.appearance_fits.mean,
    )


def _variance(sums: np.ndarray | None, count: int) -> float | None:
    """Mean square distance from the mean, of ``count`` vectors: sums [A + 1] of the vectors and their squared norms."""
    if sums is None:
        return None
    means = sums / count
    return max(0.0, float(means[-1] - np.square(means[:-1]).sum()))


def rank_tracks(records: Mapping[int, TrackRecord], max_tracks: int) -> list[int]:
    """Ids of the longest-lived tracks, longest first; among equals the one that was found first."""
    return sorted(records, key=lambda track_id: (-records[track_id].lifetime, track_id))[:max_tracks]


def score_tracks(statistics: Mapping[int, TrackStatistics], kind: str) -> dict[int, float]:
    """The score of each of a video's tracks, in [0, 1].

    Args:
        kind: "pixels": pixels in all frames, relative to the track with most, as published. "confidence": see
            :func:`confidence`; comparable between videos, which the average precision needs.
    """
    if kind == CONFIDENCE:
        return {track_id: confidence(values) for track_id, values in statistics.items()}
    largest = max((values.pixels for values in statistics.values()), default=1)
    return {track_id: values.pixels / largest for track_id, values in statistics.items()}


def confidence(track: TrackStatistics) -> float:
    """The confidence: the product of the means of seediness, posterior and foreground, lowered for short lives.

    The four say that the pixels lie near a center of the embedding, near their *own* center, on an object, and that the
    clips agree; a track needs all of them. Comparable between videos; roughly the IoU to expect of good tracks.
    """
    return min(1.0, max(0.0, track.seediness * track.posterior * track.foreground) * track.life ** (1 / 3))


def score_kind(cfg: Config) -> str:
    """The kind of scores that ``INFERENCE.TRACK_SCORE`` asks for; "auto" means "pixels" in compatibility mode alone."""
    if cfg.INFERENCE.TRACK_SCORE == "auto":
        return PIXELS if cfg.CLUSTERING.STEMSEG_COMPAT else CONFIDENCE
    return cfg.INFERENCE.TRACK_SCORE


def drawing_threshold(cfg: Config, section: str) -> float:
    """The score below which tracks are not drawn unless the user says otherwise; results may leave out more.

    Args:
        section: of DATA, which says what results leave out.
    """
    return max(_FAINT[score_kind(cfg)], cfg.DATA[section].MIN_TRACK_SCORE)
