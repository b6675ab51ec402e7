"""The result of segmenting one video: what inference hands to writers, pictures and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class TrackStatistics:
    """Values that tell good tracks from bad ones; scores are made of them. None where a value is not defined.

    Attributes:
        pixels: in all frames, at the label maps' scale.
        share: of the video's pixels.
        life: frames from its first to its last, as a share of the video.
        seen: share of these frames that it has pixels in.
        seediness, posterior, foreground: means over its pixels: seediness, probability p under the instance of its clip
            (8.1), probability of belonging to any object.
        seed_mean, seed_min: seediness at its seeds, one in each clip.
        link_mean, link_min: IoU where the instances of two clips were joined; None in a track of one clip.
        class_probability: mean probability of its class over its pixels; None in a class-agnostic model.
        appearance_variance: of the appearance embedding over its pixels: mean square distance from its mean; None
            without an appearance embedding.
        appearance_likelihood: log p(A | masks of the tracks) of the flow at its places, per dimension, mean over its
            clips; None unless INFERENCE.RATE_APPEARANCE asks for it.
    """

    pixels: int
    share: float
    life: float
    seen: float
    seediness: float
    posterior: float
    foreground: float
    seed_mean: float | None = None
    seed_min: float | None = None
    link_mean: float | None = None
    link_min: float | None = None
    class_probability: float | None = None
    appearance_variance: float | None = None
    appearance_likelihood: float | None = None


@dataclass(frozen=True)
class Track:
    """One object through a video.

    Attributes:
        track_id: number of the track, from 1, in the order of ranking.
        category_id: category in the dataset's ids; 1 where the model is class-agnostic.
        score: confidence in [0, 1].
        segmentations: compressed RLE counts at the video's original size, or None, one entry per frame.
        statistics: what the score was made of; None where nobody knows.
    """

    track_id: int
    category_id: int
    score: float
    segmentations: list[str | None]
    statistics: TrackStatistics | None = None


@dataclass(frozen=True)
class VideoTracks:
    """All tracks of one video, best ranked first.

    Attributes:
        sequence_id: the sequence's id as it stands in the annotation file, or the stem of a user's own video.
        height, width: original image size in pixels.
        num_frames: length of the video.
        frame_names: name of each frame without extension ("00000"), one per frame.
        tracks: ranked tracks; may be empty.
    """

    sequence_id: str | int
    height: int
    width: int
    num_frames: int
    frame_names: list[str]
    tracks: list[Track] = field(default_factory=list)


def unique_frame_names(names: Sequence[str]) -> list[str]:
    """The names of a video's frames, or their numbers ("00000") where frames of different folders share a name."""
    return list(names) if len(set(names)) == len(names) else [f"{frame:05d}" for frame in range(len(names))]
