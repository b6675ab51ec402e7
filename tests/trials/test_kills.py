"""Training and inference are ended at random moments, again and again, and end as if nothing had happened.

A moment is a number of calls of Python functions, drawn from a seed, so that no machine's speed decides anything. Each
attempt is a fork of this process, in which everything is imported already.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch

from stemseg.config import load_config
from stemseg.inference.main import main as inference_main
from stemseg.modeling.network import build_network
from stemseg.structures.annotations import VideoSequence, save_video_annotations
from stemseg.training.main import main as training_main
from tests.helpers.small_network import SMALL_CUSTOM_MODEL, SMALL_NETWORK
from tests.helpers.tiny_datasets import make_sequence

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
NUM_KILLS = 2  # of a run, before it may end by itself
TRAINING_SEEDS, INFERENCE_SEEDS = range(2), range(2)
# what commands import late, imported once for all forks
for _name in ("training.run", "inference.run", "data.check", "data.imgaug_import"):
    importlib.import_module(f"stemseg.{_name}")


def attempt(work: Callable[[], int], *, calls: int = 0, number: int = 0) -> int:
    """Do some work in a fork, which gets signal ``number`` at its ``calls``-th call; its status, as waitpid has it."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            with open(os.devnull, "w") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), 1)
                os.dup2(nowhere.fileno(), 2)
            if calls:
                sys.settrace(_Alarm(calls, number))
            code = work()
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


class _Alarm:
    """Sends a signal to its own process at a certain call."""

    def __init__(self, calls: int, number: int) -> None:
        self.left = calls
        self._number = number

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call":
            return
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self._number)


def count_calls(work: Callable[[], int], note: Path) -> int:
    """The number of calls of a run that nothing disturbs."""

    def counted() -> int:
        alarm = _Alarm(0, 0)
        sys.settrace(alarm)
        code = work()
        sys.settrace(None)
        note.write_text(str(-alarm.left))
        return code

    assert attempt(counted) == 0
    return int(note.read_text())


def kill_again_and_again(work: Callable[[], int], *, total: int, seed: int) -> list[int]:
    """Attempts that are killed at random moments, then one that is not; the statuses of the killed ones."""
    rng = np.random.default_rng(seed)
    statuses = []
    for _ in range(NUM_KILLS):
        number = SIGNALS[rng.integers(len(SIGNALS))]
        statuses.append(attempt(work, calls=int(rng.integers(1, total)), number=number))
    assert attempt(work) == 0
    return statuses


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    sequences = [make_sequence(folder, f"seq{i}", 6, size=(64, 96), seed=i) for i in range(3)]
    save_video_annotations(folder / "train.json", sequences, {1: "circle", 2: "square", 3: "star"})
    plain = [VideoSequence(s.id, s.height, s.width, s.image_paths) for s in sequences]
    save_video_annotations(folder / "val.json", plain, {1: "cat", 2: "dog"})
    return folder


@pytest.fixture(scope="module")
def training(data: Path) -> tuple[Callable[[Path], int], int, dict[str, Any]]:
    settings = [
        *SMALL_NETWORK,
        "TRAINING.MODE=custom",
        "DATA.MIX={custom: 1.0}",
        "TRAINING.MAX_ITERATIONS=4",
        "TRAINING.BATCH_SIZE=1",
        "INPUT.MIN_DIM=32",
        "INPUT.MAX_DIM=48",
        "INPUT.NUM_FRAMES=2",
        "DATA.CUSTOM.FRAME_GAP_LOWER=2",
        "DATA.CUSTOM.FRAME_GAP_UPPER=3",
        f"DATA.CUSTOM.TRAIN_JSON={data / 'train.json'}",
        f"DATA.CUSTOM.TRAIN_IMAGES={data}",
    ]
    flags = ["--cfg", "davis_1", "--device", "cpu", "--num_cpu_workers", "0"]
    flags += ["--summary_interval", "1", "--save_interval", "2"]

    def train(folder: Path) -> int:
        return training_main(["--model_dir", str(folder), *flags, "--set", *settings])

    whole = data / "whole"
    total = count_calls(lambda: train(whole), data / "calls.txt")
    return train, total, outcome(whole)


def outcome(folder: Path) -> dict[str, Any]:
    """Everything that a run leaves but times and memory."""
    content = torch.load(folder / "000004.pth", weights_only=True)
    lines = [json.loads(line) for line in (folder / "logs" / "metrics.jsonl").read_text().splitlines()]
    figures = [{k: v for k, v in line.items() if not k.startswith(("time/", "memory/"))} for line in lines]
    return {
        "metrics": figures,
        "iterations": content["iterations"],
        "model": content["model"],
        "moments": {
            f"{i} {name}": value
            for i, values in content["optimizer"]["state"].items()
            for name, value in values.items()
            if torch.is_tensor(value)
        },
    }


@pytest.mark.parametrize("seed", TRAINING_SEEDS)
def test_a_killed_training_ends_as_an_undisturbed_one(training, tmp_path: Path, seed: int) -> None:
    train, total, expected = training
    statuses = kill_again_and_again(lambda: train(tmp_path / "run"), total=total, seed=seed)
    assert all(status != 70 << 8 for status in statuses), "an error of its own ended an attempt"
    found = outcome(tmp_path / "run")
    assert [line["iteration"] for line in found["metrics"]] == [1, 2, 3, 4]
    assert found["metrics"] == expected["metrics"] and found["iterations"] == expected["iterations"]
    for part in ("model", "moments"):
        assert found[part].keys() == expected[part].keys()
        assert all(torch.equal(found[part][name], expected[part][name]) for name in expected[part])
    assert not [
        path for path in (tmp_path / "run").rglob("*") if path.name.endswith(".part") or path.name == "lock.json"
    ]


@pytest.fixture(scope="module")
def inference(data: Path) -> tuple[Callable[[Path], int], int, dict[str, bytes]]:
    cfg = load_config(
        None,
        [*SMALL_CUSTOM_MODEL, f"DATA.CUSTOM.VAL_JSON={data / 'val.json'}", f"DATA.CUSTOM.VAL_IMAGES={data}"],
    )
    (data / "model").mkdir()
    cfg.save(data / "model" / "config.yaml")
    torch.manual_seed(0)
    torch.save({"model": build_network(cfg).state_dict()}, data / "model" / "000001.pth")

    def infer(folder: Path) -> int:
        flags = ["--dataset", "custom", "--device", "cpu", "--num_cpu_workers", "0", "-o", str(folder)]
        return inference_main([str(data / "model" / "000001.pth"), *flags])

    total = count_calls(lambda: infer(data / "found"), data / "calls.txt")
    return infer, total, files(data / "found")


def files(folder: Path) -> dict[str, bytes]:
    """Content of every file, by name; of archives, which hold times, the name alone."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): b"" if p.suffix == ".zip" else p.read_bytes() for p in paths}


@pytest.mark.parametrize("seed", INFERENCE_SEEDS)
def test_a_killed_inference_ends_as_an_undisturbed_one(inference, tmp_path: Path, seed: int) -> None:
    infer, total, expected = inference
    statuses = kill_again_and_again(lambda: infer(tmp_path / "out"), total=total, seed=1000 + seed)
    assert all(status != 70 << 8 for status in statuses), "an error of its own ended an attempt"
    assert len(json.loads(expected["results.json"])) > 3
    assert files(tmp_path / "out") == expected
