"""Sound records, checkpoints and videos."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from stemseg.config import load_config
from stemseg.inference import main as infer
from stemseg.inference.result_folder import ResultFolder
from stemseg.modeling.network import build_network
from stemseg.structures.tracks import Track, VideoTracks
from stemseg.training.checkpoints import CheckpointStore
from stemseg.utils.arguments import run_command
from tests.helpers import tiny_datasets
from tests.helpers.evaluation_samples import HEIGHT, WIDTH, box, write_json
from tests.helpers.small_network import SMALL_CUSTOM_MODEL
from tests.trials.bench import Bench, a_number, a_text, an_inner_path, one_of
from tests.trials.lists_and_images import damaged_images
from tests.trials.mutations import DELETE, TWICE, Mutation, text_mutations


def own_records(folder: Path) -> Bench:
    """The record of a finished sequence in a folder of results, as a run that goes on reads it."""
    results_folder = ResultFolder(folder)
    results_folder.open({})
    results_folder.save(
        VideoTracks("bear", HEIGHT, WIDTH, 2, ["00000", "00001"], [Track(1, 3, 0.5, [box(2, 2, 9, 9), None])])
    )
    path = folder / "sequences/bear.json"
    document = json.loads(path.read_text())

    def read(_: Sequence[str]) -> int:
        return run_command(lambda: results_folder.load("bear"))

    return Bench(
        "record of a sequence",
        path,
        read,
        [],
        document,
        {
            "*": one_of(TWICE),
            "input": one_of(None, {}, DELETE, TWICE),
            "input/*": lambda v: v in (None, {}, {"a": 1}, "", DELETE, TWICE) or a_text(v),
            "frame_names/*": lambda v: an_inner_path(v) and "/" not in v,
            "tracks": one_of([], TWICE),
            "tracks/*": one_of(DELETE, TWICE),
            "tracks/*/score": lambda v: a_number(v) or v == TWICE,
            "tracks/*/category_id": one_of(0),
            "tracks/*/statistics": one_of(None, DELETE, TWICE),
            "tracks/*/*": one_of(TWICE),
            "tracks/*/segmentations/*": one_of(None),
            "tracks/*/track_id": one_of(7),
        },
        num_cases=60,
    )


def best_record(folder: Path) -> Bench:
    """The record of a training run's best checkpoint, as the next evaluation reads it."""
    document = {"iteration": 5, "value": 0.5, "measure": "AP"}
    path = write_json(folder / "best.json", document)
    store = CheckpointStore(folder, keep=1)

    def save(_: Sequence[str]) -> int:
        return run_command(lambda: store.save_best({}, 9, 0.1, measure="AP"))

    return Bench(
        "best.json",
        path,
        save,
        [],
        document,
        {
            "value": a_number,
            "*": one_of(TWICE),
            "iteration": one_of(0),
            "measure": lambda v: v in (None, DELETE) or a_text(v),
        },
        num_cases=40,
    )


def _small_model(folder: Path, *, with_config: bool = True) -> Path:
    cfg = load_config(None, SMALL_CUSTOM_MODEL)
    if with_config:
        cfg.save(folder / "config.yaml")
    torch.manual_seed(0)
    path = folder / "model.pth"
    torch.save({"model": build_network(cfg).state_dict(), "category_names": {"1": "cat", "2": "dog"}}, path)
    return path


def _frames(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [folder / "clip" / f"{t:05d}.png" for t in range(3)]
    for path in paths:
        tiny_datasets.write_image(path, rng, 24, 40)
    return paths


def _inference(folder: Path, video: Path) -> list[Any]:
    return [
        folder / "model.pth",
        "--input",
        video,
        "-o",
        folder / "out",
        "--overwrite",
        "--device",
        "cpu",
        "--num_cpu_workers",
        "0",
    ]


def checkpoint(folder: Path) -> Bench:
    """A checkpoint, inferred with."""
    _frames(folder)
    path = _small_model(folder)
    content = path.read_bytes()
    found = [Mutation(f"cut to {k}/8", content[: len(content) * k // 8], ("cut",)) for k in range(8)]
    found += [Mutation(m.name, m.content, ("kind",)) for m in text_mutations("hello")]
    found += [Mutation(f"garbage {seed}", np.random.default_rng(seed).bytes(500), ("garbage",)) for seed in range(10)]
    found += [Mutation(f"pickle {text!r}", text, ("pickle",)) for text in (
        b"\x80\x02.", b"\x80\x04N.", b"\x80\x04K\x01.", b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.",
        b"\x80\x04]q\x00h\x00a." * 50,
        b"\x80\x02" + b"(" * 100_000, b"\x80\x02h\xff.", b"\x80\x02}q\x00.",
    )]  # fmt: skip
    state = torch.load(path, weights_only=True)
    ruined = {
        name: tensor * math.nan if tensor.is_floating_point() else tensor for name, tensor in state["model"].items()
    }
    values = (
        1,
        [1, 2],
        {},
        {"model": 1},
        {"model": {}},
        {"model": {"a": 1}},
        state | {"config": 1},
        state | {"category_names": [1]},
        state | {"category_names": {"x": "cat"}},
        state | {"about": "x"},
        {"model": ruined},
        torch.zeros(3),
        {"model": [1]},
        {"model": {1: torch.zeros(3)}},
        state | {"config": {"INPUT": 1}},
        state | {"config": {1: {}}},
        "hello",
    )
    for i, value in enumerate(values):
        buffer = io.BytesIO()
        torch.save(value, buffer)
        found.append(Mutation(f"value {i}", buffer.getvalue(), ("value",)))
    return Bench(
        "checkpoint",
        path,
        infer.main,
        _inference(folder, folder / "clip"),
        mutations=found,
        is_text=False,
        num_cases=100,
    )


def frame(folder: Path) -> Bench:
    """A frame of a folder of one's own pictures, segmented."""
    _small_model(folder)
    path = _frames(folder)[1]
    return Bench(
        "frame of a video",
        path,
        infer.main,
        _inference(folder, folder / "clip"),
        mutations=list(damaged_images(path)),
        is_text=False,
        harmless={"bit": lambda flipped: True},
        num_cases=12,
    )


def video(folder: Path) -> Bench:
    """A video file, segmented."""
    _small_model(folder)
    path = folder / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (40, 24))
    for number in range(4):
        writer.write(np.full((24, 40, 3), 40 * number, dtype=np.uint8))
    writer.release()
    content = path.read_bytes()
    found = [Mutation(f"cut to {k}/8", content[: len(content) * k // 8], ("cut",)) for k in range(8)]
    found += [Mutation(m.name, m.content, ("kind",)) for m in text_mutations("hello")]
    return Bench("video file", path, infer.main, _inference(folder, path), mutations=found, is_text=False, num_cases=14)
