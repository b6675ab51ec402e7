"""Clips made of other clips: what is painted, and what the masks say is seen."""

import numpy as np
import pytest

from stemseg.config import load_config
from stemseg.data import copy_paste
from stemseg.data.annotated_frame import AnnotatedClip, AnnotatedFrame, pack_masks
from stemseg.data.copy_paste import CopyPasteClips, change_colors, film, paste
from stemseg.data.cutouts import CopyPasteRange, Cutout, cut_out, relight, rider_paths
from stemseg.data.dataset import build_training_dataset
from stemseg.utils.errors import ConfigError
from tests.helpers.square_clips import square_clip
from tests.helpers.tiny_datasets import custom_config, make_videos

RANGES = CopyPasteRange(height=24, width=40)
SHIFT = np.array([[1.0, 0.0, 6.0], [0.0, 1.0, 4.0]])


class OneClip:
    """A source that gives the same clip whatever is asked for."""

    name = "one"

    def __init__(self, clip):
        self._clip = clip

    def __len__(self):
        return 7

    def draw(self, position, rng):
        assert 0 <= position < 7
        return self._clip


def clips_of(*clips, weights=None, **changes):
    ranges = CopyPasteRange(**{"height": 24, "width": 40, "max_objects": 3, "blur_probability": 0.0, **changes})
    return CopyPasteClips(sources=[OneClip(c) for c in clips], weights=weights or [1.0] * len(clips), ranges=ranges)


def arrays_of(clip):
    return [(f.image, *f.ids.layers) for f in clip.frames]


@pytest.mark.parametrize("in_front", [True, False])
def test_pasted_masks_are_exactly_what_is_seen(in_front):
    scene = square_clip((4, 6, 8), color=10)
    red = np.zeros((6, 6, 3), np.uint8)
    red[..., 2] = 200
    cutout = Cutout([red] * 3, [np.full((6, 6), 255, np.uint8)] * 3, np.array([3.0, 3.0]), 36.0, 2, "red")
    clip = paste(scene, cutout, [SHIFT] * 3, in_front=in_front)
    assert clip.category_ids == (1, 2)
    for t, frame in enumerate(clip.frames):
        is_red = (frame.image == (0, 0, 200)).all(axis=2)
        is_white = (frame.image == 255).all(axis=2)
        np.testing.assert_array_equal(frame.ids.mask(1), is_red)
        np.testing.assert_array_equal(frame.ids.mask(0), is_white)
        overlap = scene.frames[t].ids.mask(0)[4:10, 6:12].sum()
        assert overlap > 0 and is_red.sum() == (36 if in_front else 36 - overlap)


def test_pasting_ends_ignore_regions_and_leaves_the_scene_as_it_was():
    scene = square_clip((4, 6, 8)).with_ignored_background()
    before = [frame.image.copy() for frame in scene.frames]
    clip = paste(scene, cut_out(square_clip((2, 2, 5)), 0), [2 * SHIFT - np.eye(2, 3)] * 3, in_front=True)
    for frame, old in zip(clip.frames, before, strict=True):
        assert not (frame.ignore.astype(bool) & frame.ids.foreground()).any()
        assert frame.ignore.sum() == 24 * 40 - frame.ids.foreground().sum()
        assert not np.array_equal(frame.image, old)
    for frame, old in zip(scene.frames, before, strict=True):
        np.testing.assert_array_equal(frame.image, old)


def test_an_object_out_of_sight_changes_nothing():
    scene = square_clip((4, 6, 8))
    away = np.array([[1.0, 0.0, 100.0], [0.0, 1.0, 0.0]])
    clip = paste(scene, cut_out(square_clip((2, 2, 5)), 0), [away] * 3, in_front=True)
    assert clip.category_ids == (1, 1)
    for old, new in zip(scene.frames, clip.frames, strict=True):
        assert new is old


