"""Inference from the command line, on a tiny network and tiny videos, from weights file to result files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from stemseg.config import load_config
from stemseg.inference import main as inference_main
from stemseg.inference import run
from stemseg.inference import runner as job_module
from stemseg.inference import settings as settings_module
from stemseg.inference.arguments import parse_arguments
from stemseg.inference.frame_sources import FrameSource, open_path
from stemseg.inference.inputs import build_track_filters, configured_names, open_inputs
from stemseg.inference.runner import share_of
from stemseg.inference.settings import load_run_config, output_directory
from stemseg.inference.video_segmenter import VideoSegmenter, segment_video
from stemseg.modeling import weights as weights_module
from stemseg.modeling.backbone.norms import FrozenBatchNorm
from stemseg.modeling.model_files import ModelInfo, pack_model, read_model_info
from stemseg.modeling.network import build_network
from stemseg.modeling.weights import load_model_weights
from stemseg.structures.annotations import VideoSequence, save_video_annotations
from stemseg.structures.frame_range import FrameRange
from stemseg.structures.rle import rle_area
from stemseg.structures.tracks import VideoTracks
from stemseg.utils.distributed import ProcessInfo
from stemseg.utils.drawing import VideoWriter
from stemseg.utils.errors import ConfigError
from stemseg.utils.folder_lock import held_folder
from tests.helpers.small_network import SMALL_CUSTOM_MODEL

LENGTHS = {"one": 6, "two": 3, "three": 9}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A checkpoint with its configuration, and three videos with an annotation file."""
    rng = np.random.default_rng(0)
    sequences = []
    for name, length in LENGTHS.items():
        (tmp_path / "images" / name).mkdir(parents=True)
        paths = [f"{name}/{t:05d}.jpg" for t in range(length)]
        for path in paths:
            coarse = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / "images" / path), cv2.resize(coarse, (80, 60), interpolation=cv2.INTER_CUBIC))
        sequences.append(VideoSequence(name, 60, 80, paths))
    save_video_annotations(tmp_path / "val.json", sequences, {1: "cat", 2: "dog"})
    videos = [f"DATA.CUSTOM.VAL_JSON={tmp_path / 'val.json'}", f"DATA.CUSTOM.VAL_IMAGES={tmp_path / 'images'}"]
    cfg = load_config(None, [*SMALL_CUSTOM_MODEL, *videos])
    (tmp_path / "model").mkdir()
    cfg.save(tmp_path / "model" / "config.yaml")
    torch.manual_seed(0)
    torch.save({"model": build_network(cfg).state_dict()}, tmp_path / "model" / "000001.pth")
    return tmp_path


def _run(workspace: Path, *arguments: str) -> int:
    checkpoint = str(workspace / "model" / "000001.pth")
    return inference_main.main([checkpoint, "--device", "cpu", "--num_cpu_workers", "1", *arguments])


def _results(folder: Path) -> list[dict]:
    return json.loads((folder / "results.json").read_text())


def test_a_dataset_is_segmented_into_every_format(workspace: Path) -> None:
    assert _run(workspace, "--dataset", "custom", "--save_vis") == 0
    output = workspace / "model" / "inference"
    results = _results(output)
    assert {result["video_id"] for result in results} == set(LENGTHS)
    for result in results:
        assert len(result["segmentations"]) == LENGTHS[result["video_id"]]
        assert result["category_id"] in (1, 2)
        assert 0 < result["score"] <= 1
    for name, length in LENGTHS.items():
        id_maps = [np.array(Image.open(output / "results" / name / f"{t:05d}.png")) for t in range(length)]
        assert {id_map.shape for id_map in id_maps} == {(60, 80)}
        pictures = sorted((output / "overlays" / name).iterdir())
        assert len(pictures) == length
        capture = cv2.VideoCapture(str(output / "overlays" / f"{name}.webm"))
        assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == length
    assert not list(output.rglob("*.part*"))


