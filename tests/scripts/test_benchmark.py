"""What the benchmark compares must do the same work, and it must run from the command line."""

import json

import pytest
import torch

from scripts import benchmark
from scripts.benchmarks.clips import MapSize, as_output, disc_masks, disc_targets, trained_maps, untrained_maps
from scripts.benchmarks.clustering import label_video, label_video_naively, make_video
from stemseg.modeling.losses.embedding_loss import EmbeddingCriterion, plain_embedding_loss
from stemseg.structures.embedding_dims import parse_dim_mode

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


def test_the_naive_clustering_labels_alike():
    clips = make_video(SIZE, 3, 3, 2, "xyff", torch.device("cpu"))
    ours, theirs = label_video(clips), label_video_naively(clips)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
    assert set(ours[-1].unique().tolist()) >= {0, 1, 2, 3}  # tracks go on through the clips


def test_command_line(tmp_path, capsys):
    output = tmp_path / "figures.json"
    tiny = ["INPUT.NUM_FRAMES=2", "DATA.CUSTOM.INFERENCE_FRAME_OVERLAP=1"]
    benchmark.main(["inference", "loss", "clustering", "--cfg", "quickstart", "--set", *tiny, "--size", "32x64",
                    "--lengths", "3", "--map_size", "8x12", "--instances", "1", "2", "--repeats", "1",
                    "--threads", "1", "--json", str(output)])  # fmt: skip
    figures = json.loads(output.read_text())
    stages = figures["inference"]["stage, per frame"]
    assert all(stages[stage]["3 frames: ms"] > 0 for stage in ("reading", "backbone", "heads", "all"))
    assert figures["inference"]["video"]["3 frames"]["MiB peak"] > 50
    assert figures["loss"]["instances"]["2, trained"]["ours ms"] > 0
    assert "speed-up" in capsys.readouterr().out


def test_unknown_part_is_named(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["losses"])
    assert "unknown part losses; there are inference, loss, loading, clustering" in capsys.readouterr().err
