"""Every command of the README runs as it is written there, for a reader whose datasets and networks are tiny.

Bash reads the line. What it would start with ``python`` is then run in this process as Python runs a file, which saves
the imports; ``torchrun`` starts processes of its own. The reader's folder is a clone with links to the code, beside
which lie small configurations of the published names: a file in the folder goes before a name in configs/. The datasets
are folder trees as they are downloaded, prepared by the commands of docs/datasets.md, and what an earlier command would
have made (a checkpoint, results) is there.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from stemseg.config import find_config, load_config
from stemseg.data.categories import load_category_space
from stemseg.data.dataset import build_training_dataset
from stemseg.data.prepare.kitti_mots import SEQUENCES
from stemseg.data.sources import open_videos
from stemseg.modeling.network import build_network
from stemseg.structures.rle import encode_rle
from tests.helpers import official_trees as trees
from tests.helpers.commands import console_commands, run_python
from tests.helpers.documents import README, block, commands, sections
from tests.helpers.paths import ROOT

DATASETS_PAGE = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
NOT_RUN = {
    "python scripts/quickstart.py": "trains for minutes; the quickstart's test runs it with few videos and steps",
    "python scripts/test.py": "runs this very test",
    "git clone <this repository> stemseg && cd stemseg": "has no address yet",
    "python -m venv .venv && source .venv/bin/activate": "scripts/environment.py does this for every run of the tests",
    "pip install -r requirements.txt -e .": "downloads gigabytes; scripts/environment.py runs it with the dev extra",
}
COMMANDS = [command.text for command in commands(README)]
RUN = [command for command in COMMANDS if command not in NOT_RUN and not command.startswith("export ")]

SMALL_DECODER = {"INTER_CHANNELS": [4, 4, 4, 4], "GN_NUM_GROUPS": 2}
SMALL_FLOW = {"N_FLOW": 1, "HIDDEN_CHANNELS": 4, "CONDITION_CHANNELS": 4, "DOWN_SAMPLE": 1}
SMALL_GAP = {"FRAME_GAP_LOWER": 1, "FRAME_GAP_UPPER": 2}  # the trees have videos of three frames
SMALL = {
    "INPUT": {"MIN_DIM": 32, "MAX_DIM": 64},
    "MODEL": {
        "BACKBONE": {"TYPE": "R-14-FPN", "NORM": "frozen"},
        "RESNETS": {"STEM_OUT_CHANNELS": 4, "RES2_OUT_CHANNELS": 8, "WIDTH_PER_GROUP": 4, "BACKBONE_OUT_CHANNELS": 8},
        "OFFSET": SMALL_FLOW,
        **dict.fromkeys(("EMBEDDINGS", "SEEDINESS", "SEMSEG"), SMALL_DECODER),
    },
    "TRAINING": {"MAX_ITERATIONS": 1, "GLOW_EPOCH": 0},
    "DATA": dict.fromkeys(("DAVIS", "YOUTUBE_VIS", "OVIS", "KITTI_MOTS", "CUSTOM"), SMALL_GAP),
}
PUBLISHED = {"davis": "davis_2", "youtube_vis": "youtube_vis", "kitti_mots": "kitti_mots_2"}


def test_what_is_not_run_stands_in_the_readme():
    assert set(NOT_RUN) <= set(COMMANDS)
    assert len(RUN) > 20


@pytest.mark.parametrize("command", RUN, ids=[f"{i} {command}"[:90] for i, command in enumerate(RUN)])
def test_command(command: str, clone: Path):
    make_what_it_reads(command, clone)
    assert run(command, clone) == 0
    for folder in re.findall(r"--output(?:_dir)? (\S+)", command):
        assert any((clone / folder).iterdir())


def test_your_own_dataset_is_read_as_it_is_meant(clone: Path):
    make_own_dataset(clone)
    cfg = load_config(clone / "mine.yaml", ["INPUT.MIN_DIM=48", "INPUT.MAX_DIM=64"])
    clip = build_training_dataset(cfg)[0].unpack()
    assert clip.frames.shape == (8, 3, 48, 64)
    assert clip.targets.category_ids.tolist() == [2]
    assert clip.targets.masks.sum() == 8 * 20 * 20
    assert [sequence.id for sequence in open_videos("custom", "val", cfg).annotations] == ["clip_1"]


def run(command: str, clone: Path) -> int:
    """The exit code of a command that is run in the clone."""
    if command.startswith("torchrun "):
        return subprocess.run(["bash", "-c", command], cwd=clone, check=False).returncode
    programs = {"python": "", **{name: module.replace(".", "/") + ".py" for name, module in console_commands()}}
    functions = "; ".join(f"{name}() {{ printf '%s\\0' {file} \"$@\"; }}" for name, file in programs.items())
    script = f"{functions}; {command}"
    words = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
    file, *arguments = words.split("\0")[:-1]
    return run_python(file, arguments, clone)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The reader's home, with prepared datasets, and the environment that the documents tell to set."""
    home = tmp_path_factory.mktemp("home")
    make_downloads(home / "downloads")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stemseg.data.prepare.main.DEFAULT_WORKERS", 1)  # others would import everything again
        patch.setenv("HOME", str(home))
        for name, value in exported(home).items():
            patch.setenv(name, value)
        for name in ("PET_STANDALONE", "OMP_NUM_THREADS"):  # torchrun: any free port
            patch.setenv(name, "1")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        for command in commands(DATASETS_PAGE):
            if command.text.startswith("python ") and "--help" not in command.text:
                assert run(command.text, ROOT) == 0
        assert run("python scripts/prepare_dataset.py youtube_vis $YOUTUBE_VIS_BASE_DIR --split 0.3", ROOT) == 0
        keep_one_sequence(home / "data/annotations/kittimots_val.json")
        make_small_configs(home / "configs")
        for name in re.findall(r"`(\w+_backbone\.pth)`", sections(README)["Links"]):
            make_weights(home / "configs/davis_1.yaml", home / "data/models/pretrained" / name, part="backbone")
        yield home


