"""The mix of datasets, and the whole way from a configuration to batches."""

import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from stemseg.data.dataset import MixSchedule, build_training_dataset, share_out, training_category_names
from stemseg.data.preprocessing import collate_clips
from stemseg.utils.errors import ConfigError, DataError
from tests import reference
from tests.helpers.tiny_datasets import custom_config, make_stills, make_videos


def assert_equal(a, b):
    a, b = a.unpack(), b.unpack()
    assert a.name == b.name
    for name in ("masks", "category_ids", "ignore_mask"):
        assert torch.equal(getattr(a.targets, name), getattr(b.targets, name))
    assert torch.equal(a.frames, b.frames)


@pytest.fixture
def mixed(tmp_path, monkeypatch):
    """A configuration with videos (custom) and stills (coco, by the names that both share)."""
    make_videos(tmp_path / "videos")
    make_stills(tmp_path / "stills")
    (tmp_path / "stills" / "stills.json").rename(tmp_path / "coco.json")
    monkeypatch.setenv("STEMSEG_JSON_ANNOTATIONS_DIR", str(tmp_path))
    monkeypatch.setenv("COCO_TRAIN_IMAGES_DIR", str(tmp_path / "stills"))
    return custom_config(tmp_path / "videos", "videos.json", "DATA.MIX={custom: 0.6, coco: 0.4, ovis: 0.0}")


def test_a_sample_is_a_pure_function_of_seed_and_index(mixed):
    first, second = build_training_dataset(mixed), build_training_dataset(mixed)
    assert len(first) == 20
    for index in (7, 3, 19):
        assert_equal(first[index], second[index])  # whatever was drawn before
        assert_equal(first[index], first[index])
    other = build_training_dataset(
        type(mixed)({**mixed.to_dict(), "TRAINING": {**mixed.to_dict()["TRAINING"], "SEED": 1}})
    )
    assert any(first[i].name != other[i].name for i in range(5))
    assert len({first[i].name for i in range(20)}) > 10  # and of the index, not of the seed alone
    with pytest.raises(IndexError, match="sample 20 of a run of 20"):
        first[20]


def test_workers_give_the_same_batches(mixed):
    dataset = build_training_dataset(mixed)
    direct = [collate_clips([dataset[i], dataset[i + 1]]).to("cpu") for i in range(0, 6, 2)]
    loader = DataLoader(
        pickle.loads(pickle.dumps(dataset)), batch_sampler=[[0, 1], [2, 3], [4, 5]], collate_fn=collate_clips,
        num_workers=2,
    )  # fmt: skip
    for ours, loaded in zip(direct, (batch.to("cpu") for batch in loader), strict=True):
        assert torch.equal(ours.frames, loaded.frames) and ours.names == loaded.names
        for a, b in zip(ours.targets, loaded.targets, strict=True):
            assert torch.equal(a.masks, b.masks) and torch.equal(a.category_ids, b.category_ids)


def test_the_mix_is_exact_and_its_samples_are_sound(mixed):
    dataset = build_training_dataset(mixed)
    clips = [dataset[i].unpack() for i in range(20)]
    assert Counter(c.name.split("/")[0] for c in clips) == {"custom": 12, "coco": 8}
    for clip in clips:
        masks, ignore = clip.targets.masks, clip.targets.ignore_mask
        assert clip.frames.dtype == torch.float32 and clip.frames.shape == (4, 3, 20, 32)
        assert masks.dtype == torch.uint8 and masks.shape == (clip.targets.num_instances, 4, 20, 32)
        assert ignore.dtype == torch.uint8 and ignore.shape == (4, 20, 32)
        assert masks.bool().flatten(1).any(dim=1).all() and masks.max() == 1
        assert clip.targets.category_ids.dtype == torch.int64 and set(clip.targets.category_ids.tolist()) <= {1, 2, 3}
        assert torch.isfinite(clip.frames).all()


def test_warped_stills_have_zeros_outside_that_count_as_background(mixed):
    dataset = build_training_dataset(mixed)
    stills = [clip for clip in (dataset[i].unpack() for i in range(20)) if clip.name.startswith("coco")]
    outside = [(clip.frames == 0).all(dim=1) for clip in stills]  # [T, H, W]
    assert sum(int(o.sum()) for o in outside) > 50
    for clip, zeros in zip(stills, outside, strict=True):
        inner = torch.from_numpy(np.logical_and.reduce([np.roll(zeros.numpy(), s, a) for a in (1, 2) for s in (-1, 1)]))
        assert (
            not (clip.targets.masks.bool().any(dim=0) & inner).any()
            and not (clip.targets.ignore_mask.bool() & inner).any()
        )


def test_fast_loading_equals_plain_loading(tmp_path):
    sequences = {s.id: s for s in make_videos(tmp_path, lengths=(6, 7), instances=5)}
    overrides = ["INPUT.MIN_DIM=31", "INPUT.MAX_DIM=64", "DATA.CUSTOM.HORIZONTAL_FLIP=false",
                 "DATA.CUSTOM.TIME_REVERSAL=false"]  # fmt: skip
    cfg = custom_config(tmp_path, "videos.json", *overrides)
    dataset = build_training_dataset(cfg)
    for index in range(5):
        clip = dataset[index].unpack()
        name, frames = clip.name.removeprefix("custom/").split(" ")
        size = tuple(clip.frames.shape[-2:])
        indices = [int(t) for t in frames.split(",")]
        expected_frames, expected_masks = reference.load_video_clip(
            sequences[name], indices, tmp_path, size, np.array(cfg.INPUT.IMAGE_MEAN, dtype=np.float32)
        )
        torch.testing.assert_close(clip.frames, expected_frames, atol=5e-3, rtol=0)
        expected_masks = expected_masks[expected_masks.bool().flatten(1).any(dim=1)]
        assert clip.targets.masks.shape == expected_masks.shape
        assert (clip.targets.masks != expected_masks).float().mean() < 1e-4  # ties may round either way