def test_a_checkpoint_and_a_dataset_are_enough(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As published: ``main.py CKPT --dataset ytvis``; the rest is beside the checkpoint and in the environment."""
    (workspace / "val.json").rename(workspace / "youtube_vis_val.json")
    monkeypatch.setenv("STEMSEG_JSON_ANNOTATIONS_DIR", str(workspace))
    monkeypatch.setenv("YOUTUBE_VIS_BASE_DIR", str(workspace / "images"))
    load_config(None, [*SMALL_CUSTOM_MODEL, "DATA.YOUTUBE_VIS.INFERENCE_FRAME_OVERLAP=2"]).save(
        workspace / "model" / "config.yaml"
    )
    assert inference_main.main([str(workspace / "model" / "000001.pth"), "--dataset", "ytvis"]) == 0
    assert {result["video_id"] for result in _results(workspace / "model" / "inference")} == set(LENGTHS)


def test_an_interrupted_run_goes_on_and_does_nothing_twice(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, output = workspace / "whole", workspace / "out"
    assert _run(workspace, "--dataset", "custom", "-o", str(whole)) == 0
    segmented: list[str] = []
    start = VideoSegmenter.start

    def interrupted(self: VideoSegmenter, source: FrameSource, progress: object = None) -> Callable[[], VideoTracks]:
        if len(segmented) == 2:
            raise KeyboardInterrupt
        segmented.append(source.sequence_id)
        return start(self, source, progress)

    monkeypatch.setattr(VideoSegmenter, "start", interrupted)
    assert _run(workspace, "--dataset", "custom", "-o", str(output)) == 130
    assert segmented == ["one", "two"]
    assert not (output / "results.json").exists()
    segmented.clear()
    assert _run(workspace, "--dataset", "custom", "-o", str(output)) == 0
    assert segmented == ["three"]
    assert (output / "results.json").read_bytes() == (whole / "results.json").read_bytes()


def test_a_changed_setting_is_refused_until_overwritten(workspace: Path, capsys: pytest.CaptureFixture) -> None:
    assert _run(workspace, "--dataset", "custom") == 0
    assert _run(workspace, "--dataset", "custom", "--max_tracks", "1") == 1
    assert "max_tracks was 20, is 1" in capsys.readouterr().err
    assert _run(workspace, "--dataset", "custom", "--max_tracks", "1", "--overwrite") == 0
    assert len(_results(workspace / "model" / "inference")) == 3


def test_a_video_that_changed_is_segmented_anew(workspace: Path, capsys: pytest.CaptureFixture) -> None:
    folder, output = workspace / "images" / "two", workspace / "out"
    flags = ["--input", str(workspace / "images"), "-o", str(output), "--save_vis"]
    assert _run(workspace, *flags) == 0
    last = folder / "00002.jpg"
    shutil.copy(folder / "00000.jpg", folder / "00003.jpg")
    assert _run(workspace, *flags) == 0
    assert "1 videos changed since they were segmented, and are anew: two" in capsys.readouterr().err
    assert len(list((output / "results" / "two").iterdir())) == 4
    last.unlink()
    assert _run(workspace, *flags) == 0
    assert len(list((output / "results" / "two").iterdir())) == 3, "what was made of the missing frame is gone"
    capsys.readouterr()
    assert _run(workspace, *flags) == 0
    said = capsys.readouterr().err
    assert "3 of 3 sequences were finished before" in said and "changed since" not in said


def test_what_is_left_out_is_said_last_and_what_is_lost_is_an_error(
    workspace: Path, capsys: pytest.CaptureFixture
) -> None:
    (workspace / "images" / "two" / "._00000.jpg").write_bytes(b"macOS")
    assert _run(workspace, "--input", str(workspace / "images" / "two"), "-o", str(workspace / "out")) == 0
    assert capsys.readouterr().err.splitlines()[-1].endswith("left out: 1 hidden files (two 1)")
    (workspace / "images" / "notes.txt").touch()
    assert _run(workspace, "--input", str(workspace / "images"), "-o", str(workspace / "all"), "--frames", ":2") == 0
    last = " ".join(capsys.readouterr().err.splitlines()[-2:])
    assert f"left out: 1 files that are no videos (.txt) ({workspace / 'images'} 1)" in last
    path = workspace / "cut.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (80, 60))
    for seed in range(9):
        writer.write(np.random.default_rng(seed).integers(0, 255, (60, 80, 3), dtype=np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for _ in range(2):  # also where it was finished before
        assert _run(workspace, "--input", str(path), "-o", str(workspace / "lost")) == 1
        assert "frames that could not be decoded (cut " in capsys.readouterr().err.splitlines()[-1]


def _rename_classes(workspace: Path, names: dict[int, str]) -> None:
    """The checkpoint names its classes."""
    path = workspace / "model" / "000001.pth"
    torch.save({**torch.load(path, weights_only=True), "category_names": names}, path)


def test_classes_go_by_name(workspace: Path, capsys: pytest.CaptureFixture) -> None:
    """The file has 1 cat and 2 dog."""
    _rename_classes(workspace, {1: "cat", 2: "dog"})
    assert _run(workspace, "--dataset", "custom", "-o", str(workspace / "same")) == 0
    same = _results(workspace / "same")
    _rename_classes(workspace, {1: "dog", 2: "cat"})
    assert _run(workspace, "--dataset", "custom", "-o", str(workspace / "swapped")) == 0
    swapped = _results(workspace / "swapped")
    assert same and [3 - entry["category_id"] for entry in swapped] == [entry["category_id"] for entry in same]
    _rename_classes(workspace, {1: "yeti", 2: "wolpertinger"})
    assert _run(workspace, "--dataset", "custom", "-o", str(workspace / "other")) == 1
    error = capsys.readouterr().err
    assert "The file has 1 cat, 2 dog; the model has 1 yeti, 2 wolpertinger" in error
    assert not (workspace / "other").exists()


def test_tracks_of_classes_that_the_dataset_lacks_are_counted(workspace: Path, capsys: pytest.CaptureFixture) -> None:
    _rename_classes(workspace, {1: "cat", 2: "dog"})
    assert _run(workspace, "--dataset", "custom", "-o", str(workspace / "all")) == 0
    found = [entry["category_id"] for entry in _results(workspace / "all")]
    common = max({1, 2}, key=found.count)
    _rename_classes(workspace, {common: "yeti", 3 - common: "dog"})
    assert _run(workspace, "--dataset", "custom", "-o", str(workspace / "some")) == 0
    said = capsys.readouterr().err
    assert "lacks classes of the model, whose tracks are left out: yeti" in said
    count = found.count(common)
    assert f"left out: {count} tracks of class 'yeti', which the dataset lacks" in said.splitlines()[-1]
    assert len(_results(workspace / "some")) == len(found) - count
    assert f"not looked for: 1 classes of {workspace / 'val.json'} that the model does not know: cat" in said


def test_a_full_disk_ends_a_run_in_a_line_and_leaves_no_part(workspace: Path, capsys: pytest.CaptureFixture) -> None:
    folder = workspace / "out" / "results" / "one"
    folder.mkdir(parents=True)
    (folder / "00003.png.part").symlink_to("/dev/full")
    assert _run(workspace, "--dataset", "custom", "-o", str(workspace / "out")) == 1
    error = capsys.readouterr().err
    assert f"OutputError: could not write {folder / '00003.png'}: No space left on device; free some space" in error
    assert "Traceback" not in error
    assert sorted(path.name for path in folder.iterdir()) == ["00000.png", "00001.png", "00002.png"]
    assert all(path.stat().st_size for path in folder.iterdir())
    assert _run(workspace, "--dataset", "custom", "-o", str(workspace / "out")) == 0


def test_a_configuration_that_was_changed_beside_its_checkpoint_is_told(
    workspace: Path, capsys: pytest.CaptureFixture
) -> None:
    path = workspace / "model" / "000001.pth"
    cfg = load_config(workspace / "model" / "config.yaml")
    content = torch.load(path, weights_only=True) | {"config": cfg.to_dict(), "iterations": 1}
    torch.save(content, path)
    load_run_config(parse_arguments([str(path), "--dataset", "custom"]), read_model_info(path))
    changed = "INPUT.MAX_DIM=100", "MODEL.EMBEDDINGS.TIME_SCALE=0.5", "TRAINING.SEED=7"
    load_config(workspace / "model" / "config.yaml", changed).save(workspace / "model" / "config.yaml")
    capsys.readouterr()
    assert _run(workspace, "--dataset", "custom") == 0
    (told,) = (line for line in capsys.readouterr().err.splitlines() if "differs from what the checkpoint was" in line)
    assert "config.yaml" in told and "INPUT.MAX_DIM 96 -> 100" in told and "TIME_SCALE" in told
    assert "SEED" not in told, "no result depends on it"


def test_a_folder_in_use_is_refused_with_its_holder(workspace: Path, capsys: pytest.CaptureFixture) -> None:
    output = workspace / "out"
    with held_folder(output):
        assert _run(workspace, "--dataset", "custom", "-o", str(output)) == 1
        assert f"out is in use by process {os.getpid()} on " in capsys.readouterr().err
        assert [path.name for path in output.iterdir()] == ["lock.json"]


def test_sequences_can_be_chosen(workspace: Path, capsys: pytest.CaptureFixture) -> None:
    assert _run(workspace, "--dataset", "custom", "--seqs", "two") == 0
    assert {result["video_id"] for result in _results(workspace / "model" / "inference")} == {"two"}
    assert _run(workspace, "--dataset", "custom", "--seqs", "four") == 1
    assert "has no sequence four; it has one, three, two" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_a_video_of_ones_own_is_segmented(workspace: Path, kind: str) -> None:
    path = workspace / "images" / "three"
    if kind == "video":
        frames, path = sorted(path.iterdir()), workspace / "mine.mp4"
        with VideoWriter(path) as writer:
            for frame in frames:
                writer.write(cv2.imread(str(frame)))
    assert _run(workspace, "--input", str(path), "--resize_embeddings", "--amp", "none") == 0
    output = workspace / "model" / "inference"
    assert {result["video_id"] for result in _results(output)} == {path.stem}
    assert len(list((output / "results" / path.stem).iterdir())) == 9


def test_several_videos_and_parts_of_them_are_segmented(workspace: Path, capsys: pytest.CaptureFixture) -> None:
    output = workspace / "out"
    flags = ["--frames", "1:9", "--every", "2", "--save_vis", "--export", "coco", "--min_score", "0"]
    assert _run(workspace, "--input", str(workspace / "images"), *flags, "-o", str(output)) == 0
    for name, frames in {"one": [1, 3, 5], "two": [1], "three": [1, 3, 5, 7]}.items():
        names = [f"{frame:05d}" for frame in frames]
        assert [path.stem for path in sorted((output / "results" / name).iterdir())] == names
        images = json.loads((output / "coco" / f"{name}.json").read_text())["images"]
        assert [image["file_name"] for image in images] == [f"{frame}.jpg" for frame in names]
    page = (output / "report.html").read_text(encoding="utf-8")
    assert page.count('<section class="video"') == 3 and page.count("data:video/webm") == 3
    said = capsys.readouterr().err
    assert "three: " in said and "in 4 frames" in said and "in 1 frame\n" in said
    assert "for more objects lower --min_seediness_prob (now 0.1) or --min_score" in said
    assert _run(workspace, "--input", str(workspace / "images"), "-o", str(output)) == 1  # other frames
    assert "frames 1:9:2" in capsys.readouterr().err


def test_faint_tracks_are_left_out_of_results_but_kept_in_the_folder(workspace: Path) -> None:
    """The same run again, with another limit, segments nothing anew."""
    output = workspace / "out"
    scores = {}
    for limit in ("0", "1", None):
        flags = ["--min_score", limit] if limit else []
        assert _run(workspace, "--dataset", "custom", "-o", str(output), *flags) == 0
        scores[limit] = [result["score"] for result in _results(output)]
        kept = [json.loads(path.read_text())["tracks"] for path in sorted((output / "sequences").iterdir())]
        assert sum(map(len, kept)) == len(scores["0"])
    assert scores["1"] == [] and scores[None] == scores["0"] != []
    limit = str(sorted(scores["0"])[-1])
    assert _run(workspace, "--dataset", "custom", "-o", str(output), "--min_score", limit) == 0
    assert _results(output)[0]["score"] == float(limit)
    statistics = kept[0][0]["statistics"]
    assert 0 < statistics["posterior"] <= 1 and statistics["pixels"] > 0


def test_pictures_are_drawn_anew_where_their_settings_change(workspace: Path) -> None:
    inputs, output = ["--input", str(workspace / "images" / "two"), "--save_vis"], workspace / "model" / "inference"
    assert _run(workspace, *inputs) == 0
    first = (output / "overlays" / "two.webm").stat().st_mtime_ns
    assert _run(workspace, *inputs) == 0
    assert (output / "overlays" / "two.webm").stat().st_mtime_ns == first
    assert _run(workspace, *inputs, "--side_by_side") == 0
    assert (output / "overlays" / "two.webm").stat().st_mtime_ns != first


def test_a_model_that_ships_with_the_package_is_segmented_with_by_its_name(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """It brings its configuration and its class names; results go below the current folder."""
    shipped = workspace / "pretrained"
    for module in (weights_module, settings_module):
        monkeypatch.setattr(module, "PRETRAINED_DIR", shipped)
    monkeypatch.chdir(workspace)
    cfg = load_config(workspace / "model" / "config.yaml")
    info = ModelInfo(config=cfg.to_dict(), category_names={1: "lion", 2: "lamb"}, about={"license": "research only"})
    network = build_network(cfg)
    load_model_weights(network, workspace / "model" / "000001.pth")
    shipped.mkdir()
    torch.save(pack_model(network.state_dict(), info), shipped / "tiny.pth")
    command = ["--input", "images/three", "--save_vis", "--device", "cpu", "--num_cpu_workers", "1"]
    assert inference_main.main(["tiny", *command]) == 0
    page = (workspace / "segmented" / "three" / "report.html").read_text(encoding="utf-8")
    assert ("lion" in page or "lamb" in page) and "research only" in page
    assert inference_main.main(["huge", *command]) == 1
    assert "the name of a model that ships with the package: tiny" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--dataset", "davis", "--every", "2"], "give --input, not --dataset"),
        (["--input", "x", "--every", "0"], "expected 1 or more"),
        (["--input", "x", "--frames", "5:1"], "--frames: '5:1' holds no frames"),
        (["--input", "x", "--frames", ":99999999999"], "goes beyond frame 1000000000"),
        (["--input", "x", "--seqs", "one"], "choose sequences of a dataset"),
        (["--input", "x", "--split", "val"], "choose sequences of a dataset"),
        (["--input", "x", "--side_by_side"], "--save_vis; give both"),
    ],
)
def test_parts_that_cannot_be_are_refused(flags: list[str], expected: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["weights.pth", *flags])
    assert expected in capsys.readouterr().err


def test_classes_of_a_custom_model_are_named(workspace: Path) -> None:
    """By its dataset where that is at hand, by the checkpoint else."""
    cfg = load_config(workspace / "model" / "config.yaml")
    assert configured_names(cfg) == {1: "cat", 2: "dog"}
    (workspace / "val.json").unlink()
    assert configured_names(cfg) == {}
    videos = open_inputs([workspace / "images" / "two"], cfg, {1: "lion", 2: "lamb"}, FrameRange())
    assert videos.category_names == {1: "lion", 2: "lamb"}


@pytest.mark.parametrize("damage", ["other keys", "other shape", "not finite"])
def test_weights_that_do_not_fit_are_refused_before_anything_is_opened_or_made(
    workspace: Path, capsys: pytest.CaptureFixture, damage: str
) -> None:
    path = workspace / "model" / "000001.pth"
    model = torch.load(path, weights_only=True)["model"]
    name, value = next((name, value) for name, value in model.items() if value.is_floating_point())
    changes = {
        "other keys": {"stranger": value},
        "other shape": {name: torch.zeros(7)},
        "not finite": {name: torch.full_like(value, torch.nan)},
    }
    torch.save({"model": {**model, **changes[damage]}}, path)
    (workspace / "val.json").write_text("damaged too, but not looked at")
    assert _run(workspace, "--dataset", "custom", "-o", str(workspace / "out")) == 1
    error = capsys.readouterr().err
    assert str(path) in error and next(iter(changes[damage])) in error and "val.json" not in error
    assert not (workspace / "out").exists()


def test_an_unreadable_frame_is_named(workspace: Path, capsys: pytest.CaptureFixture) -> None:
    (workspace / "images" / "two" / "00001.jpg").write_bytes(b"broken")
    assert _run(workspace, "--dataset", "custom") == 1
    assert "sequence 'two', frame 1" in capsys.readouterr().err


def test_a_missing_configuration_is_explained(workspace: Path, capsys: pytest.CaptureFixture) -> None:
    (workspace / "model" / "config.yaml").unlink()
    assert _run(workspace, "--input", str(workspace / "images" / "one")) == 1
    assert "no config.yaml beside" in capsys.readouterr().err


def test_processes_share_the_sequences(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, one after the other; the main one comes last, so that it need not wait."""
    assert _run(workspace, "--dataset", "custom", "-o", str(workspace / "alone")) == 0
    monkeypatch.setattr(job_module.time, "sleep", lambda _: pytest.fail("nothing to wait for"))
    output = workspace / "shared"
    assert _run(workspace, "--dataset", "custom", "-o", str(output), "--seqs", "two") == 0  # makes the folder
    (output / "results.json").unlink()
    for rank in (1, 0):
        process = ProcessInfo(rank, 2, rank)
        monkeypatch.setattr(run.distributed, "initialize", lambda device, process=process: process)
        assert _run(workspace, "--dataset", "custom", "-o", str(output)) == 0
        assert (output / "results.json").exists() == (rank == 0)
    assert _results(output) == _results(workspace / "alone")


def test_shares_are_complete_disjoint_and_balanced() -> None:
    class Source:
        def __init__(self, length: int) -> None:
            self.expected_length = length

    sources = [Source(length) for length in (5, 90, 10, 80, 20, 70, 60)]
    shares = [share_of(sources, ProcessInfo(rank, 3, rank)) for rank in range(3)]
    assert sorted(id(s) for share in shares for s in share) == sorted(id(s) for s in sources)
    assert max(sum(s.expected_length for s in share) for share in shares) <= 170


def test_a_script_can_segment_a_video_with_a_network_in_training(workspace: Path) -> None:
    cfg = load_config(workspace / "model" / "config.yaml")
    network = build_network(cfg).train()
    tracks = segment_video(network, open_path(workspace / "images" / "one"), cfg)
    assert network.training
    assert (tracks.sequence_id, tracks.num_frames, tracks.height, tracks.width) == ("one", 6, 60, 80)


def test_the_command_runs_the_network_without_its_norms(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = load_config(workspace / "model" / "config.yaml", ["MODEL.BACKBONE.NORM=frozen"])
    cfg.save(workspace / "model" / "config.yaml")
    torch.save({"model": build_network(cfg).state_dict()}, workspace / "model" / "000001.pth")

    def refuse(self: FrozenBatchNorm, x: torch.Tensor) -> torch.Tensor:
        raise AssertionError("a norm ran that should be part of its convolution")

    monkeypatch.setattr(FrozenBatchNorm, "forward", refuse)
    assert _run(workspace, "--input", str(workspace / "images" / "two")) == 0


def test_output_folders_that_cannot_be_are_one_line(workspace: Path, capfd: pytest.CaptureFixture) -> None:
    (workspace / "file").write_text("a file")
    video = ["--input", str(workspace / "images" / "two")]
    assert _run(workspace, *video, "-o", str(workspace / "file")) == 1
    assert "could not make the folder" in capfd.readouterr().err
    assert _run(workspace, *video, "-o", str(workspace / ("a" * 300))) == 1
    assert "File name too long; choose a shorter name" in capfd.readouterr().err


def test_mixed_precision_segments_alike(workspace: Path) -> None:
    cfg = load_config(workspace / "model" / "config.yaml")
    network, source = build_network(cfg), open_path(workspace / "images" / "two")
    load_model_weights(network, workspace / "model" / "000001.pth")
    mixed = load_config(workspace / "model" / "config.yaml", ["INFERENCE.AMP=bf16"])
    covered = [
        [sum(rle_area(t.segmentations[f], 60, 80) for t in tracks.tracks if t.segmentations[f]) for f in range(3)]
        for tracks in (segment_video(network, source, c) for c in (cfg, mixed))
    ]
    assert min(covered[0]) > 0
    np.testing.assert_allclose(covered[1], covered[0], atol=0.15 * 60 * 80)


def test_flags_change_the_configuration(workspace: Path) -> None:
    checkpoint = str(workspace / "model" / "000001.pth")
    flags = ["--dataset", "custom", "--max_dim", "192", "-fo", "3", "-st", "0.4", "-msp", "0.7", "--max_tracks", "5"]
    flags += ["--resize_embeddings", "--amp", "bf16"]
    options = parse_arguments([checkpoint, *flags, "--set", "CLUSTERING.MAX_INSTANCES=7"])
    cfg = load_run_config(options)
    assert (cfg.INPUT.MIN_DIM, cfg.INPUT.MAX_DIM) == (128, 192)  # the configured ratio
    assert (cfg.DATA.CUSTOM.INFERENCE_FRAME_OVERLAP, cfg.DATA.CUSTOM.MAX_INFERENCE_TRACKS) == (3, 5)
    assert (cfg.INFERENCE.SEEDINESS_THRESHOLD, cfg.CLUSTERING.MIN_SEEDINESS_PROB) == (0.4, 0.7)
    assert (cfg.INFERENCE.RESIZE_EMBEDDINGS, cfg.INFERENCE.AMP, cfg.CLUSTERING.MAX_INSTANCES) == (True, "bf16", 7)
    assert output_directory(options) == workspace / "model" / "inference"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--max_dim 1", "--max_dim 1 makes INPUT.MIN_DIM 1, expected a number from 16"),
        ("--min_dim 20 --max_dim 31", "--min_dim 20 --max_dim 31 makes INPUT.MAX_DIM 31, expected a number from 32"),
        ("--min_dim 0", "--min_dim 0 makes INPUT.MIN_DIM 0"),
        ("--min_dim 20000", "--min_dim 20000 makes INPUT.MIN_DIM 20000"),
        ("--min_dim 200 --max_dim 100", "--min_dim 200 --max_dim 100: the shorter side can't be longer"),
    ],
)
def test_sizes_that_no_network_can_see_are_refused_by_their_flag(workspace: Path, flags: str, expected: str) -> None:
    checkpoint = str(workspace / "model" / "000001.pth")
    with pytest.raises(ConfigError, match=expected):
        load_run_config(parse_arguments([checkpoint, "--dataset", "custom", *flags.split()]))


