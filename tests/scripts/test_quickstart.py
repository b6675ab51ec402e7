"""The quickstart, with few videos and steps: each of its commands runs, and a second start goes on from there."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.helpers.commands import run_python
from tests.helpers.paths import ROOT

SMALL = [
    "--num_train", "2", "--num_val", "1", "--set", "TRAINING.MAX_ITERATIONS=1", "TRAINING.BATCH_SIZE=1",
    "TRAINING.MAX_SAMPLES_PER_GPU=1", "MODEL.RESNETS.STEM_OUT_CHANNELS=4", "MODEL.RESNETS.RES2_OUT_CHANNELS=8",
    "MODEL.RESNETS.WIDTH_PER_GROUP=4", "MODEL.RESNETS.BACKBONE_OUT_CHANNELS=8",
    *(f"MODEL.{head}.INTER_CHANNELS=[4, 4, 4, 4]" for head in ("EMBEDDINGS", "SEMSEG")),
    *(f"MODEL.{head}.GN_NUM_GROUPS=2" for head in ("EMBEDDINGS", "SEMSEG")),
]  # fmt: skip


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The scripts that the quickstart has run, each in this process."""
    run: list[str] = []

    def call(command: list[str], *, cwd: Path, env: dict[str, str]) -> int:
        _, file, *arguments = command
        run.append(file)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            return run_python(file, arguments, cwd)

    monkeypatch.setenv("STEMSEG_NO_VENV", "1")
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # no processes that import everything again
    monkeypatch.setattr(subprocess, "call", call)
    return run


def test_quickstart(steps: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    assert run_python("scripts/quickstart.py", ["--output", str(tmp_path), *SMALL], ROOT) == 0
    assert steps == [
        "scripts/generate_videos.py", "stemseg/inference/main.py", "stemseg/training/main.py",
        "stemseg/inference/main.py", "scripts/evaluate.py",
    ]  # fmt: skip
    assert [path.name for path in tmp_path.glob("first_look/*/report.html")] == ["report.html"]
    assert "Look at:" in capsys.readouterr().out
    assert (tmp_path / "videos/train.png").is_file()
    assert list(tmp_path.glob("results/overlays/**/*.png")) or list(tmp_path.glob("results/overlays/**/*.jpg"))
    assert "AP" in json.loads((tmp_path / "evaluation/metrics.json").read_text())["summary"]

    asked: list[str] = []
    monkeypatch.setattr(subprocess, "call", lambda command, **_: asked.append(command[1]) or 0)
    assert run_python("scripts/quickstart.py", ["--output", str(tmp_path), *SMALL], ROOT) == 0
    assert asked == steps[1:]  # the videos are there


def test_a_video_of_the_users_own_comes_first_wherever_they_are(
    steps: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    commands: list[list[str]] = []
    monkeypatch.setattr(subprocess, "call", lambda command, **_: commands.append(command[1:]) or 1)
    monkeypatch.chdir(tmp_path)
    options = ["--output", "out", "--input", "holiday.mp4", "0"]
    assert run_python(str(ROOT / "scripts/quickstart.py"), options, tmp_path) == 1
    (command,) = commands
    assert command[:4] == ["stemseg/inference/main.py", "laptop", "--input", str(tmp_path / "holiday.mp4")]
    assert command[4] == "0" and str(tmp_path / "out/first_look/holiday") in command
