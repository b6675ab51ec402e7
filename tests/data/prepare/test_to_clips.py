"""The whole way: official tree -> prepare -> the loaders of training -> the masks that went into the tree."""

import numpy as np
import pytest

from stemseg.config import load_config
from stemseg.data.augmentation import AugmentationRange, FrameAugmenter
from stemseg.data.categories import load_category_space
from stemseg.data.dataset import build_training_dataset
from stemseg.data.frame_sampling import FrameGap, frames_with_instances
from stemseg.data.prepare.kitti_mots import SEQUENCES
from stemseg.data.prepare.main import main
from stemseg.data.sources import open_training_set
from stemseg.data.still_clips import StillClips
from stemseg.data.video_clips import VideoChanges, VideoClips
from stemseg.datasets import DATASETS
from tests.helpers import official_trees as trees


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """A function that prepares the tree in ``tmp_path`` and opens it as training does, in a mode's categories."""
    monkeypatch.setenv("STEMSEG_JSON_ANNOTATIONS_DIR", str(tmp_path / "json"))

    def prepare(dataset, mode, *flags, images=""):
        assert main([dataset, str(tmp_path), "--workers", "1", *map(str, flags)]) == 0
        monkeypatch.setenv(DATASETS[dataset].variable, str(tmp_path / images))
        opened = open_training_set(dataset, load_config())
        annotations = opened.annotations
        rule = load_category_space(mode).rule(dataset, annotations.category_labels, annotations.source)
        if DATASETS[dataset].kind == "stills":
            augmenter = FrameAugmenter(AugmentationRange(perspective=0.0, translation=0.0, rotation=0))
            return StillClips(name=dataset, stills=opened, rule=rule, num_frames=2, augmenter=augmenter)
        changes = VideoChanges(
            horizontal_flip=False, time_reversal=False, single_instance_duplication=False, ignore_background=False
        )
        gap = FrameGap(1, 2)
        split = frames_with_instances
        return VideoClips(
            name=dataset, videos=opened, rule=rule, num_frames=2, gap=gap, split=split, changes=changes
        )  # fmt: skip

    return prepare


def assert_masks(frame, expected, ignore=None):
    """The frame's masks, in the order of instance numbers, and its ignore region."""
    for number, mask in enumerate(expected):
        assert (frame.ids.mask(number) == mask).all()
    assert sum(len(layer.nonzero()[0]) for layer in frame.ids.layers) == sum(int(mask.sum()) for mask in expected)
    found = np.zeros_like(frame.image[..., 0]) if frame.ignore is None else frame.ignore
    assert (found == (0 if ignore is None else ignore)).all()


def test_davis(tmp_path, prepared):
    truth = trees.davis(tmp_path)
    clips = prepared("davis", "davis")
    for index, name in enumerate(("bear", "two-dogs")):
        clip = clips.load(index, [0, 1, 2])
        assert set(clip.category_ids) == {1}
        for t, frame in enumerate(clip.frames):
            assert_masks(frame, [truth[name][t] == i for i in range(1, 1 + len(clip.category_ids))])


@pytest.mark.parametrize(("mode", "expected"), [("youtube_vis", (4, 40)), ("davis", (1, 1))])
def test_youtube_vis(tmp_path, prepared, mode, expected):
    truth = trees.youtube_vis(tmp_path)
    clips = prepared("youtube_vis", mode)
    for index, video in enumerate((7, 3)):
        clip = clips.load(index, [0, 1, 2])
        assert clip.category_ids == expected
        for t, frame in enumerate(clip.frames):
            masks = [truth[video][official][1][t] for official in sorted(truth[video])]
            assert_masks(frame, [np.zeros((trees.HEIGHT, trees.WIDTH)) if m is None else m for m in masks])


def test_ovis(tmp_path, prepared):
    trees.youtube_vis(tmp_path, trees.CLASSES_OVIS, "ovis")
    assert prepared("ovis", "ovis").load(0, [1]).category_ids == (4, 25)


def test_kitti_mots_ignore_regions_reach_the_clip(tmp_path, prepared):
    truth = trees.kitti_mots(tmp_path, [*SEQUENCES["train"], *SEQUENCES["val"]])
    clips = prepared("kitti_mots", "kitti_mots")
    clip = clips.load(1, [0, 1, 2])
    assert clip.category_ids == (1, 2)
    for ids, frame in zip(truth["0001"], clip.frames, strict=True):
        assert_masks(frame, [ids == 1003, ids == 2001], ids == 10000)


def test_coco(tmp_path, prepared):
    expected, crowd = trees.coco(tmp_path)
    clips = prepared("coco", "davis", images="train2017")
    assert len(clips) == 1
    frame = clips.load(0)
    assert [int(frame.ids.mask(i).sum()) for i in range(3)] == [int(mask.sum()) for mask in expected]
    assert all((frame.ids.mask(i) == mask).all() for i, mask in enumerate(expected))  # two of them overlap
    assert (frame.ignore == (crowd & ~expected.any(axis=0))).all()


def test_pascal_voc(tmp_path, prepared):
    truth = trees.pascal_voc(tmp_path)
    clips = prepared("pascal_voc", "youtube_vis", images="JPEGImages")
    for position, (objects, _) in enumerate(truth.values()):
        assert_masks(clips.load(position), [objects == 1, objects == 2], objects == 255)
        assert clips.draw(position, np.random.default_rng(0)).category_ids == ((1, 6), (1, 14))[position]


def test_mapillary(tmp_path, prepared):
    truth = trees.mapillary(tmp_path)
    clips = prepared("mapillary", "kitti_mots", images="downsampled")
    for position, ids in enumerate(truth.values()):
        assert_masks(clips.load(position), [ids == 513, ids == 514], ids == 768)


def test_a_training_set_is_built_from_prepared_files(tmp_path, monkeypatch):
    monkeypatch.setenv("STEMSEG_JSON_ANNOTATIONS_DIR", str(tmp_path / "json"))
    for dataset, build in (
        ("davis", trees.davis),
        ("youtube_vis", trees.youtube_vis),
        ("pascal_voc", trees.pascal_voc),
    ):
        build(tmp_path / dataset)
        assert main([dataset, str(tmp_path / dataset), "--workers", "1"]) == 0
        images = "JPEGImages" if dataset == "pascal_voc" else ""
        monkeypatch.setenv(DATASETS[dataset].variable, str(tmp_path / dataset / images))
    overrides = [
        "DATA.MIX={davis: 1, youtube_vis: 1, pascal_voc: 1}", "TRAINING.MAX_ITERATIONS=6", "INPUT.NUM_FRAMES=2",
        "DATA.DAVIS.FRAME_GAP_LOWER=1", "DATA.YOUTUBE_VIS.FRAME_GAP_LOWER=1", "INPUT.MIN_DIM=24", "INPUT.MAX_DIM=40",
        "TRAINING.BATCH_SIZE=1",
    ]  # fmt: skip
    dataset = build_training_dataset(load_config(overrides=overrides))
    names = {dataset[i].name.split("/")[0] for i in range(len(dataset))}
    assert names == {"davis", "youtube_vis", "pascal_voc"}
