"""The benchmark compares what does the same work, and it runs from the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts import benchmark
from scripts.benchmarks.clips import MapSize, as_output, disc_masks, disc_targets, trained_maps, untrained_maps
from scripts.benchmarks.clustering import label_video, label_video_naively, make_video
from scripts.benchmarks.document import check_document, write_sections
from scripts.benchmarks.loading import benchmark_loading, draw_masks
from scripts.benchmarks.one_video import repeated
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


DOCUMENT = """# Speed

Before.
<!-- benchmark: inference -->
old figures
<!-- end of benchmark -->
Between.
<!-- benchmark: loading -->
kept figures
<!-- end of benchmark -->
<!-- benchmark: memory -->
<!-- end of benchmark -->
<!-- benchmark: loss -->
<!-- end of benchmark -->
<!-- benchmark: clustering -->
<!-- end of benchmark -->
After.
"""


def test_command_line(tmp_path, capsys):
    output, document = tmp_path / "figures.json", tmp_path / "speed.md"
    document.write_text(DOCUMENT)
    tiny = ["INPUT.NUM_FRAMES=2", "DATA.CUSTOM.INFERENCE_FRAME_OVERLAP=1"]
    command = ["inference", "memory", "loss", "clustering", "--memory_lengths", "5",
                    "--cfg", "quickstart", "--set", *tiny, "--size", "32x64",
                    "--lengths", "3", "--map_size", "8x12", "--instances", "1", "2", "--repeats", "1",
                    "--threads", "1", "--json", str(output), "--document", str(document)]  # fmt: skip
    assert benchmark.main(command) == 0
    figures = json.loads(output.read_text())
    _check_inference(figures["inference"])
    assert figures["memory"]["video"]["5 frames"]["MiB peak"] > 50
    assert figures["loss"]["instances"]["2, trained"]["ours ms"] > 0
    assert "speed-up" in capsys.readouterr().out
    _check_document(document.read_text(), figures)


def _check_inference(figures):
    stages = {name: row["3 frames: ms"] for name, row in figures["stage, per frame"].items()}
    assert all(stages[stage] > 0 for stage in ("reading", "backbone", "heads", "all, 2 reading threads"))
    parts = [ms for name, ms in stages.items() if not name.startswith("all")]
    assert min(parts) >= 0  # in turn, no stage's time is another's too
    assert sum(parts) == pytest.approx(stages["all, in turn"])
    assert figures["video"]["3 frames"]["MiB peak"] > 50
    arithmetic = figures["arithmetic"]
    network = [arithmetic[stage]["GFLOP / frame"] for stage in ("backbone", "heads")]
    assert min(network) > 0
    assert sum(network) == pytest.approx(arithmetic["whole video, in turn"]["GFLOP / frame"], rel=0.01)
    shares = {name: row["% of the limit"] for name, row in arithmetic.items()}
    assert 0 < shares["whole video, in turn"] < max(shares["backbone"], shares["heads"])


def _check_document(text, figures):
    limit = figures["inference"]["arithmetic"]["limit: one product or convolution"]["GFLOP / s"]
    assert f"1 thread of torch, float32; limit {limit:.0f} GFLOP/s" in " ".join(text.split())
    frames = figures["memory"]["video"]["5 frames"]
    assert f"| 5 frames | {frames['frames / s']:.1f} | {frames['MiB before']:.1f} |" in text
    assert "old figures" not in text and "kept figures" in text
    assert text.startswith("# Speed\n\nBefore.\n<!-- benchmark: inference -->") and text.endswith("After.\n")
    assert text.count("python scripts/benchmark.py inference memory loss clustering") == 4


def test_sections_are_replaced_again_and_again(tmp_path):
    path = tmp_path / "speed.md"
    path.write_text(DOCUMENT)
    for text in ("first", "second | \\1"):
        write_sections(path, {"loading": text})
    assert path.read_text() == DOCUMENT.replace("kept figures", "\nsecond | \\1\n")


def test_a_document_without_a_section_is_refused_before_anything_is_measured(tmp_path, capsys):
    path = tmp_path / "speed.md"
    path.write_text(DOCUMENT.replace("loading", "other"))
    assert benchmark.main(["loading", "--document", str(path)]) == 1
    assert "has 0 sections for the benchmark's part 'loading', expected one" in capsys.readouterr().err
    assert path.read_text() == DOCUMENT.replace("loading", "other")


def test_the_speed_document_has_a_section_for_each_part():
    check_document(ROOT / "docs" / "speed.md", benchmark.PARTS)


def test_long_videos_show_a_short_one_back_and_forth():
    paths = [Path(name) for name in "abc"]
    assert "".join(map(str, repeated(paths, 9))) == "abcbabcba"
    assert repeated(paths[:1], 2) == paths[:1] * 2


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
