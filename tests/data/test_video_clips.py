"""Clips of annotated videos: what they show, how they vary, and an instance pasted twice."""

import dataclasses

import cv2
import numpy as np
import pytest

from stemseg.data.annotated_frame import AnnotatedClip, AnnotatedFrame, pack_masks
from stemseg.data.categories import CategoryRule
from stemseg.data.dataset import build_training_dataset
from stemseg.data.frame_sampling import FrameGap, frames_with_instances
from stemseg.data.preprocessing import ImagePreprocessor, prepare_clip
from stemseg.data.sources import OpenedVideos
from stemseg.data.video_clips import VideoChanges, VideoClips, duplicate_instance
from stemseg.structures.annotations import VideoAnnotations, save_video_annotations
from stemseg.structures.rle import decode_rle, encode_rle
from stemseg.utils.errors import DataError
from tests.helpers.tiny_datasets import LABELS, custom_config, make_sequence, make_videos

RULE = CategoryRule(targets={1: 1, 2: 2, 3: 3}, known=frozenset(LABELS))
UNCHANGED = VideoChanges(False, False, False, False)
PLAIN = ImagePreprocessor(min_dim=20, max_dim=32, mean=(0, 0, 0), std=(1, 1, 1))


def make_clips(folder, sequences, *, rule=RULE, changes=UNCHANGED, num_frames=4, gap=(3, 4)):
    return VideoClips(
        name="tiny",
        videos=OpenedVideos(VideoAnnotations(folder / "videos.json", LABELS, list(sequences)), folder),
        rule=rule,
        num_frames=num_frames,
        gap=FrameGap(*gap),
        split=frames_with_instances,
        changes=changes,
    )


def direct_masks(sequence, instances, frame_indices):
    """[I, T, H, W] as the annotation file has them."""
    empty = encode_rle(np.zeros((sequence.height, sequence.width)))
    size = (sequence.height, sequence.width)
    return np.array([[decode_rle(sequence.segmentations[t].get(i, empty), *size) for t in frame_indices]
                     for i in instances])  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_masks_of_a_clip_are_those_of_the_annotations(tmp_path, seed):
    sequences = make_videos(tmp_path, lengths=(7, 9), instances=2 + seed)
    clips = make_clips(tmp_path, sequences)
    clip = clips.draw(0, np.random.default_rng(seed))
    name, frames = clip.name.removeprefix("tiny/").split(" ")
    sequence = next(s for s in sequences if s.id == name)
    indices = [int(t) for t in frames.split(",")]
    visible = sorted({i for t in indices for i in sequence.segmentations[t]})
    prepared = prepare_clip(clip, PLAIN).unpack()
    np.testing.assert_array_equal(prepared.targets.masks.numpy(), direct_masks(sequence, visible, indices))
    assert prepared.targets.category_ids.tolist() == [sequence.categories[i] for i in visible]
    images = np.stack([cv2.imread(str(tmp_path / sequence.image_paths[t])) for t in indices])
    np.testing.assert_array_equal(prepared.frames.numpy(), images.transpose(0, 3, 1, 2))
    assert not prepared.targets.ignore_mask.any()


def test_flip_and_reversal_change_images_and_masks_alike(tmp_path):
    sequence = make_sequence(tmp_path, "seq", 4)
    clips = make_clips(tmp_path, [sequence], changes=VideoChanges(True, True, False, False), num_frames=4, gap=(2, 3))
    seen = set()
    for seed in range(40):
        clip = clips.draw(0, np.random.default_rng(seed))
        indices = [int(t) for t in clip.name.split(" ")[1].split(",")]
        visible = sorted({i for t in indices for i in sequence.segmentations[t]})
        masks = direct_masks(sequence, visible, indices)
        images = np.stack([cv2.imread(str(tmp_path / sequence.image_paths[t])) for t in indices])
        got_masks = np.array([[f.ids.mask(i) for f in clip.frames] for i in range(len(visible))])
        got_images = np.stack([f.image for f in clip.frames])
        matches = [
            (flip, reverse)
            for flip in (1, -1)
            for reverse in (1, -1)
            if np.array_equal(got_images, images[::reverse, :, ::flip])
            and np.array_equal(got_masks, masks[:, ::reverse, :, ::flip])
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) == 4


