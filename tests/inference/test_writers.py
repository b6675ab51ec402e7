"""Result formats: golden files, what evaluators expect of them, and empty results."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stemseg.inference.semantics import FramePoints, class_votes, foreground_places
from stemseg.inference.tracks import TrackStore, collect_tracks
from stemseg.inference.writers.davis import DavisWriter
from stemseg.inference.writers.kitti_mots import KittiMotsWriter, TrackFilter
from stemseg.inference.writers.youtube_vis import YouTubeVisWriter
from stemseg.structures.rle import encode_rle
from stemseg.structures.tracks import Track, VideoTracks
from stemseg.utils.errors import ConfigError
from tests.helpers.golden_weights import det, load_golden
from tests.helpers.label_maps import chained_clip
from tests.helpers.paths import GOLDEN_DIR

META = json.loads((GOLDEN_DIR / "output_generators_meta.json").read_text())
FILTERS = {
    1: TrackFilter(min_area=150, min_box_fill=0.35, min_length=3, max_gap_ratio=0.3),
    2: TrackFilter(min_area=250, min_box_fill=0.2, min_length=10, max_gap_ratio=0.5),
}


def _golden_video(max_tracks: int = 20, *, logits: torch.Tensor | None = None) -> VideoTracks:
    """The golden label map as the result of a video; its logits vote unless others are given."""
    label_map = load_golden("output_generators")["label_map"]
    ids = [2, 3, 5, 9]
    labels = torch.from_numpy(np.where(label_map > 0, np.searchsorted(ids, label_map) + 1, label_map).astype(np.int32))
    store = TrackStore(label_stride=4)
    logits = det("outgen.logits", (6, 41, 16, 32)) if logits is None else logits
    places = foreground_places(labels > 0)
    instances = [frame.flatten()[p] for frame, p in zip(labels, places, strict=True)]
    store.add(
        chained_clip(range(6), labels, ids),
        class_votes([FramePoints(p, (16, 32)) for p in places], instances, 4, logits),
    )
    return collect_tracks(
        store,
        sequence_id="0001",
        frame_names=[f"{t:05d}" for t in range(6)],
        video_size=(90, 160),
        network_size=(60, 107),
        max_tracks=max_tracks,
    )


def _empty_video() -> VideoTracks:
    return VideoTracks("nothing", 20, 30, 2, ["00000", "00001"], [])


@pytest.mark.parametrize(("max_tracks", "key"), [(20, "davis_id_maps"), (2, "davis_id_maps_max_tracks_2")])
def test_davis_images_equal_the_published_ones(tmp_path: Path, max_tracks: int, key: str) -> None:
    DavisWriter(tmp_path).write_sequence(_golden_video(max_tracks))
    paths = sorted((tmp_path / "results" / "0001").iterdir())
    assert [path.name for path in paths] == [f"{t:05d}.png" for t in range(6)]
    images = [Image.open(path) for path in paths]
    assert {image.mode for image in images} == {"P"}
    assert images[0].getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
    np.testing.assert_array_equal(
        np.stack([np.array(image) for image in images]), load_golden("output_generators")[key]
    )


def test_youtube_vis_results_equal_the_published_ones(tmp_path: Path) -> None:
    YouTubeVisWriter(tmp_path).assemble([_golden_video()])
    results = json.loads((tmp_path / "results.json").read_text())
    for result, expected in zip(results, META["ytvis_results"], strict=True):
        # absent frames are null here; the published code wrote masks without pixels
        assert [s or {"size": [90, 160], "counts": "PR>"} for s in result.pop("segmentations")] == expected.pop(
            "segmentations"
        )
        assert result.pop("score") == pytest.approx(expected.pop("score"))
        assert result == expected
    with zipfile.ZipFile(tmp_path / "results.zip") as archive:
        assert archive.namelist() == ["results.json"]
        assert archive.read("results.json") == (tmp_path / "results.json").read_bytes()


@pytest.mark.parametrize(("filters", "key"), [({}, "kitti_txt"), (FILTERS, "kitti_nms_txt")])
def test_kitti_lines_equal_the_published_ones(tmp_path: Path, filters: dict[int, TrackFilter], key: str) -> None:
    categories = torch.from_numpy(load_golden("output_generators")["kitti_category_map"]).long()
    one_hot = torch.nn.functional.one_hot(categories, 3).permute(0, 3, 1, 2).float()  # votes = pixels of each class
    KittiMotsWriter(tmp_path, filters).write_sequence(_golden_video(logits=one_hot))
    written = (tmp_path / "results" / "0001.txt").read_text()
    assert _tracks_of(written) == _tracks_of(META[key])
    frames = [int(line.split(" ")[0]) for line in written.splitlines()]
    assert frames == sorted(frames)


def _tracks_of(text: str) -> set[tuple[tuple[str, ...], ...]]:
    """Each track as its lines without its number, which may differ."""
    tracks: dict[str, list[tuple[str, ...]]] = {}
    for line in text.splitlines():
        frame, track, *rest = line.split(" ")
        assert int(track) // 1000 == int(rest[0])
        tracks.setdefault(track, []).append((frame, *rest))
    return {tuple(sorted(lines)) for lines in tracks.values()}


def test_later_ranked_tracks_win_overlaps(tmp_path: Path) -> None:
    left, all_over = np.zeros((4, 6)), np.ones((4, 6))
    left[:, :3] = 1
    tracks = [Track(1, 1, 1.0, [encode_rle(all_over)]), Track(2, 1, 0.5, [encode_rle(left)])]
    DavisWriter(tmp_path).write_sequence(VideoTracks("a/b", 4, 6, 1, ["00000"], tracks))
    image = np.array(Image.open(tmp_path / "results" / "a%2Fb" / "00000.png"))
    np.testing.assert_array_equal(image, np.where(left > 0, 2, 1))


def test_frames_that_share_a_name_are_numbered(tmp_path: Path) -> None:
    DavisWriter(tmp_path).write_sequence(VideoTracks(3, 4, 6, 2, ["frame", "frame"], []))
    assert sorted(path.name for path in (tmp_path / "results" / "3").iterdir()) == ["00000.png", "00001.png"]


def test_videos_without_tracks_are_written(tmp_path: Path) -> None:
    empty = _empty_video()
    for writer in (DavisWriter(tmp_path), YouTubeVisWriter(tmp_path), KittiMotsWriter(tmp_path, FILTERS)):
        writer.write_sequence(empty)
        writer.assemble([empty])
    assert not np.array(Image.open(tmp_path / "results" / "nothing" / "00001.png")).any()
    assert json.loads((tmp_path / "results.json").read_text()) == []
    assert (tmp_path / "results" / "nothing.txt").read_text() == ""


def test_video_ids_keep_their_type(tmp_path: Path) -> None:
    track = Track(1, 7, 1.0, [None, encode_rle(np.ones((2, 2)))])
    YouTubeVisWriter(tmp_path).assemble([VideoTracks(12, 2, 2, 2, ["a", "b"], [track])])
    (result,) = json.loads((tmp_path / "results.json").read_text())
    assert result["video_id"] == 12
    assert result["segmentations"][0] is None


def _mask(height: int, width: int) -> str:
    mask = np.zeros((40, 40))
    mask[:height, :width] = 1
    return encode_rle(mask)


@pytest.mark.parametrize(
    ("segmentations", "kept"),
    [
        ([_mask(10, 20)] * 3, [0, 1, 2]),
        ([_mask(10, 20)] * 2, []),  # too short
        ([_mask(10, 20), _mask(10, 10), _mask(10, 20), _mask(10, 20)], [0, 2, 3]),  # a small mask leaves a gap of 1 / 4
        ([_mask(10, 20), None, None, _mask(10, 20), _mask(10, 20)], []),  # a gap of 2 / 5
        ([_mask(10, 20), _mask(10, 20), _mask(10, 10)], []),  # too short once the small mask is gone
        ([_mask(10, 20), _mask(10, 10), _mask(10, 10), *[_mask(10, 20)] * 2], []),  # and a gap of 2 / 5 then
        ([*[_mask(10, 20)] * 3, None, None, None, _mask(10, 10)], [0, 1, 2]),  # and no gap then
        ([encode_rle(np.eye(40))] * 3, []),  # fills little of its box, and is small
    ],
)
def test_track_filters(segmentations: list[str | None], kept: list[int]) -> None:
    filtered = FILTERS[1].apply(segmentations, 40, 40)
    assert [frame for frame, counts in enumerate(filtered) if counts is not None] == kept


def test_a_mask_that_fills_little_of_its_box_is_dropped() -> None:
    sparse = np.zeros((40, 40))
    sparse[0, :] = sparse[:, 0] = sparse[1, :] = sparse[:, 1] = 1  # 156 pixels in a box of 1600
    assert FILTERS[1].apply([encode_rle(sparse)] * 3, 40, 40) == [None] * 3


def test_more_tracks_than_a_palette_holds_are_refused(tmp_path: Path) -> None:
    tracks = [Track(i, 1, 1.0, [None]) for i in range(1, 257)]
    with pytest.raises(ConfigError, match="at most 255"):
        DavisWriter(tmp_path).write_sequence(VideoTracks("x", 2, 2, 1, ["0"], tracks))