def test_a_checkpoint_alone_takes_the_configuration_of_the_dataset(tmp_path: Path) -> None:
    shutil.copy(__file__, tmp_path / "weights.pth")
    for dataset, classes in (("davis", 2), ("ytvis", 41), ("ytvis21", 41), ("kittimots", 3)):
        options = parse_arguments([str(tmp_path / "weights.pth"), "-d", dataset])
        cfg = load_run_config(options)
        assert classes == cfg.INPUT.NUM_CLASSES


def test_filters_come_from_the_configuration() -> None:
    filters = build_track_filters(load_config("kitti_mots_2"))
    assert (filters[1].min_area, filters[2].min_length, filters[2].max_gap_ratio) == (150, 10, 0.5)
    assert build_track_filters(load_config("kitti_mots_2", ["DATA.KITTI_MOTS.FILTER_RESULTS=false"])) == {}


def test_an_overlap_of_a_whole_clip_is_refused(workspace: Path, capsys: pytest.CaptureFixture) -> None:
    assert _run(workspace, "--dataset", "custom", "--frame_overlap", "4") == 1
    assert "frame overlap is 4, expected 1 to 3" in capsys.readouterr().err


def test_too_many_tracks_for_a_palette_are_refused_before_the_work(workspace: Path) -> None:
    options = parse_arguments([str(workspace / "model" / "000001.pth"), "--input", "x", "--max_tracks", "300"])
    with pytest.raises(ConfigError, match="--max_tracks 255"):
        run.build_writers(load_run_config(options), None, workspace)