def test_left_out_categories_are_background_and_ignored_ones_an_ignore_region(tmp_path):
    sequence = make_sequence(tmp_path, "seq", 6)
    rule = CategoryRule(targets={1: 5}, known=frozenset(LABELS), ignored=frozenset({2}))
    frames = [0, 2, 3]
    clip = make_clips(tmp_path, [sequence], rule=rule, gap=(1, 1)).load(0, frames)
    assert clip.category_ids == (5,)  # instance 2 is of category 1, 4 of 2, 6 of 3
    kept, ignored = (direct_masks(sequence, [i], frames)[0] for i in (2, 4))
    for t, frame in enumerate(clip.frames):
        np.testing.assert_array_equal(frame.ids.mask(0), kept[t])
        np.testing.assert_array_equal(np.zeros_like(kept[t]) if frame.ignore is None else frame.ignore, ignored[t])


def test_ignored_background_is_all_that_is_no_instance(tmp_path):
    sequence = make_sequence(tmp_path, "seq", 6)
    clip = make_clips(tmp_path, [sequence], changes=VideoChanges(False, False, False, True)).draw(
        0, np.random.default_rng(0)
    )
    for frame in clip.frames:
        np.testing.assert_array_equal(frame.ignore, ~frame.ids.foreground())


def test_only_clips_with_one_instance_are_duplicated(tmp_path):
    changes = VideoChanges(False, False, True, False)
    one = np.zeros((20, 32), np.uint8)
    one[8:12, 14:18] = 1
    sequence = make_sequence(tmp_path, "seq", 6)
    single = dataclasses.replace(sequence, categories={1: 2}, segmentations=[{1: encode_rle(one)}] * 6)
    counts = [
        len(make_clips(tmp_path, [single], changes=changes).draw(0, np.random.default_rng(s)).category_ids)
        for s in range(30)
    ]
    assert set(counts) == {1, 2}
    many = make_clips(tmp_path, [sequence], changes=changes)
    assert all(len(many.draw(0, np.random.default_rng(s)).category_ids) <= 3 for s in range(10))


def test_frames_without_trained_instances_are_never_drawn(tmp_path):
    sequence = make_sequence(tmp_path, "seq", 12)
    empty = encode_rle(np.zeros((20, 32)))
    full = encode_rle(np.ones((20, 32)))
    shown = [{1: full} if t in (1, 2, 5, 7, 8, 11) else {1: empty, 2: full} for t in range(12)]
    sequence = dataclasses.replace(sequence, categories={1: 1, 2: 3}, segmentations=shown)
    rule = CategoryRule(targets={1: 1}, known=frozenset(LABELS))
    clips = make_clips(tmp_path, [sequence], rule=rule)
    names = [clips.draw(0, np.random.default_rng(s)).name for s in range(20)]
    assert {int(t) for name in names for t in name.split(" ")[1].split(",")} == {1, 2, 5, 7, 8, 11}


def test_a_repeated_frame_is_loaded_once(tmp_path, monkeypatch):
    sequence = make_sequence(tmp_path, "seq", 4)
    clip = make_clips(tmp_path, [sequence], gap=(1, 1)).load(0, [1, 1, 2, 2])
    assert clip.frames[0] is clip.frames[1] and clip.frames[2] is clip.frames[3]


def damaged(tmp_path, **changes):
    sequence = make_sequence(tmp_path, "seq", 5, instances=1)
    return dataclasses.replace(sequence, **changes)


def test_damaged_frames_name_sequence_frame_and_file(tmp_path):
    sequence = damaged(tmp_path)
    clips = make_clips(tmp_path, [sequence])
    (tmp_path / sequence.image_paths[2]).write_bytes(b"no image")
    with pytest.raises(DataError, match=r"videos.json: sequence 'seq', frame 2: .*00002.png .*can be decoded"):
        clips.load(0, [0, 2])
    (tmp_path / sequence.image_paths[3]).unlink()
    with pytest.raises(DataError, match=r"sequence 'seq', frame 3: cannot read the image: .*00003.png"):
        clips.load(0, [3])