@pytest.mark.parametrize("size", [(24, 40), (48, 64), (30, 20)])
def test_film_shows_no_place_outside_of_the_scene(size):
    rows, columns = np.indices(size)
    image = np.stack([rows * 4, columns * 3, np.full(size, 200)], axis=2).astype(np.uint8)
    mask = (columns > size[1] // 2).astype(np.uint8)
    clip = AnnotatedClip(
        [AnnotatedFrame(image, pack_masks([(0, mask)], *size), mask, np.ones(size, np.uint8))] * 4, (1,), "ramp"
    )
    for seed in range(5):
        filmed = film(clip, RANGES, np.random.default_rng(seed))
        for frame in filmed.frames:
            assert frame.image.shape == (24, 40, 3) and (frame.image[..., 2] == 200).all() and frame.valid.all()
            assert (frame.ids.height, frame.ids.width) == (24, 40) and frame.ids.mask(0).shape == (24, 40)
            np.testing.assert_array_equal(frame.ids.mask(0), frame.ignore)
            # the mask goes with the picture: the columns' ramp tells where each pixel comes from
            is_right = frame.image[..., 1] / 3 > size[1] // 2 + 0.5
            assert (is_right != frame.ids.mask(0)).mean() < 0.1


def test_light_stays_within_limits_and_keeps_masks():
    clip = square_clip((4, 6, 8), color=120)
    ranges = CopyPasteRange(height=24, width=40, light=0.0, blur_probability=0.0)
    changed = change_colors(clip, ranges, np.random.default_rng(1))
    for old, new in zip(clip.frames, changed.frames, strict=True):
        assert new.ids is old.ids
        assert np.abs(new.image[0, 0].astype(int) - 120).max() <= 3  # contrast turns around the middle gray
    cutout = cut_out(clip, 0)
    lit = relight(cutout, clip, ranges, np.random.default_rng(2))
    assert lit.alphas is cutout.alphas and lit.images[0].shape == cutout.images[0].shape


def test_a_part_behind_the_scene_is_behind_its_own_instance_too():
    scene = square_clip((4, 6, 8), color=10)
    part = cut_out(square_clip((2, 2, 5), color=10), 0)._replace(category_id=2)
    part.images[:] = [np.full_like(image, 200) for image in part.images]
    clip = paste(scene, part, [SHIFT] * 3, in_front=False, as_part=True)
    assert clip.category_ids == (1,)
    for old, frame in zip(scene.frames, clip.frames, strict=True):
        np.testing.assert_array_equal(frame.image[old.ids.mask(0) > 0], 255)
        np.testing.assert_array_equal(frame.ids.mask(0) > 0, (frame.image > 130).all(axis=2))


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_a_pair_is_one_instance_as_often_as_asked(monkeypatch, probability):
    pairs = []
    monkeypatch.setattr(copy_paste, "rider_paths", lambda *a: pairs.append(rider_paths(*a)) or pairs[-1])
    clips = clips_of(square_clip((4, 6, 8)), max_objects=1, pair_probability=probability)
    counts = [len(clips.draw(0, np.random.default_rng(seed)).category_ids) for seed in range(40)]
    assert set(counts) == {1, 2}  # the scene's square, and perhaps one more
    assert abs(len(pairs) / counts.count(2) - probability) < 0.25
    assert (len(pairs) == counts.count(2)) == (probability == 1.0)


def test_a_clip_is_a_function_of_the_generator_alone():
    squares = square_clip((4, 6, 8)), square_clip((2, 2, 9), color=90, category=2)
    clips = clips_of(*squares, blur_probability=0.5, pair_probability=0.5)
    names, counts = set(), set()
    for seed in range(12):
        first, again = (clips.draw(0, np.random.default_rng(seed)) for _ in range(2))
        other_position = clips.draw(3, np.random.default_rng(seed))
        for other in (again, other_position):
            for a, b in zip(arrays_of(first), arrays_of(other), strict=True):
                for x, y in zip(a, b, strict=True):
                    np.testing.assert_array_equal(x, y)
        names.add(first.name)
        counts.add(len(first.category_ids))
    assert names == {"copy_paste/squares"} and counts == {1, 2, 3, 4}
    assert len(clips) == 14


def test_sources_are_drawn_by_their_weights():
    clips = clips_of(square_clip((4, 6, 8)), square_clip((2, 2, 9), category=2), weights=[0.0, 2.0], max_objects=0)
    assert {clips.draw(0, np.random.default_rng(i)).category_ids for i in range(10)} == {(2,)}


def test_small_and_vanishing_objects_are_not_cut_out():
    empty = square_clip()
    tiny = square_clip((4, 6, 1))
    for donor in (empty, tiny):
        clip = clips_of(donor).draw(0, np.random.default_rng(3))
        assert len(clip.category_ids) == len(donor.category_ids)


def test_dataset_from_a_configuration(tmp_path):
    make_videos(tmp_path, lengths=(8, 9))
    overrides = [
        "DATA.MIX={copy_paste: 1.0}", "DATA.COPY_PASTE.SOURCES={custom: 1.0}", "DATA.COPY_PASTE.HEIGHT=24",
        "DATA.COPY_PASTE.WIDTH=32", "INPUT.MIN_DIM=24", "INPUT.MAX_DIM=32",
    ]  # fmt: skip
    dataset = build_training_dataset(custom_config(tmp_path, "videos.json", *overrides))
    clip, again = dataset[1].unpack(), dataset[1].unpack()
    assert clip.frames.shape[-2:] == (24, 32) and clip.name.startswith("copy_paste/custom/seq")
    assert clip.frames.equal(again.frames) and clip.targets.masks.equal(again.targets.masks)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("DATA.COPY_PASTE.SOURCES={cocoo: 1.0}", "dataset 'cocoo' is unknown; expected one of davis"),
        ("DATA.COPY_PASTE.SOURCES={davis: 0.0}", "at least one dataset with a weight above 0"),
        ("DATA.COPY_PASTE.ZOOM=[0.5, 1.0]", "expected 2 numbers from 1 to 100"),
        ("DATA.COPY_PASTE.OBJECT_SIZE=[0.5]", "OBJECT_SIZE' is"),
        ("DATA.COPY_PASTE.MAX_OBJECTS=-1", "MAX_OBJECTS' is -1, expected a number from 0"),
    ],
)
def test_impossible_values_are_refused(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(None, ["DATA.MIX={copy_paste: 1.0}", override])
