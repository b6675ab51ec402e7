"""The straightforward implementation is a reference: what the fast one loads must be the same."""

import numpy as np
import torch

from scripts.benchmarks.loading import MEAN, benchmark_loading, best_time, draw_masks
from scripts.benchmarks.naive_loading import load_video_clip
from stemseg.data.dataset import build_training_dataset
from stemseg.structures.rle import decode_rle
from tests.helpers.tiny_datasets import custom_config, make_sequence, make_videos


def test_fast_loading_equals_straightforward_loading(tmp_path):
    sequences = {s.id: s for s in make_videos(tmp_path, lengths=(6, 7), instances=5)}
    overrides = ["INPUT.MIN_DIM=31", "INPUT.MAX_DIM=64", "DATA.CUSTOM.HORIZONTAL_FLIP=false",
                 "DATA.CUSTOM.TIME_REVERSAL=false"]  # fmt: skip
    dataset = build_training_dataset(custom_config(tmp_path, "videos.json", *overrides))
    for index in range(5):
        clip = dataset[index]
        name, frames = clip.name.removeprefix("custom/").split(" ")
        size = tuple(clip.frames.shape[-2:])
        indices = [int(t) for t in frames.split(",")]
        expected_frames, expected_masks = load_video_clip(sequences[name], indices, tmp_path, size, MEAN)
        torch.testing.assert_close(clip.frames, expected_frames, atol=5e-3, rtol=0)
        expected_masks = expected_masks[expected_masks.bool().flatten(1).any(dim=1)]
        assert clip.targets.masks.shape == expected_masks.shape
        assert (clip.targets.masks != expected_masks).float().mean() < 1e-4  # ties may round either way


def test_generated_masks_are_there_and_time_is_positive(tmp_path):
    masks = draw_masks(4, 60, 80, np.random.default_rng(0))
    assert all(decode_rle(counts, 60, 80).sum() > 20 for counts in masks)
    assert best_time(lambda: make_sequence(tmp_path, "seq", 2), 2) > 0


def test_every_measurement_runs():
    timings = benchmark_loading(repeats=1, min_dim=40, max_dim=64)
    assert len(timings) == 8 and all(timing.ours > 0 for timing in timings)
    assert [timing.straightforward is not None for timing in timings] == [True] * 4 + [False] * 4
