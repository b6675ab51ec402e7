"""The benchmark compares what does the same work, and it runs from the command line."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from scripts import benchmark
from scripts.benchmarks.clips import MapSize, as_output, disc_masks, disc_targets, trained_maps, untrained_maps
from scripts.benchmarks.clustering import label_video, label_video_naively, make_video
from scripts.benchmarks.loading import benchmark_loading, draw_masks
from stemseg.modeling.losses.embedding_loss import EmbeddingCriterion, plain_embedding_loss
from stemseg.structures.embedding_dims import parse_dim_mode
from stemseg.structures.rle import decode_rle
from tests.helpers.paths import ROOT

SIZE = MapSize(4, 24, 40)


@pytest.mark.parametrize("trained", [False, True])
def test_the_loop_computes_our_loss(trained):
    dims, generator, masks = parse_dim_mode("xytf"), torch.Generator().manual_seed(0), disc_masks(SIZE, 5)
    maps = trained_maps(dims, masks, generator) if trained else untrained_maps(dims, SIZE, generator)
    output, targets = as_output(maps, dims), disc_targets(masks)
    criterion = EmbeddingCriterion(dims=dims, free_dim_stds=[0.3])
    gradients = []
    loop = plain_embedding_loss(output, [targets], free_dim_bandwidths=criterion.free_dim_bandwidths[0])
    for loss in (criterion(output, [targets]).total, loop.total):
        gradients.append((loss.detach(), *torch.autograd.grad(loss, output[:3])))
    for ours, loop in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, loop, rtol=1e-3, atol=1e-6)


def test_the_plain_clustering_labels_alike():
    clips = make_video(SIZE, 3, 3, 2, "xyff", torch.device("cpu"))
    ours, theirs = label_video(clips), label_video_naively(clips)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
    assert set(ours[-1].unique().tolist()) >= {0, 1, 2, 3}  # tracks go on through the clips


def test_command_line(tmp_path, capsys):
    output = tmp_path / "figures.json"
    tiny = ["INPUT.NUM_FRAMES=2", "DATA.CUSTOM.INFERENCE_FRAME_OVERLAP=1"]
    command = ["inference", "memory", "loss", "clustering", "--memory_lengths", "5",
                    "--cfg", "quickstart", "--set", *tiny, "--size", "32x64",
                    "--lengths", "3", "--map_size", "8x12", "--instances", "1", "2", "--repeats", "1",
                    "--threads", "1", "--json", str(output)]  # fmt: skip
    assert benchmark.main(command) == 0
    figures = json.loads(output.read_text())
    stages = figures["inference"]["stage, per frame"]
    assert all(stages[stage]["3 frames: ms"] > 0 for stage in ("reading", "backbone", "heads", "all"))
    assert figures["inference"]["video"]["3 frames"]["MiB peak"] > 50
    arithmetic = figures["inference"]["arithmetic"]
    assert arithmetic["the network"]["GFLOP / frame"] > 0
    assert 0 < arithmetic["whole video"]["% of the limit"] < arithmetic["the network"]["% of the limit"]
    assert figures["memory"]["video"]["5 frames"]["MiB peak"] > 50
    assert figures["loss"]["instances"]["2, trained"]["ours ms"] > 0
    assert "speed-up" in capsys.readouterr().out


def test_unknown_part_is_named(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["losses"])
    assert "unknown part losses; there are inference, memory, loss, loading, clustering" in capsys.readouterr().err


def test_generated_masks_are_there():
    masks = draw_masks(4, 60, 80, np.random.default_rng(0))
    assert all(decode_rle(counts, 60, 80).sum() > 20 for counts in masks)


def test_loading_is_measured_whole_and_step_by_step():
    rows = benchmark_loading(repeats=1, min_dim=40, max_dim=64).to_dict()
    assert len(rows) == 9 and all(row["ours ms"] > 0 for row in rows.values())
    assert [row["naive ms"] is not None for row in rows.values()] == [True] * 4 + [False] * 5
    assert [name.startswith("    ") for name in rows] == [False] * 4 + [True] * 5


def test_help_runs_from_any_folder(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), "--help"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "loading" in result.stdout
