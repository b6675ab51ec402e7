"""A part of a video's frames, as a user names it."""

from __future__ import annotations

from dataclasses import dataclass

from stemseg.utils.errors import ConfigError
from stemseg.utils.text import shorten

_MAX_FRAME = 10**9


@dataclass(frozen=True)
class FrameRange:
    """Frames taken of a video: every ``step``-th of those from ``start`` up to, but not including, ``stop``."""

    start: int = 0
    stop: int | None = None
    step: int = 1

    @property
    def is_whole(self) -> bool:
        """Whether all frames are taken."""
        return self == FrameRange()

    def __str__(self) -> str:
        return f"{self.start}:{'' if self.stop is None else self.stop}:{self.step}"

    def count(self, total: int | None) -> int | None:
        """The number of frames taken of ``total``; None where that is not known."""
        end = self.stop if total is None else total if self.stop is None else min(self.stop, total)
        return None if end is None else len(range(self.start, end, self.step))


def parse_frame_range(text: str, step: int = 1) -> FrameRange:
    """The range that a text means: "100:400", "100:", ":400", or "12" for a single frame.

    Raises:
        ConfigError: where it means none.
    """
    start, separator, stop = text.partition(":")
    try:
        first = int(start) if start else 0
        last = (int(stop) if stop else None) if separator else first + 1
    except ValueError:
        raise ConfigError(f"'{shorten(text, 40)}' is no range of frames; write for example 100:400") from None
    if max(first, last or 0) > _MAX_FRAME:
        raise ConfigError(f"'{shorten(text, 40)}' goes beyond frame {_MAX_FRAME}, expected the numbers of frames")
    if first < 0 or (last is not None and last <= first):
        raise ConfigError(f"'{text}' holds no frames; frames count from 0, and the last one named is left out")
    return FrameRange(first, last, step)
