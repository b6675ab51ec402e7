"""Edit lists: the share that they show, and files that have none or are no MP4 at all."""

import struct
from pathlib import Path

import numpy as np
import pytest

from stemseg.inference.mp4_edits import shown_share
from stemseg.utils.drawing import VideoWriter


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "video.mp4"
    with VideoWriter(path, fps=10) as writer:
        for value in range(20):
            writer.write(np.full((32, 48, 3), 10 * value, dtype=np.uint8))
    return path


def test_a_whole_video_is_shown_whole(video: Path) -> None:
    assert shown_share(video) == 1


@pytest.mark.parametrize("count", [5, 10, 19])
def test_the_share_is_that_of_the_edit_list(video: Path, count: int) -> None:
    content = bytearray(video.read_bytes())
    struct.pack_into(">Ii", content, content.index(b"elst") + 12, 100 * count, 0)
    video.write_bytes(content)
    assert shown_share(video) == pytest.approx(count / 20)


@pytest.mark.parametrize(
    "content", [b"", b"no video", b"\0" * 64, b"\0\0\0\x20moov" + b"\xff" * 24, b"RIFF" + bytes(60)]
)
def test_files_without_an_edit_list_are_whole(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.mp4"
    path.write_bytes(content)
    assert shown_share(path) == 1


def test_a_damaged_edit_list_is_none(video: Path) -> None:
    content = video.read_bytes()
    for box in (b"elst", b"mvhd", b"mdhd", b"trak"):
        video.write_bytes(content.replace(box, b"free"))
        assert shown_share(video) == 1
    for cut in range(0, len(content), 97):
        video.write_bytes(content[:cut])
        assert 0 < shown_share(video) <= 1