@pytest.fixture
def clone(reader: Path, tmp_path: Path) -> Path:
    """A fresh clone to stand in, with small configurations, and a folder of models that holds the pretrained alone."""
    for name in ("stemseg", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    for path in (reader / "configs").iterdir():
        (tmp_path / path.name).symlink_to(path)
        (tmp_path / path.stem).symlink_to(path)
    for name in ("checkpoints", "published"):
        shutil.rmtree(reader / "data/models" / name, ignore_errors=True)
    return tmp_path


def exported(home: Path) -> dict[str, str]:
    """The variables that README.md and docs/datasets.md tell to set, as bash understands them."""
    lines = [c.text for text in (DATASETS_PAGE, README) for c in commands(text) if c.text.startswith("export ")]
    script = "; ".join([f"export HOME={shlex.quote(str(home))}", *lines, "env -0"])
    output = subprocess.run(["bash", "-c", script], env={}, capture_output=True, text=True, check=True).stdout
    variables = dict(entry.split("=", 1) for entry in output.split("\0")[:-1])
    return {name: value for name, value in variables.items() if value.startswith(f"{home}/")}


def make_downloads(folder: Path) -> None:
    """Every dataset as it is downloaded."""
    videos = (1, 2, 3, 4, 7, 8)
    trees.davis(folder / "DAVIS")
    trees.youtube_vis(folder / "youtube_vis_2019", train=videos)
    names_2021 = list(load_category_space("youtube_vis_2021").names.values())
    trees.youtube_vis(folder / "youtube_vis_2021", names_2021, "2021", train=videos)
    trees.youtube_vis(folder / "OVIS", trees.CLASSES_OVIS, "ovis", train=videos)
    trees.kitti_mots(folder / "KITTI_MOTS", [*SEQUENCES["train"], *SEQUENCES["val"]])
    trees.motschallenge(folder / "MOTSChallenge")
    trees.coco(folder / "coco")
    trees.pascal_voc(folder / "VOCdevkit/VOC2012")
    trees.mapillary(folder / "mapillary_vistas")


def make_small_configs(folder: Path) -> None:
    """The configurations that the README names, each with small sizes."""
    folder.mkdir()
    for name in set(re.findall(r"--cfg (\w+)", README)) - {"mine"} | set(PUBLISHED.values()):
        (folder / f"{name}.yaml").write_text(json.dumps({"BASE": str(find_config(name)), **SMALL}))


def keep_one_sequence(path: Path) -> None:
    """Shorten an annotation file: its README command asks for images of 1948 pixels."""
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "sequences": content["sequences"][:1]}))


def merged(base: Mapping, changes: Mapping) -> dict:
    """``base`` with the values of ``changes``, section by section."""
    result = dict(base)
    for key, value in changes.items():
        result[key] = merged(base[key], value) if isinstance(value, Mapping) and key in base else value
    return result


def make_what_it_reads(command: str, clone: Path) -> None:
    """Make what stands before the command in the README: its video, dataset, checkpoints, and results to measure."""
    if "holiday.mp4" in command:
        make_video(clone / "holiday.mp4")
    if "mine" in command or "custom" in command:
        make_own_dataset(clone)
    for text in re.findall(r"\$STEMSEG_MODELS_DIR\S+\.pth", command):
        path = Path(os.path.expandvars(text))
        is_published = path.parent.name == "published"
        config = clone / f"{PUBLISHED[path.stem] if is_published else path.parent.name}.yaml"
        make_weights(config, path)
        if not is_published:
            load_config(config).save(path.parent / "config.yaml")
    for folder in re.findall(r"--results (\S+)", command):
        maker = next(c for c in COMMANDS if f"--output_dir {folder}" in c)
        make_what_it_reads(maker, clone)
        assert run(maker, clone) == 0


def make_weights(config: Path, path: Path, part: str | None = None) -> None:
    """The random weights of a configuration's network, or those of one part of it."""
    torch.manual_seed(0)
    network = build_network(load_config(config, ["MODEL.BACKBONE.PRETRAINED_WEIGHTS=null"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save((getattr(network, part) if part else network).state_dict(), path)


def make_video(path: Path) -> None:
    """Ten frames of noise."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 32))
    for t in range(10):
        writer.write(np.random.default_rng(t).integers(0, 256, (32, 64, 3), dtype=np.uint8))
    writer.release()


def make_own_dataset(clone: Path) -> None:
    """The README's own dataset, step by step: JSON, frames and configuration, with a mask and more frames."""
    text = sections(README)["Your own dataset"]
    content = json.loads(block(text, "json"))
    sequence = content["sequences"][0]
    mask = np.zeros((sequence["height"], sequence["width"]))
    mask[100:300, 200:400] = 1
    for frame in sequence["segmentations"]:
        frame.update(dict.fromkeys(frame, encode_rle(mask)))
    sequence["image_paths"] = [f"clip_1/{t}.jpg" for t in range(12)]  # the README shows two frames; a clip needs more
    sequence["segmentations"] = [sequence["segmentations"][0]] * 12
    data = clone / "data"
    for name in sequence["image_paths"]:
        trees.write_image(data / "images" / name, height=sequence["height"], width=sequence["width"])
    for split in ("train", "val"):
        (data / f"{split}.json").write_text(json.dumps(content))
    os.environ["MY_DATA"] = str(data)
    (clone / "mine.yaml").write_text(json.dumps(merged(yaml.safe_load(block(text, "yaml")), SMALL)))
