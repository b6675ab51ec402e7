"""What the README tells its readers to do works: the custom dataset step by step, every command, key and file."""

import json
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

from stemseg.config import Config, load_config
from stemseg.data.dataset import build_training_dataset
from stemseg.data.sources import open_videos
from stemseg.datasets import DATASETS
from stemseg.structures.rle import encode_rle
from tests.helpers.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"python ((?:scripts|stemseg)/[\w/]+\.py[^\n|`]*)", README)))


def block(language: str, section: str) -> str:
    """The first code block of a language within a section."""
    text = README.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.search(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)[1]


def test_your_own_dataset_step_by_step(tmp_path, monkeypatch):
    content = json.loads(block("json", "Your own dataset"))
    sequence = content["sequences"][0]
    mask = np.zeros((sequence["height"], sequence["width"]))
    mask[100:300, 200:400] = 1
    for frame in sequence["segmentations"]:
        frame.update(dict.fromkeys(frame, encode_rle(mask)))
    sequence["image_paths"] = [f"clip_1/{t}.jpg" for t in range(12)]  # the README shows two frames; a clip needs more
    sequence["segmentations"] = [sequence["segmentations"][0]] * 12
    for name in sequence["image_paths"]:
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((*mask.shape, 3), 90, dtype=np.uint8))
    for split in ("train", "val"):
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    monkeypatch.setenv("MY_DATA", str(tmp_path))
    (tmp_path / "mine.yaml").write_text(block("yaml", "Your own dataset"))

    cfg = load_config(tmp_path / "mine.yaml", ["INPUT.MIN_DIM=48", "INPUT.MAX_DIM=64", "TRAINING.MAX_ITERATIONS=1"])
    clip = build_training_dataset(cfg)[0]
    assert clip.frames.shape == (8, 3, 48, 64)
    assert clip.targets.category_ids.tolist() == [2]
    assert clip.targets.masks.sum() == 8 * 20 * 20
    assert [s.id for s in open_videos("custom", "val", cfg).annotations] == ["clip_1"]


@pytest.mark.parametrize("script", sorted({command.split()[0] for command in COMMANDS}))
def test_every_flag_in_a_command_exists(script):
    subcommands = {c.split()[1] for c in COMMANDS if c.startswith("scripts/prepare_dataset.py ")}
    helps = [[script, "--help"]]
    if script.endswith("prepare_dataset.py"):
        helps = [[script, name, "--help"] for name in sorted(subcommands)]
    elif script.endswith("test.py"):
        return  # takes pytest's arguments
    known = ""
    for arguments in helps:
        environment = {"STEMSEG_NO_VENV": "1", "PATH": ""}
        result = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, env=environment, check=False
        )
        assert result.returncode == 0, result.stderr
        known += result.stdout
    for command in COMMANDS:
        if command.split()[0] == script:
            for flag in re.findall(r"(?<= )--?[a-z][\w-]*", command):
                assert re.search(rf"(?<![\w-]){flag}(?![\w-])", known), f"{flag} in '{command}'"


def test_every_configuration_key_exists():
    cfg = load_config()
    tops = "|".join(cfg)
    for key in set(re.findall(rf"\b((?:{tops})(?:\.[A-Z0-9_]+)+)", README)):
        value = cfg
        for part in key.split("."):
            assert isinstance(value, Config) and part in value, key
            value = value[part]


def test_every_file_and_variable_exists():
    for name in re.findall(r"\b([a-z]\w*\.yaml)\b", README):
        assert (ROOT / "configs" / name).is_file() or name in ("mine.yaml", "config.yaml"), name
    for path in re.findall(r"`((?:scripts|configs|stemseg|tests)/[\w./]+)`", README):
        assert (ROOT / path).exists(), path
    for entry in DATASETS.values():
        assert not entry.variable or f"`{entry.variable}`" in README
