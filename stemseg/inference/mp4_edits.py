"""Edit lists of MP4 files (ISO/IEC 14496-12, 8.6.6), which hide frames of a video that was trimmed as it is."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_WHOLE = 0.995  # an edit list that shows more leaves out no more than a rounded end
_MAX_MOVIE_BOX = 1 << 26  # bytes


def shown_share(path: Path) -> float:
    """The part of a file's frames, 0 to 1, that its edit list shows; 1 without one, and for files of other formats."""
    movie = _movie_box(path)
    share = 1.0
    with suppress(KeyError, IndexError, struct.error, ZeroDivisionError):  # no such boxes: all frames are shown
        movie_rate = _duration(dict(_boxes(movie))[b"mvhd"])[0]
        for track in (dict(_boxes(box)) for kind, box in _boxes(movie) if kind == b"trak"):
            media = dict(_boxes(track[b"mdia"]))
            if media[b"hdlr"][8:12] != b"vide":
                continue
            rate, duration = _duration(media[b"mdhd"])
            edits = dict(_boxes(track[b"edts"]))[b"elst"]
            layout = ">Qqi" if edits[0] else ">Iii"
            table = edits[8 : 8 + struct.calcsize(layout) * struct.unpack(">I", edits[4:8])[0]]
            shown = sum(length for length, start, _ in struct.iter_unpack(layout, table) if start >= 0)
            share = shown / movie_rate / (duration / rate)
    return share if 0 < share < _WHOLE else 1.0


def _movie_box(path: Path) -> bytes:
    """The box of an MP4 that describes its tracks; empty where there is none."""
    with path.open("rb") as file:
        while len(head := file.read(16)) >= 8:
            size, kind = struct.unpack(">I4s", head[:8])
            if kind == b"moov" and size <= _MAX_MOVIE_BOX:
                return head[8:] + file.read(size - 16)
            size = int.from_bytes(head[8:], "big") if size == 1 else size
            if size < 8 or not kind.isalnum():
                break
            file.seek(size - len(head), 1)
    return b""


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each box in a box of an MP4."""
    start = 0
    while start + 8 <= len(content):
        size, kind = struct.unpack(">I4s", content[start : start + 8])
        if size < 8:
            return
        yield kind, content[start + 8 : start + size]
        start += size


def _duration(box: bytes) -> tuple[int, int]:
    """Ticks a second, and ticks in all, of a header box of an MP4."""
    ticks: tuple[int, int] = struct.unpack(">IQ", box[20:32]) if box[0] else struct.unpack(">II", box[12:20])
    return ticks
