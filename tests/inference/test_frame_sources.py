"""Frames from datasets, folders and video files; what is damaged is named."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from stemseg.inference.frame_sources import ImageSequence, VideoFile, open_path, open_sequence
from stemseg.structures.annotations import VideoSequence
from stemseg.utils.drawing import VideoWriter
from stemseg.utils.errors import DataError


def _write_frames(folder: Path, names: list[str], size: tuple[int, int] = (24, 32)) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in names]
    for value, path in enumerate(paths):
        cv2.imwrite(str(path), np.full((*size, 3), 10 * value, dtype=np.uint8))
    return paths


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    _write_frames(tmp_path / "clip", ["frame2.png", "frame10.png", "frame1.png"])
    (tmp_path / "clip" / "notes.txt").write_text("not a frame")
    source = open_path(tmp_path / "clip")
    assert source.sequence_id == "clip"
    assert source.expected_length == 3
    assert [frame.name for frame in source] == ["frame1", "frame2", "frame10"]
    assert [frame.image[0, 0, 0] for frame in source] == [20, 0, 10]  # a source can be read again


def test_a_video_file_is_read_frame_by_frame(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "my.mp4", fps=5) as writer:
        for value in range(6):
            writer.write(np.full((32, 48, 3), 40 * value, dtype=np.uint8))
    source = open_path(tmp_path / "my.mp4")
    assert isinstance(source, VideoFile)
    assert source.sequence_id == "my"
    assert source.frames_per_second == pytest.approx(5)
    frames = list(source)
    assert [frame.name for frame in frames] == [f"{i:05d}" for i in range(6)]
    assert frames[0].image.shape == (32, 48, 3)
    np.testing.assert_allclose([frame.image.mean() for frame in frames], np.arange(6) * 40, atol=8)


def test_a_video_that_ends_early_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with VideoWriter(tmp_path / "cut.mp4") as writer:
        for _ in range(3):
            writer.write(np.zeros((32, 48, 3), dtype=np.uint8))
    source = VideoFile(tmp_path / "cut.mp4")
    assert len(list(source)) == 3
    assert not caplog.records
    monkeypatch.setattr(source, "_expected_length", 5)
    assert len(list(source)) == 3
    assert "cut.mp4: 3 frames could be decoded, but its header says 5" in caplog.text
    assert source.lost == {"frames that could not be decoded": 2}


@pytest.mark.parametrize(("first", "count"), [(7, 13), (0, 15), (5, 10)])
def test_a_video_that_was_trimmed_without_encoding_it_anew_has_lost_nothing(
    tmp_path: Path, first: int, count: int
) -> None:
    """Its header counts all 20 frames, its edit list shows some; a frame that is missing of those is noticed still."""
    path = tmp_path / "trimmed.mp4"
    with VideoWriter(path, fps=10) as writer:
        for value in range(20):
            writer.write(np.full((32, 48, 3), 10 * value, dtype=np.uint8))
    content = bytearray(path.read_bytes())
    struct.pack_into(">Ii", content, content.index(b"elst") + 12, 100 * count, 1024 * first)
    path.write_bytes(content)
    source = VideoFile(path)
    assert source.expected_length == count
    frames = list(source)
    assert len(frames) == count and abs(frames[0].image.mean() - 10 * first) < 12
    assert not source.lost
    source._note_lost(count - 3)
    assert source.lost == {"frames that could not be decoded": 3}


@pytest.mark.parametrize("damage", ["empty", "zeros"])
def test_frames_behind_a_broken_one_keep_their_numbers(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "hole.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (48, 32))
    for value in range(8):
        writer.write(np.full((32, 48, 3), 30 * value, dtype=np.uint8))
    writer.release()
    path.write_bytes(_damage_chunk(path.read_bytes(), 3, damage))
    source = VideoFile(path)
    frames = list(source)
    assert [frame.name for frame in frames] == ["00000", "00001", "00002", "00004", "00005", "00006", "00007"]
    np.testing.assert_allclose([f.image.mean() for f in frames], [30 * int(f.name) for f in frames], atol=8)
    assert source.lost == {"frames that could not be decoded": 1}


def _damage_chunk(content: bytes, number: int, damage: str) -> bytes:
    """An AVI whose frame ``number`` is an empty chunk, or zeros."""
    start = content.index(b"movi") + 4
    for _ in range(number):
        start += 8 + _even(content, start)
    room = _even(content, start)
    if damage == "zeros":
        return content[: start + 8] + bytes(room) + content[start + 8 + room :]
    hole = b"00dc" + bytes(4) + b"JUNK" + struct.pack("<I", room - 8) + bytes(room - 8)
    whole = bytearray(content[:start] + hole + content[start + 8 + room :])
    entry = whole.rindex(b"idx1") + 8 + 16 * number
    whole[entry + 12 : entry + 16] = bytes(4)
    return bytes(whole)


def _even(content: bytes, start: int) -> int:
    """The bytes that the chunk at ``start`` takes behind its header."""
    size = int.from_bytes(content[start + 4 : start + 8], "little")
    return size + size % 2


def test_pictures_of_ones_own_are_turned_as_one_looks_at_them(tmp_path: Path) -> None:
    picture = Image.fromarray(np.zeros((24, 32, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    picture.save(tmp_path / "0.jpg", exif=exif)
    assert next(iter(open_path(tmp_path))).image.shape == (32, 24, 3)
    of_a_dataset = open_sequence(VideoSequence("v", 24, 32, ["0.jpg"]), tmp_path)
    assert next(iter(of_a_dataset)).image.shape == (24, 32, 3), "annotations are made on the stored pixels"


def test_a_fingerprint_tells_of_a_change(tmp_path: Path) -> None:
    paths = _write_frames(tmp_path, ["0.png", "1.png"])
    before = open_path(tmp_path).fingerprint()
    assert open_path(tmp_path).fingerprint() == before
    os.utime(paths[0], ns=(1, 1))
    touched = open_path(tmp_path).fingerprint()
    _write_frames(tmp_path, ["2.png"])
    assert len({before, touched, open_path(tmp_path).fingerprint()}) == 3


def test_a_dataset_sequence_keeps_its_id_and_checks_the_annotated_size(tmp_path: Path) -> None:
    _write_frames(tmp_path / "v", ["0.png", "1.png"])
    sequence = VideoSequence(7, 24, 32, ["v/0.png", "v/1.png"])
    source = open_sequence(sequence, tmp_path)
    assert source.sequence_id == 7
    assert len(list(source)) == 2
    wrong = VideoSequence(7, 20, 32, ["v/0.png"])
    with pytest.raises(DataError, match=r"sequence '7', frame 0.*24 x 32"):
        list(open_sequence(wrong, tmp_path))


def test_frames_of_another_size_are_named(tmp_path: Path) -> None:
    paths = _write_frames(tmp_path, ["0.png"]) + _write_frames(tmp_path, ["1.png"], size=(20, 32))
    with pytest.raises(DataError, match=r"sequence 'bear', frame 1 \(1\) is 20 x 32.*first frame is 24 x 32"):
        list(ImageSequence("bear", paths))


def test_a_missing_and_a_broken_frame_are_named(tmp_path: Path) -> None:
    paths = _write_frames(tmp_path, ["0.png", "1.png"])
    paths[1].write_bytes(paths[1].read_bytes()[:40])
    with pytest.raises(DataError, match=r"sequence 'bear', frame 1.*1\.png"):
        list(ImageSequence("bear", paths))
    paths[1].unlink()
    with pytest.raises(DataError, match=r"sequence 'bear', frame 1.*1\.png"):
        list(ImageSequence("bear", paths))


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        open_path(tmp_path / "empty")
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    with pytest.raises(DataError, match=r"cannot open .*broken\.mp4 as a video"):
        open_path(tmp_path / "broken.mp4")
    with pytest.raises(DataError, match="does not exist"):
        open_path(tmp_path / "nowhere.mp4")
    with pytest.raises(DataError, match="sequence 'none' has no frames"):
        ImageSequence("none", [])