def test_a_mask_of_another_size_names_its_instance(tmp_path):
    wrong = encode_rle(np.ones((10, 10)))
    sequence = damaged(tmp_path, segmentations=[{2: wrong}] * 5)
    with pytest.raises(DataError, match=r"sequence 'seq', frame 1, instance 2: .* 100 pixels, expected 20 x 32"):
        make_clips(tmp_path, [sequence]).load(0, [1])


def test_images_of_another_size_than_annotated(tmp_path):
    sequence = damaged(tmp_path, height=21, segmentations=[{2: encode_rle(np.ones((21, 32)))}] * 5)
    with pytest.raises(DataError, match=r"sequence 'seq', frame 0: .* 20 x 32 pixels .* annotation says 21 x 32"):
        make_clips(tmp_path, [sequence]).load(0, [0])


def test_unannotated_and_unknown_categories_and_short_videos_are_refused(tmp_path):
    with pytest.raises(DataError, match="sequence 'seq' has no annotations and can't be trained on"):
        make_clips(tmp_path, [damaged(tmp_path, categories=None, segmentations=None)])
    with pytest.raises(DataError, match="sequence 'seq', instance 2: category 9 is not in the file's category_labels"):
        make_clips(tmp_path, [damaged(tmp_path, categories={2: 9})])
    with pytest.raises(DataError, match="no sequence has more than 9 frames with instances"):
        make_clips(tmp_path, [damaged(tmp_path)], gap=(8, 8))


def test_video_augmentation_warps_each_frame_by_itself(tmp_path):
    make_videos(tmp_path)
    plain = build_training_dataset(custom_config(tmp_path, "videos.json"))
    augmented = build_training_dataset(custom_config(tmp_path, "videos.json", "DATA.CUSTOM.AUGMENT=true"))
    for index in range(4):
        a, b = plain[index].unpack(), augmented[index].unpack()
        assert a.name == b.name and a.frames.shape == b.frames.shape
        assert (a.frames != b.frames).flatten(1).any(dim=1).all()
        assert b.targets.masks.any()


def test_kitti_mots_ignore_category_reaches_the_targets(tmp_path, monkeypatch):
    sequence = make_sequence(tmp_path / "images", "0000", 9)
    sequence = dataclasses.replace(sequence, categories={2: 1, 4: 2, 6: 3})
    annotations = tmp_path / "kittimots_train.json"
    save_video_annotations(annotations, [sequence], {1: "car", 2: "pedestrian", 3: "ignore"})
    monkeypatch.setenv("STEMSEG_JSON_ANNOTATIONS_DIR", str(tmp_path))
    monkeypatch.setenv("KITTIMOTS_BASE_DIR", str(tmp_path / "images"))
    overrides = ["DATA.MIX={kitti_mots: 1.0}", "TRAINING.MODE=kitti_mots", "INPUT.NUM_CLASSES=3",
                 "DATA.KITTI_MOTS.FRAME_GAP_LOWER=3"]  # fmt: skip
    dataset = build_training_dataset(custom_config(tmp_path / "images", "unused.json", *overrides))
    clips = [dataset[i].unpack() for i in range(6)]
    assert all(set(c.targets.category_ids.tolist()) <= {1, 2} for c in clips)
    assert any(c.targets.ignore_mask.any() for c in clips)


def test_only_kitti_mots_keeps_short_stretches_without_instances(tmp_path, monkeypatch):
    sequence = make_sequence(tmp_path / "images", "0000", 9)
    shown = [{} if t in (3, 4) else {2: encode_rle(np.ones((20, 32)))} for t in range(9)]
    sequence = dataclasses.replace(sequence, categories={2: 1}, segmentations=shown)
    monkeypatch.setenv("STEMSEG_JSON_ANNOTATIONS_DIR", str(tmp_path))
    monkeypatch.setenv("KITTIMOTS_BASE_DIR", str(tmp_path / "images"))
    labels = {1: "car", 2: "pedestrian", 3: "ignore"}
    save_video_annotations(tmp_path / "kittimots_train.json", [sequence], labels)
    save_video_annotations(tmp_path / "images" / "videos.json", [sequence], labels)
    gap = ["INPUT.NUM_CLASSES=2", "DATA.KITTI_MOTS.FRAME_GAP_LOWER=3"]
    kitti = build_training_dataset(custom_config(tmp_path / "images", "", "DATA.MIX={kitti_mots: 1.0}", *gap))
    custom = build_training_dataset(custom_config(tmp_path / "images", "videos.json", *gap))
    assert len(kitti.sources[0]) == 9 and len(custom.sources[0]) == 7


