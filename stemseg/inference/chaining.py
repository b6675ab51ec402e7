"""A video as clips, and the clips' instances as objects of the whole video (method.md §8.1, §8.5; STEm-Seg 3.4).

:class:`ClipSchedule` decides the frames of each clip while the video is still arriving. :class:`Chainer` gives the
instances of the clips track ids; :func:`match_instances` finds which of them are the same objects as instances of the
clip before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from stemseg.utils.errors import ConfigError


class ClipFrames(NamedTuple):
    """The frames of one clip.

    Attributes:
        indices: T frame numbers; a video shorter than a clip repeats its first frame in front.
        num_padding: how many of the leading frames are such repetitions.
    """

    indices: tuple[int, ...]
    num_padding: int = 0

    @property
    def frames(self) -> tuple[int, ...]:
        """The frame numbers without repetitions."""
        return self.indices[self.num_padding :]


class ClipSchedule:
    """Tells, as frames arrive, which clips can run, and which frames no clip will need again.

    Clips start at 0 and then every ``clip_length - overlap`` frames; when the video ends, one more clip is put flush
    with its end.

    Args:
        clip_length: T, frames of a clip.
        overlap: frames that consecutive clips share, 1 to T - 1.

    Raises:
        ConfigError: where the overlap leaves no step forward.
    """

    def __init__(self, clip_length: int, overlap: int) -> None:
        if not 1 <= overlap < clip_length:
            raise ConfigError(
                f"the frame overlap is {overlap}, expected 1 to {clip_length - 1} for clips of {clip_length} frames; "
                "change --frame_overlap or DATA.<DATASET>.INFERENCE_FRAME_OVERLAP"
            )
        self._length = clip_length
        self._stride = clip_length - overlap
        self._num_frames = 0
        self._next_start = 0
        self._ended = False

    @property
    def num_frames(self) -> int:
        """Frames that have arrived."""
        return self._num_frames

    @property
    def first_open_frame(self) -> int:
        """Frames before this one have been through every clip that will ever cover them.

        Their averages are final, and their features are not needed any more.
        """
        if self._ended:
            return self._num_frames
        # A clip flush with the end may start anywhere behind the last clip, but not before its frames fit.
        last_start = self._next_start - self._stride
        return max(0, last_start + 1, self._num_frames - self._length)

    def add(self, num_frames: int) -> list[ClipFrames]:
        """Note that ``num_frames`` more frames are there; the clips that they complete.

        Raises:
            RuntimeError: after :meth:`finish`.
        """
        if self._ended:
            raise RuntimeError("the video has been finished; a new video needs a new schedule, or engine")
        self._num_frames += num_frames
        clips = []
        while self._next_start + self._length <= self._num_frames:
            clips.append(self._clip_at(self._next_start))
            self._next_start += self._stride
        return clips

    def finish(self) -> list[ClipFrames]:
        """Note that the video has ended; the clip that is still missing, if any."""
        if self._ended:
            return []
        self._ended = True
        if 0 < self._num_frames < self._length:
            padding = self._length - self._num_frames
            return [ClipFrames((0,) * padding + tuple(range(self._num_frames)), padding)]
        covered = self._next_start - self._stride + self._length
        if self._num_frames > max(covered, 0):
            return [self._clip_at(self._num_frames - self._length)]
        return []

    def _clip_at(self, start: int) -> ClipFrames:
        return ClipFrames(tuple(range(start, start + self._length)))


class PointLabels(NamedTuple):
    """Labels of one frame's foreground; whatever is not among its P points is background.

    Attributes:
        places: [P] integers, ascending: the points in the flattened label map.
        labels: [P] integers: an instance from 1, or -1 for an outlier.
    """

    places: np.ndarray
    labels: np.ndarray


class ClipLabels(NamedTuple):
    """Labels of a clip's pixels.

    Attributes:
        frames: T ascending frame numbers.
        size: (H, W) of the label maps.
        points: of each of the T frames; a frame has the same points in every clip that covers it.
        num_instances: I, the highest instance that the points may hold.
    """

    frames: Sequence[int]
    size: tuple[int, int]
    points: Sequence[PointLabels]
    num_instances: int


class ChainedClip(NamedTuple):
    """The part of a clip that is new to the tracks of a video.

    Attributes:
        frames: the F frames that no earlier clip covered.
        size: (H, W) of the label maps.
        points: of each of these frames, with the clip's own labels.
        track_ids: track of instance 1, 2, ... I.
        link_ious: IoU of each with the instance of the clip before that it continues; None where it begins a track.
    """

    frames: Sequence[int]
    size: tuple[int, int]
    points: Sequence[PointLabels]
    track_ids: list[int]
    link_ious: Sequence[float | None] = ()


class Match(NamedTuple):
    """The instance of the clip before that an instance is: its label there, and their IoU in the common frames."""

    label: int
    iou: float


class Chainer:
    """Gives the instances of each clip the track ids of the previous clip's instances that they overlap with.

    A frame keeps the labels of the first clip that covered it. Only the previous clip is remembered.

    Args:
        min_iou: instances whose IoU in the common frames is not above this do not match.
        compat: match instances without any common pixel too, as the published code did.
    """

    def __init__(self, *, min_iou: float = 0.0, compat: bool = False) -> None:
        self._min_iou = min_iou
        self._compat = compat
        self._previous: ClipLabels | None = None
        self._previous_ids: list[int] = []
        self._num_tracks = 0

    def add(self, clip: ClipLabels) -> ChainedClip:
        """Chain the next clip of the video; its frames must reach behind those of the clip before."""
        num_common, matches = 0, {}
        if self._previous is not None:
            num_common = max(0, self._previous.frames[-1] - clip.frames[0] + 1)
            matches = self._match(self._previous, clip, num_common) if num_common else {}
        numbers = range(1, clip.num_instances + 1)
        track_ids = [self._previous_ids[matches[i].label - 1] if i in matches else self._new_track() for i in numbers]
        link_ious = [matches[i].iou if i in matches else None for i in numbers]
        self._previous, self._previous_ids = clip, track_ids
        new = clip.points[num_common:]
        return ChainedClip(clip.frames[num_common:], clip.size, new, track_ids, link_ious)

    def _match(self, previous: ClipLabels, clip: ClipLabels, num_common: int) -> dict[int, Match]:
        labels = (_join(previous.points[-num_common:]), _join(clip.points[:num_common]))
        return match_instances(
            *labels, previous.num_instances, clip.num_instances, min_iou=self._min_iou, compat=self._compat
        )

    def _new_track(self) -> int:
        self._num_tracks += 1
        return self._num_tracks


def match_instances(
    previous: np.ndarray,
    current: np.ndarray,
    num_previous: int,
    num_current: int,
    *,
    min_iou: float = 0.0,
    compat: bool = False,
) -> dict[int, Match]:
    """Match two labelings of the same pixels by the IoU of their instances (Hungarian assignment).

    Args:
        previous, current: integer labels of one shape: instances from 1, 0 background, -1 outlier.
        num_previous, num_current: the highest label that each can hold.
        min_iou: a pair whose IoU is not above this is no match.
        compat: also accept pairs without any common pixel, as the published code did.

    Returns:
        label in ``current`` -> label in ``previous`` and their IoU, for matched instances only.
    """
    histogram = _joint_histogram(previous, current, num_previous, num_current)
    ious = label_ious(histogram)
    # an instance that is not seen in these pixels has nothing to be matched by
    rows, columns = np.flatnonzero(histogram.sum(1)[2:]), np.flatnonzero(histogram.sum(0)[2:])
    pairs = zip(*linear_sum_assignment(1.0 - ious[np.ix_(rows, columns)]), strict=True)
    matches = {int(columns[j]): int(rows[i]) for i, j in pairs}
    found = {j + 1: Match(i + 1, float(ious[i, j])) for j, i in matches.items()}
    return {label: match for label, match in found.items() if compat or match.iou > min_iou}


def label_ious(histogram: np.ndarray) -> np.ndarray:
    """IoU of every pair of instances, [num_previous, num_current], from the joint histogram of their labels.

    ``histogram`` [num_previous + 2, num_current + 2] counts pixels by label; outliers and background come first.
    """
    intersection = histogram[2:, 2:].astype(np.float64)
    union = histogram.sum(1)[2:, None] + histogram.sum(0)[None, 2:] - intersection
    return intersection / np.maximum(union, 1)


def _joint_histogram(previous: np.ndarray, current: np.ndarray, num_previous: int, num_current: int) -> np.ndarray:
    width = num_current + 2
    joint = (previous.ravel().astype(np.intp) + 1) * width + (current.ravel() + 1)  # [P]
    return np.bincount(joint, minlength=(num_previous + 2) * width).reshape(num_previous + 2, width)


def _join(points: Sequence[PointLabels]) -> np.ndarray:
    """Labels of several frames' points, one after another."""
    return np.concatenate([frame.labels for frame in points])
