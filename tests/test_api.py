"""The package in Python: a model is loaded, videos and streams are segmented, results are looked at and saved."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import stemseg
from stemseg.config import load_config
from stemseg.modeling.model_files import ModelInfo, pack_model
from stemseg.modeling.network import build_network
from stemseg.utils.errors import CheckpointError, ConfigError, DataError
from tests.helpers.paths import ROOT
from tests.helpers.small_network import SMALL_CUSTOM_MODEL

SMALL = [*SMALL_CUSTOM_MODEL, "DATA.CUSTOM.MAX_INFERENCE_TRACKS=3"]
LENGTH, SIZE = 9, (60, 80)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in one file, untrained."""
    path = tmp_path_factory.mktemp("model") / "tiny.pth"
    cfg = load_config(None, SMALL)
    torch.manual_seed(0)
    info = ModelInfo(config=cfg.to_dict(), category_names={1: "cat", 2: "dog"})
    torch.save(pack_model(build_network(cfg).state_dict(), info), path)
    return path


@pytest.fixture(scope="module")
def segmenter(model: Path) -> stemseg.Segmenter:
    return stemseg.load(model, device="cpu", num_workers=0)


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    """Frames [T, H, W, 3] uint8, R G B."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (LENGTH, 6, 8, 3), dtype=np.uint8)
    return np.stack([cv2.resize(image, SIZE[::-1], interpolation=cv2.INTER_CUBIC) for image in coarse])


@pytest.fixture(scope="module")
def result(segmenter: stemseg.Segmenter, video: np.ndarray) -> stemseg.Result:
    return segmenter.segment(video)


def test_tracks_and_masks_tell_the_same(result: stemseg.Result) -> None:
    assert (result.num_frames, result.height, result.width) == (LENGTH, *SIZE)
    assert 0 < len(result.tracks) <= 3
    for frame in range(LENGTH):
        masks = result.masks(frame)
        assert masks.dtype == bool and masks.shape == (len(result.tracks), *SIZE)
        assert masks.sum(axis=0).max() <= 1
        for mask, track in zip(masks, result.tracks, strict=True):
            assert track.label in ("cat", "dog") and 0 < track.score <= 1
            if frame not in track.frames:
                assert not mask.any()
                continue
            i = track.frames.index(frame)
            assert track.areas[i] == mask.sum()
            x, y, width, height = (int(value) for value in track.boxes[i])
            assert mask[y : y + height, x : x + width].sum() == mask.sum()
    assert "tracks in 9 frames of 80 x 60 pixels" in repr(result)
    with pytest.raises(IndexError, match="there is no frame 9"):
        result.masks(9)


@pytest.mark.parametrize("kind", ["list", "generator", "folder"])
def test_a_video_can_be_given_in_many_ways(
    segmenter: stemseg.Segmenter, result: stemseg.Result, video: np.ndarray, kind: str, tmp_path: Path
) -> None:
    given = {"list": list(video), "generator": iter(video), "folder": tmp_path}[kind]
    for i, frame in enumerate(video):
        cv2.imwrite(str(tmp_path / f"{i}.png"), frame[..., ::-1])
    again = segmenter.segment(given if kind != "folder" else str(tmp_path), progress=True)
    np.testing.assert_array_equal(again.masks(5), result.masks(5))
    np.testing.assert_array_equal(again.image(5), video[5])


def test_a_part_of_a_video(segmenter: stemseg.Segmenter, video: np.ndarray) -> None:
    part = segmenter.segment(video, frames=slice(1, 8, 2))
    assert part.frame_names == ["00001", "00003", "00005", "00007"]
    np.testing.assert_array_equal(part.image(1), video[3])


def test_objects_are_painted(result: stemseg.Result) -> None:
    picture = result.overlay(2, min_score=0)
    assert picture.shape == (360, 480, 3) and picture.dtype == np.uint8
    assert not np.array_equal(picture, result.overlay(2, min_score=2))


def test_a_result_is_saved_in_full(result: stemseg.Result, tmp_path: Path) -> None:
    page = result.save(tmp_path / "out", exports=["coco"], min_score=0, side_by_side=True)
    out = tmp_path / "out"
    assert page == out / "report.html" and "data:video/webm" in page.read_text(encoding="utf-8")
    entries = json.loads((out / "results.json").read_text())
    assert [entry["score"] for entry in entries] == [track.score for track in result.tracks]
    id_map = cv2.imread(str(out / "results" / "video" / "00004.png"), cv2.IMREAD_COLOR)
    assert (id_map.any(axis=-1) == result.masks(4).any(axis=0)).all()
    assert len(list((out / "overlays" / "video").iterdir())) == LENGTH
    assert (out / "coco" / "video.json").is_file()
    result.save(out)  # again, over it


def test_a_stream_finds_what_the_whole_video_shows(
    segmenter: stemseg.Segmenter, result: stemseg.Result, video: np.ndarray
) -> None:
    seen = []
    with segmenter.stream() as stream:
        for t, frame in enumerate(video):
            seen += stream.step(frame)
            assert t - len(seen) < stream.max_delay == 7
        seen += stream.finish()
    assert [frame.index for frame in seen] == list(range(LENGTH))
    for frame in seen:
        np.testing.assert_array_equal(frame.image, video[frame.index])
        streamed = [found.mask for found in frame.objects]
        for mask in result.masks(frame.index):  # the stream has all objects, the result the three longest-lived
            assert not mask.any() or any(np.array_equal(mask, other) for other in streamed)
        for found in frame.objects:
            x, y, width, height = found.box
            assert found.label in ("cat", "dog") and found.area == found.mask.sum()
            assert found.mask[y : y + height, x : x + width].sum() == found.area
    with pytest.raises(DataError, match="the stream has ended"):
        stream.step(video[0])


def test_what_cannot_be_segmented_is_named(segmenter: stemseg.Segmenter, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it does not exist"):
        segmenter.segment(tmp_path / "none.mp4")
    with pytest.raises(DataError, match="frame 0 is float64"):
        segmenter.segment(np.zeros((2, 8, 8, 3)))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "0.png"), np.zeros((8, 8, 3)))
    with pytest.raises(DataError, match="means 2 videos"):
        segmenter.segment(tmp_path)


def test_a_model_is_found_by_path_or_name_and_can_be_changed(model: Path) -> None:
    changed = stemseg.load(model, device="cpu", overrides=["CLUSTERING.MIN_SEEDINESS_PROB=0.9"])
    assert changed.cfg.CLUSTERING.MIN_SEEDINESS_PROB == 0.9
    assert changed.category_names == {1: "cat", 2: "dog"} and changed.name == "tiny"
    with pytest.raises(CheckpointError, match="huge does not exist"):
        stemseg.load("huge")


def test_what_can_be_no_video_or_no_part_of_one_is_named(model: Path, video: np.ndarray, tmp_path: Path) -> None:
    segmenter = stemseg.load(model, device="cpu")
    with pytest.raises(ConfigError, match=r"overrides is the text .*expected a list of such"):
        stemseg.load(model, overrides="CLUSTERING.MAX_INSTANCES=3")
    for frames in (slice(-3, None), slice(None, None, -1), slice(None, None, 0), slice(1.5, 3), slice("a", None)):
        with pytest.raises(DataError, match="expected whole numbers from 0"):
            segmenter.segment(video, frames=frames)
    for nothing in (None, 5, np.zeros((3, 0, 40, 3), np.uint8)):
        with pytest.raises(DataError, match="expected"):
            segmenter.segment(nothing)
    for fps in (0, -1, float("nan"), "x"):
        with pytest.raises(DataError, match=r"fps is .* expected a number above 0"):
            segmenter.segment(video, fps=fps)
    with pytest.raises(ConfigError, match="no export yolo, expected some of coco"):
        segmenter.segment(video[:2]).save(tmp_path, exports=["yolo"])


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, stemseg; print([m for m in ('torch', 'numpy', 'cv2') if m in sys.modules], dir(stemseg))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[]") and "'load'" in done.stdout
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = stemseg.lode


def test_the_notebook_runs_from_top_to_bottom(
    model: Path, video: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Its first cell names what it works on; the other cells run as they are."""
    cells = json.loads((ROOT / "docs" / "own_video.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(sources) >= 6 and sources[0].startswith('MODEL = "laptop"')
    monkeypatch.chdir(tmp_path)
    values = {"MODEL": str(model), "VIDEO": video, "OUT": "out"}
    assert sources[0].splitlines() == [line for line in sources[0].splitlines() if line.split(" = ")[0] in values]
    for source in sources[1:]:
        exec(compile(source, "own_video.ipynb", "exec"), values)
    assert (tmp_path / "out" / "report.html").is_file()
    assert "at most 7 frames late" in capsys.readouterr().out
