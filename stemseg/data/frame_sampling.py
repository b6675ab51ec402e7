"""The choice of a training clip's frames (method.md §10). Frames are indices; nothing is loaded here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stemseg.utils.errors import DataError


class FrameGap(NamedTuple):
    """The distance of a clip's first and last frame, in frames, both ends included."""

    lower: int
    upper: int


class Segment(NamedTuple):
    """A part of a sequence that clips are drawn from.

    Attributes:
        sequence: index of the sequence in its dataset.
        frames: indices of the usable frames, ascending.
    """

    sequence: int
    frames: tuple[int, ...]


def frames_with_instances(occupied: Sequence[bool]) -> list[tuple[int, ...]]:
    """One run with the frames that show an instance; frames without one are left out."""
    kept = tuple(t for t, visible in enumerate(occupied) if visible)
    return [kept] if kept else []


def split_at_empty_stretches(occupied: Sequence[bool], stretch: int = 6) -> list[tuple[int, ...]]:
    """Runs of frames between stretches of ``stretch`` or more frames without instances (the KITTI-MOTS rule).

    Shorter stretches stay inside a run, so that its frames follow each other as they were taken; a run begins and ends
    with a frame that shows an instance.
    """
    kept = [t for t, visible in enumerate(occupied) if visible]
    runs: list[tuple[int, ...]] = []
    start = 0
    for i in range(1, len(kept) + 1):
        if i == len(kept) or kept[i] - kept[i - 1] > stretch:
            runs.append(tuple(range(kept[start], kept[i - 1] + 1)))
            start = i
    return runs


def sample_frames(length: int, num_frames: int, gap: FrameGap, rng: np.random.Generator) -> np.ndarray:
    """Draw the frames of a clip from a run of ``length`` frames, (10.1).

    The span is uniform in ``gap`` (cut to length - 1), the start uniform; frames are evenly spaced and rounded, so that
    a span shorter than T - 1 repeats frames.

    Returns:
        [T] ascending indices into the run.
    """
    upper = min(gap.upper, length - 1)
    span = int(rng.integers(min(gap.lower, upper), upper + 1))
    start = int(rng.integers(0, length - span))
    return np.round(np.linspace(start, start + span, num_frames)).astype(int)


class SegmentSampler:
    """Draws segments in proportion to their length, leaving out those of at most ``gap.lower`` + 1 frames.

    Raises:
        DataError: where no segment is long enough.
    """

    def __init__(self, segments: Sequence[Segment], gap: FrameGap, *, where: str) -> None:
        self.segments = [s for s in segments if len(s.frames) > gap.lower + 1]
        if not self.segments:
            longest = max((len(s.frames) for s in segments), default=0)
            lower = f"lower the dataset's FRAME_GAP_LOWER to {longest - 2} or less, or " if longest > 2 else ""
            raise DataError(
                f"{where}: no sequence has more than {gap.lower + 1} frames with instances (FRAME_GAP_LOWER + 1); the "
                f"longest of {len(segments)} has {longest}; {lower}check that it holds instances of the categories "
                "that are trained"
            )
        self._ends = np.cumsum([len(s.frames) for s in self.segments])

    def __len__(self) -> int:
        """Number of usable frames in all segments."""
        return int(self._ends[-1])

    def draw(self, rng: np.random.Generator) -> Segment:
        """A segment, a longer one more likely."""
        return self.segments[int(np.searchsorted(self._ends, rng.integers(self._ends[-1]), side="right"))]
