"""The frames of each clip, decided while the video is still arriving (method.md §8.1)."""

from __future__ import annotations

from typing import NamedTuple

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
