"""Videos of a user's own: what inputs mean, parts of videos, frames from memory."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from stemseg.inference.frame_sources import open_path
from stemseg.inference.own_videos import FrameSelection, MemoryVideo, find_videos, open_own_videos
from stemseg.structures.frame_range import FrameRange
from stemseg.utils.drawing import VideoWriter, write_image
from stemseg.utils.errors import DataError


def frame(value: int) -> np.ndarray:
    return np.full((32, 48, 3), value, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Videos a2, a10 and b, a folder of images, a folder of neither, and a file that is no video."""
    root = tmp_path / "holiday"
    for name in ("a2.mp4", "a10.MP4", "b.webm"):
        with VideoWriter((root / name).with_suffix(Path(name).suffix.lower())) as writer:
            for value in range(4):
                writer.write(frame(40 * value))
    (root / "a10.mp4").rename(root / "a10.MP4")
    write_image(root / "stills" / "x.png", frame(0))
    (root / "empty").mkdir()
    (root / "notes.txt").write_text("nothing to see")
    return root


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_inputs_mean_files_folders_and_patterns(folder: Path) -> None:
    assert names(find_videos(folder / "b.webm")) == ["b.webm"]
    assert names(find_videos(folder / "stills")) == ["stills"]
    assert names(find_videos(folder)) == ["a2.mp4", "a10.MP4", "b.webm", "stills"]
    assert names(find_videos(f"{folder}/a*")) == ["a2.mp4", "a10.MP4"]
    assert names(find_videos(f"{folder.parent}/**/*.webm")) == ["b.webm"]


@pytest.mark.parametrize(
    ("what", "expected"),
    [("empty", "holds no images .* no videos"), ("c*", "it does not exist"), ("*.txt", "none of the matches")],
)
def test_an_input_without_videos_is_named(folder: Path, what: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        find_videos(folder / what)


def test_videos_of_one_name_get_ids_of_their_own(folder: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "other" / "b" / "x.png", frame(0))
    write_image(tmp_path / "b_2" / "x.png", frame(0))
    inputs = [folder / "b.webm", tmp_path / "other" / "b", tmp_path / "b_2"]
    assert [source.sequence_id for source in open_own_videos(inputs)] == ["b", "b_3", "b_2"]


def test_a_part_of_a_video_keeps_its_frames_names(folder: Path) -> None:
    (source,) = open_own_videos([folder / "a2.mp4"], FrameRange(1, None, 2))
    assert isinstance(source, FrameSelection)
    assert (source.sequence_id, source.expected_length) == ("a2", 2)
    assert source.frames_per_second == pytest.approx(5)  # of 10
    found = list(source)
    assert [f.name for f in found] == ["00001", "00003"]
    np.testing.assert_allclose([f.image.mean() for f in found], [40, 120], atol=8)
    assert source.file_name("00003") == "frame_000003.PNG"


def test_a_part_behind_the_end_is_an_error(folder: Path) -> None:
    with pytest.raises(DataError, match="frames 7::1 holds no frame that can be read; the whole has 4 frames"):
        list(open_own_videos([folder / "a2.mp4"], FrameRange(7))[0])


def test_image_files_keep_their_names(folder: Path) -> None:
    assert open_path(folder / "stills").file_name("x") == "x.png"


@pytest.mark.parametrize("kind", ["array", "list", "generator"])
def test_frames_from_memory_are_rgb_and_can_be_read_again(kind: str) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (3, 8, 10, 3), dtype=np.uint8)
    given = {"array": frames, "list": list(frames), "generator": (f for f in frames)}[kind]
    video = MemoryVideo(given, name="camera", fps=30)
    for _ in range(2):
        np.testing.assert_array_equal([f.image for f in video], frames[..., ::-1])
    assert (video.sequence_id, video.expected_length, video.frames_per_second) == ("camera", 3, 30)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (np.zeros((2, 4, 4, 3)), r"frame 0 is float64 of shape \[4, 4, 3\], expected uint8"),
        (np.zeros((2, 3, 4, 4), dtype=np.uint8), r"uint8 of shape \[3, 4, 4\]"),
        ([], "has no frames"),
        (iter([]), "has no frames"),
    ],
)
def test_what_is_no_frame_is_named(frames: np.ndarray, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        list(MemoryVideo(frames))


def test_what_systems_hide_is_no_video(folder: Path) -> None:
    (folder / "._a2.mp4").write_bytes(b"macOS")
    (folder / ".trash").mkdir()
    write_image(folder / ".trash" / "x.png", frame(0))
    write_image(folder / "__MACOSX" / "x.png", frame(0))
    assert names(find_videos(folder)) == ["a2.mp4", "a10.MP4", "b.webm", "stills"]
    assert "__MACOSX" not in names(find_videos(f"{folder}/*"))


def test_what_lies_beside_videos_is_counted(folder: Path) -> None:
    (folder / "more.TXT").touch()
    (folder / ".hidden.mp4").touch()
    expected = {"files that are no videos (.txt)": 2, "hidden files": 1, "folders": 1}
    left_out: dict[str, Counter[str]] = {}
    open_own_videos([folder, folder / "b.webm"], left_out=left_out)
    assert left_out[str(folder / "b.webm")] == {}
    assert {k: v for k, v in left_out[str(folder)].items() if k in expected} == expected
    open_own_videos([f"{folder}/*.*"], left_out=left_out)
    assert left_out[f"{folder}/*.*"]["files that are no videos (.txt)"] == 2
