"""The training command, from annotation file and images to checkpoints, logs and back."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from stemseg.config import load_config
from stemseg.modeling.network import build_network
from stemseg.modeling.weights import load_model_weights
from stemseg.structures.rle import encode_rle
from stemseg.training.main import main
from stemseg.utils.folder_lock import held_folder
from tests.helpers.paths import ROOT
from tests.helpers.small_network import SMALL_NETWORK

SMALL = [
    "TRAINING.MODE=custom",
    "TRAINING.BATCH_SIZE=2",
    "DATA.MIX={custom: 1.0}",
    *SMALL_NETWORK,
    "INPUT.MIN_DIM=96",
    "INPUT.MAX_DIM=128",
    "INPUT.NUM_FRAMES=2",
]


@pytest.fixture(scope="module")
def tiny_dataset(tmp_path_factory) -> list[str]:
    """One video of four frames, in which a square moves; returns the overrides that name it."""
    folder = tmp_path_factory.mktemp("data")
    segmentations, paths = [], []
    for t in range(4):
        image = np.random.default_rng(t).integers(0, 90, (96, 128, 3), dtype=np.uint8)
        mask = np.zeros((96, 128), np.uint8)
        mask[20:60, 10 + 10 * t : 60 + 10 * t] = 1
        image[mask == 1] += 120
        cv2.imwrite(str(folder / f"{t}.jpg"), image)
        segmentations.append({"1": encode_rle(mask)})
        paths.append(f"{t}.jpg")
    sequence = {"id": "square", "height": 96, "width": 128, "image_paths": paths, "categories": {"1": 1}}
    video = {"meta": {"category_labels": {"1": "square"}}, "sequences": [sequence | {"segmentations": segmentations}]}
    (folder / "train.json").write_text(json.dumps(video))
    gaps = ["DATA.CUSTOM.FRAME_GAP_LOWER=2", "DATA.CUSTOM.FRAME_GAP_UPPER=3"]
    return [f"DATA.CUSTOM.TRAIN_JSON={folder / 'train.json'}", f"DATA.CUSTOM.TRAIN_IMAGES={folder}", *gaps]


@pytest.fixture
def command(tmp_path, tiny_dataset, monkeypatch):
    """Runs the training command with small settings and further options; returns its exit code."""
    monkeypatch.setenv("STEMSEG_MODELS_DIR", str(tmp_path))

    def run(*options: str, overrides: tuple[str, ...] = ("TRAINING.MAX_ITERATIONS=3",), name: str = "run") -> int:
        fixed = ["--model_dir", name, "--cfg", "davis_1", "--device", "cpu", "--num_cpu_workers", "0"]
        return main([*fixed, *options, "--set", *SMALL, *tiny_dataset, *overrides])

    return run


def _model(path: Path):
    return torch.load(path, weights_only=True)["model"]


def test_a_run_leaves_checkpoint_config_and_logs(command, tmp_path):
    intervals = ["--summary_interval", "1", "--picture_interval", "1", "--save_interval", "2", "--ckpts_to_keep", "1"]
    assert command(*intervals) == 0
    directory = tmp_path / "checkpoints" / "custom" / "run"
    assert [p.name for p in directory.glob("*.pth")] == ["000003.pth"]
    assert list((directory / "logs").glob("events*"))
    network = build_network(load_config(directory / "config.yaml"))
    load_model_weights(network, directory / "000003.pth")


def test_a_run_restored_where_it_is_complete_says_so(command, tmp_path, capfd):
    assert command() == 0
    done = tmp_path / "checkpoints" / "custom" / "run" / "000003.pth"
    assert command("--restore_session", str(done), name="again") == 0
    assert f"training is complete: nothing is left to do; see {done}" in capfd.readouterr().err


def test_a_run_cut_short_and_resumed_ends_with_the_same_weights(command, tmp_path, monkeypatch):
    whole, cut = (tmp_path / "checkpoints" / "custom" / name for name in ("whole", "cut"))
    assert command(name="whole") == 0
    assert command("--save_interval", "1", name="cut") == 0
    for late in (cut / "000003.pth", cut / "000002.pth"):
        late.unlink()
    assert command(name="cut") == 0
    expected, found = _model(whole / "000003.pth"), _model(cut / "000003.pth")
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_a_run_without_a_name_has_that_of_its_configuration_and_goes_on_there(
    tmp_path, tiny_dataset, monkeypatch, capfd
):
    monkeypatch.setenv("STEMSEG_MODELS_DIR", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("TRAINING: {MAX_ITERATIONS: 1}")
    command = ["--cfg", str(tmp_path / "mine.yaml"), "--device", "cpu", "--num_cpu_workers", "0"]
    directory = tmp_path / "checkpoints" / "custom" / "mine"
    assert main([*command, "--set", *SMALL, *tiny_dataset]) == 0
    assert f"this run is {directory} (--model_dir" in capfd.readouterr().err.splitlines()[0]
    assert main([*command, "--set", *SMALL, *tiny_dataset, "TRAINING.MAX_ITERATIONS=2"]) == 0
    assert f"going on from {directory / '000001.pth'}" in capfd.readouterr().err
    assert sorted(path.name for path in directory.glob("*.pth")) == ["000001.pth", "000002.pth"]


def test_a_folder_in_use_is_refused_and_left_alone(command, tmp_path, capfd):
    folder = tmp_path / "checkpoints" / "custom" / "run"
    with held_folder(folder):
        assert command() == 1
        assert "run is in use by process" in capfd.readouterr().err
        assert [path.name for path in folder.iterdir()] == ["lock.json"]


@pytest.mark.parametrize("flag", ["--initial_ckpt", "--restore_session"])
def test_weights_that_do_not_fit_are_refused_before_data_are_read_and_a_folder_is_made(command, tmp_path, capfd, flag):
    torch.save(
        {"model": {"stranger": torch.zeros(2)}, "optimizer": {"state": {}, "param_groups": []}, "iterations": 3},
        tmp_path / "other.pth",
    )
    code = command(flag, str(tmp_path / "other.pth"), overrides=("DATA.CUSTOM.TRAIN_JSON=/nothing.json",))
    error = capfd.readouterr().err
    assert code == 1 and "does not fit the network" in error and "1 unexpected: stranger" in error
    assert not (tmp_path / "checkpoints").exists()


def test_fewer_iterations_than_are_done_are_refused_and_the_record_kept(command, tmp_path, capfd):
    assert command(overrides=("TRAINING.MAX_ITERATIONS=2",)) == 0
    config = tmp_path / "checkpoints" / "custom" / "run" / "config.yaml"
    before = config.read_text()
    assert command("--save_minutes", "5", overrides=("TRAINING.MAX_ITERATIONS=1",)) == 1
    assert "has 2 iterations done, but TRAINING.MAX_ITERATIONS is 1" in capfd.readouterr().err
    assert command(overrides=("TRAINING.MAX_ITERATIONS=3", "TRAINING.OPTIMIZER=Adam")) == 1
    assert "was trained with SGD, but TRAINING.OPTIMIZER is Adam" in capfd.readouterr().err
    assert config.read_text() == before


def test_the_resolved_configuration_is_shown_and_nothing_else_happens(command, tmp_path, capsys):
    assert command("--show_config") == 0
    shown = tmp_path / "shown.yaml"
    shown.write_text(capsys.readouterr().out)
    assert load_config(shown).TRAINING.MAX_ITERATIONS == 3
    assert load_config(shown).DATA.MIX == {"custom": 1.0}
    assert not (tmp_path / "checkpoints").exists()


def test_user_mistakes_are_one_line_and_exit_code_1(command, capsys):
    assert command(overrides=("TRAINING.NO_SUCH_KEY=1",)) == 1
    assert "unknown key 'TRAINING.NO_SUCH_KEY'" in capsys.readouterr().err
    assert command(overrides=("DATA.CUSTOM.TRAIN_JSON=/nowhere.json",)) == 1
    assert "/nowhere.json" in capsys.readouterr().err


def test_the_script_runs_from_a_clone_without_installation(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, str(ROOT / "stemseg" / "training" / "main.py"), "--help"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "--restore_session" in result.stdout


def test_a_held_out_split_is_measured_and_the_best_checkpoint_kept(command, tmp_path, tiny_dataset):
    train_json, images = (entry.partition("=")[2] for entry in tiny_dataset[:2])
    held_out = (
        f"DATA.CUSTOM.VAL_JSON={train_json}",
        f"DATA.CUSTOM.VAL_IMAGES={images}",
        "TRAINING.MAX_ITERATIONS=2",
        "DATA.CUSTOM.INFERENCE_FRAME_OVERLAP=1",
    )
    assert command("--eval_interval", "1", overrides=held_out) == 0
    run = tmp_path / "checkpoints" / "custom" / "run"
    best = json.loads((run / "best.json").read_text())
    assert best["iteration"] in (1, 2)
    assert torch.load(run / "best.pth", weights_only=True)["iterations"] == best["iteration"]


def test_training_goes_on_the_same_after_a_validation(command, tmp_path, tiny_dataset, monkeypatch):
    """Bit for bit; no norm runs in evaluation mode, since validation runs a copy whose norms are folded."""
    modes = set()
    forward = nn.BatchNorm2d.forward
    monkeypatch.setattr(nn.BatchNorm2d, "forward", lambda self, x: modes.add(self.training) or forward(self, x))
    train_json, images = (entry.partition("=")[2] for entry in tiny_dataset[:2])
    settings = (
        f"DATA.CUSTOM.VAL_JSON={train_json}",
        f"DATA.CUSTOM.VAL_IMAGES={images}",
        "TRAINING.MAX_ITERATIONS=3",
        "DATA.CUSTOM.INFERENCE_FRAME_OVERLAP=1",
        "MODEL.BACKBONE.NORM=batch",
    )
    assert command("--eval_interval", "1", overrides=settings, name="measured") == 0
    assert command(overrides=settings, name="plain") == 0
    plain, measured = (
        torch.load(tmp_path / "checkpoints" / "custom" / name / "000003.pth", weights_only=True)
        for name in ("plain", "measured")
    )
    assert modes == {True}
    assert all(torch.equal(plain["model"][key], measured["model"][key]) for key in plain["model"])
    moments = [c["optimizer"]["state"] for c in (plain, measured)]
    assert all(torch.equal(a[k], moments[1][i][k]) for i, a in moments[0].items() for k in a if torch.is_tensor(a[k]))


@pytest.mark.parametrize("change", ["MODEL.BACKBONE.FREEZE_AT_STAGE=2", "TRAINING.FREEZE_BACKBONE=true"])
def test_random_weights_that_would_stay_random_are_refused(command, tmp_path, capfd, change):
    assert command(overrides=("TRAINING.MAX_ITERATIONS=1", change)) == 1
    assert "are frozen and would stay random: backbone.body." in capfd.readouterr().err
    assert not list(tmp_path.rglob("config.yaml"))


def test_norms_that_never_normalize_are_warned_of(command, capfd):
    assert command(overrides=("TRAINING.MAX_ITERATIONS=1", "MODEL.BACKBONE.NORM=frozen")) == 0
    assert "frozen norms (MODEL.BACKBONE.NORM=frozen) normalize nothing" in capfd.readouterr().err


def test_a_batch_that_processes_cannot_share_is_said_once_before_anything_is_made(
    command, tmp_path, capfd, monkeypatch
):
    for name, value in {"RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert command() == 1
    assert "3 processes cannot share batches of 2 clips" in capfd.readouterr().err
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert command() == 1
    assert not capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_one_line_and_exit_code_1(command, tmp_path, capfd):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "custom").write_text("a file")
    assert command() == 1
    error = capfd.readouterr().err
    assert "OutputError: could not make the folder" in error and "Traceback" not in error


def test_measuring_needs_annotations(command, tmp_path, tiny_dataset, capfd):
    train_json, images = (entry.partition("=")[2] for entry in tiny_dataset[:2])
    content = json.loads(Path(train_json).read_text())
    content["sequences"][0].pop("segmentations")
    (tmp_path / "val.json").write_text(json.dumps(content))
    held_out = (f"DATA.CUSTOM.VAL_JSON={tmp_path / 'val.json'}", f"DATA.CUSTOM.VAL_IMAGES={images}")
    assert command("--eval_interval", "1", overrides=held_out) == 1
    assert "frame overlap is 4" in capfd.readouterr().err, "what would end the first evaluation ends the start"
    held_out += ("DATA.CUSTOM.INFERENCE_FRAME_OVERLAP=1",)
    assert command("--eval_interval", "1", overrides=held_out) == 1
    assert "can't be computed locally" in capfd.readouterr().err


def test_held_out_images_are_looked_at_before_a_training(command, tmp_path, tiny_dataset, capfd):
    train_json = tiny_dataset[0].partition("=")[2]
    (tmp_path / "val.json").write_bytes(Path(train_json).read_bytes())
    held_out = (f"DATA.CUSTOM.VAL_JSON={tmp_path / 'val.json'}", f"DATA.CUSTOM.VAL_IMAGES={tmp_path}")
    held_out += ("DATA.CUSTOM.INFERENCE_FRAME_OVERLAP=1",)
    assert command("--eval_interval", "1", overrides=held_out) == 1
    error = capfd.readouterr().err
    assert "val.json: 4 problems among 4 images" in error and "sequence 'square', frame 0" in error
    assert not (tmp_path / "checkpoints").exists()