def test_results_are_measured_against_annotations(workspace: Path, capfd: pytest.CaptureFixture) -> None:
    """Without annotations nothing is segmented; with a run's own tracks as annotations the masks are perfect."""
    output = workspace / "model" / "inference"
    assert _run(workspace, "--dataset", "custom", "--evaluate") == 1
    assert "can't be computed locally" in capfd.readouterr().err
    assert not (output / "results.json").exists()

    assert _run(workspace, "--dataset", "custom", "--seqs", "two") == 0
    tracks = sorted(_results(output), key=lambda track: -track["score"])[:2]
    segmentations = [
        {i: track["segmentations"][t]["counts"] for i, track in enumerate(tracks, 1) if track["segmentations"][t]}
        for t in range(LENGTHS["two"])
    ]
    categories = {i: track["category_id"] for i, track in enumerate(tracks, 1)}
    paths = [f"two/{t:05d}.jpg" for t in range(LENGTHS["two"])]
    sequence = VideoSequence("two", 60, 80, paths, categories=categories, segmentations=segmentations)
    save_video_annotations(workspace / "val.json", [sequence], {1: "cat", 2: "dog"})
    assert _run(workspace, "--dataset", "custom", "--evaluate") == 0
    davis = json.loads((output / "evaluation" / "davis" / "metrics.json").read_text())
    assert davis["summary"]["J&F-Mean"] == 1.0
    youtube_vis = json.loads((output / "evaluation" / "youtube_vis" / "metrics.json").read_text())
    assert youtube_vis["summary"]["AR10"] == 1.0


def test_measuring_needs_a_dataset(workspace: Path) -> None:
    with pytest.raises(SystemExit):
        _run(workspace, "--input", str(workspace / "images" / "one"), "--evaluate")