def test_class_agnostic_training_has_one_category(tmp_path):
    make_videos(tmp_path)
    cfg = custom_config(tmp_path, "videos.json", "INPUT.NUM_CLASSES=2")
    dataset = build_training_dataset(cfg)
    assert {i for n in range(5) for i in dataset[n].targets.category_ids.tolist()} == {1}
    assert training_category_names(cfg) == {1: "object"}


def test_category_names_of_a_custom_dataset(tmp_path):
    make_videos(tmp_path)
    assert training_category_names(custom_config(tmp_path, "videos.json")) == {1: "circle", 2: "square", 3: "star"}


def test_davis_ignores_the_background_and_duplicates(tmp_path, monkeypatch):
    make_videos(tmp_path / "JPEGImages" / "480p", instances=1)
    (tmp_path / "JPEGImages" / "480p" / "videos.json").rename(tmp_path / "davis_train.json")
    monkeypatch.setenv("STEMSEG_JSON_ANNOTATIONS_DIR", str(tmp_path))
    monkeypatch.setenv("DAVIS_BASE_DIR", str(tmp_path))
    overrides = ["DATA.MIX={davis: 1.0}", "TRAINING.MODE=davis", "INPUT.NUM_CLASSES=2", "DATA.DAVIS.FRAME_GAP_LOWER=3"]
    dataset = build_training_dataset(custom_config(tmp_path, "unused.json", *overrides))
    for index in range(6):
        targets = dataset[index].unpack().targets
        assert torch.equal(targets.ignore_mask.bool(), ~targets.masks.bool().any(dim=0))
    cfg = custom_config(tmp_path, "unused.json", *overrides, "DATA.DAVIS.IGNORE_BACKGROUND=false")
    assert not build_training_dataset(cfg)[0].unpack().targets.ignore_mask.any()


def test_wrong_configurations_are_refused(tmp_path):
    make_videos(tmp_path)
    with pytest.raises(ConfigError, match=r"'INPUT.NUM_CLASSES' is 5"):
        build_training_dataset(custom_config(tmp_path, "videos.json", "INPUT.NUM_CLASSES=5"))
    with pytest.raises(DataError, match="category 1 is 'circle', expected 1 person"):
        build_training_dataset(
            custom_config(tmp_path, "videos.json", "TRAINING.MODE=youtube_vis", "INPUT.NUM_CLASSES=41")
        )


def test_shares_are_exact():
    weights = (0.25, 0.1, 0.35, 0.3)
    schedule = MixSchedule([1000, 7, 40, 3], weights, 200, seed=0)
    assert len(schedule) == 200
    assert Counter(schedule[i][0] for i in range(200)) == {0: 50, 1: 20, 2: 70, 3: 60}


@pytest.mark.parametrize("total", [1, 7, 100, 101])
def test_shares_add_up(total):
    counts = share_out(total, (1, 1, 1))
    assert counts.sum() == total and counts.max() - counts.min() <= 1


@pytest.mark.parametrize(
    ("total", "weights", "counts"),
    [
        (10, (0.55, 0.24, 0.21), [6, 2, 2]),  # 5.5, 2.4, 2.1: the largest remainder gets the sample that is left
        (11, (0.24, 0.55, 0.21), [3, 6, 2]),  # 2.64, 6.05, 2.31
        (3, (1, 1, 8), [0, 0, 3]),  # 0.3, 0.3, 2.4
    ],
)
def test_the_largest_remainders_are_rounded_up(total, weights, counts):
    assert share_out(total, weights).tolist() == counts


def test_a_small_set_passes_evenly_through_its_elements():
    schedule = MixSchedule([5, 3], (0.5, 0.5), 64, seed=1)
    for dataset, length in ((0, 5), (1, 3)):
        positions = [p for d, p in (schedule[i] for i in range(64)) if d == dataset]
        counts = Counter(positions)
        assert set(counts) == set(range(length)) and max(counts.values()) - min(counts.values()) <= 1
        first, second = positions[:length], positions[length : 2 * length]
        assert sorted(first) == sorted(second) == list(range(length)) and (length < 5 or first != second)


def test_every_element_of_a_large_set_can_be_drawn():
    drawn = set()
    for seed in range(60):
        schedule = MixSchedule([100, 100], (0.2, 0.8), 50, seed=seed)
        drawn |= {p for d, p in (schedule[i] for i in range(50)) if d == 0}
    assert drawn == set(range(100))


def test_the_order_is_shuffled_and_belongs_to_the_seed():
    def order(seed):
        return [MixSchedule([9, 9], (1, 1), 40, seed)[i] for i in range(40)]

    assert order(3) == order(3) != order(4)
    datasets = np.array([d for d, _ in order(3)])
    assert (np.diff(datasets) != 0).sum() > 5  # not one dataset after the other