HEIGHT, WIDTH = 60, 100


def make_clip(boxes, ignore=False):
    rng = np.random.default_rng(0)
    frames = []
    for top, bottom, left, right in boxes:
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[top:bottom, left:right] = rng.random((bottom - top, right - left)) < 0.8
        mask[top, left] = mask[bottom - 1, right - 1] = 1
        image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        frames.append(AnnotatedFrame(image, pack_masks([(0, mask)], HEIGHT, WIDTH), 1 - mask if ignore else None))
    return AnnotatedClip(frames, (7,), "clip")


def test_the_copy_shows_the_instance_and_the_original_gives_way():
    clip = make_clip([(20, 40, 40, 60), (22, 42, 42, 62), (21, 40, 44, 62)], ignore=True)
    shifts, flips = set(), set()
    for seed in range(40):
        changed = duplicate_instance(clip, np.random.default_rng(seed))
        assert changed.category_ids == (7, 7)
        moves = set()
        for before, after in zip(clip.frames, changed.frames, strict=True):
            old, new, rest = before.ids.mask(0), after.ids.mask(1), after.ids.mask(0)
            assert new.sum() == old.sum()
            np.testing.assert_array_equal(rest, old & ~new & 1)
            np.testing.assert_array_equal(after.image[new == 0], before.image[new == 0])
            assert sorted(map(tuple, after.image[new > 0])) == sorted(map(tuple, before.image[old > 0]))
            np.testing.assert_array_equal(after.ignore, before.ignore & ~new & 1)
            flips.add(not np.array_equal(*(m[np.ix_(m.any(1), m.any(0))] for m in (old, new))))
            moves.add(int(np.nonzero(new)[0].min() - np.nonzero(old)[0].min()))
        assert len(moves) == 1  # the vertical shift is the same in all frames
        shifts |= moves
    assert flips == {True, False} and len(shifts) > 3


def test_shifts_stay_in_their_range():
    clip = make_clip([(20, 40, 40, 60)])
    sideways, vertical = [], []
    for seed in range(200):
        new = duplicate_instance(clip, np.random.default_rng(seed)).frames[0].ids.mask(1)
        rows, columns = np.nonzero(new)
        sideways.append(int(columns.min()) - 40)
        vertical.append(int(rows.min()) - 20)
    assert {np.sign(x) for x in sideways} == {-1, 1}
    assert np.abs(sideways).min() >= 15 and np.abs(sideways).max() <= 20 and np.abs(vertical).max() <= 5


def test_no_shift_is_larger_than_a_share_of_the_image():
    clip = make_clip([(5, 55, 31, 69)])
    for seed in range(30):
        columns = np.nonzero(duplicate_instance(clip, np.random.default_rng(seed)).frames[0].ids.mask(1))[1]
        assert abs(int(columns.min()) - 31) <= 30


def test_a_copy_that_would_leave_at_both_sides_is_skipped():
    clip = make_clip([(20, 40, 10, 90)])
    assert duplicate_instance(clip, np.random.default_rng(0)) is clip


def test_at_one_border_the_copy_goes_the_other_way():
    clip = make_clip([(20, 40, 0, 20)])
    for seed in range(10):
        assert np.nonzero(duplicate_instance(clip, np.random.default_rng(seed)).frames[0].ids.mask(1))[1].min() > 0


def test_frames_without_the_instance_stay_as_they_are():
    clip = make_clip([(20, 40, 40, 60)])
    empty = AnnotatedFrame(clip.frames[0].image, pack_masks([], HEIGHT, WIDTH))
    changed = duplicate_instance(AnnotatedClip([clip.frames[0], empty], (7,), "clip"), np.random.default_rng(0))
    np.testing.assert_array_equal(changed.frames[1].image, empty.image)
    assert not changed.frames[1].ids.foreground().any()
    assert duplicate_instance(AnnotatedClip([empty], (7,), "clip"), np.random.default_rng(0)).category_ids == (7,)
