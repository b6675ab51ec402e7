import dataclasses

import cv2
import numpy as np
import pytest

from stemseg.data.augmentation import AugmentationRange, FrameAugmenter
from stemseg.data.categories import CategoryRule
from stemseg.data.sources import OpenedStills
from stemseg.data.still_clips import StillClips
from stemseg.structures.annotations import StillAnnotations
from stemseg.structures.rle import decode_rle, encode_rle
from stemseg.utils.errors import DataError
from tests.helpers.tiny_datasets import LABELS, make_stills

RULE = CategoryRule(targets={1: 1, 2: 2, 3: 3}, known=frozenset(LABELS))


def make_clips(folder, images, rule=RULE):
    return StillClips(
        name="tiny",
        stills=OpenedStills(StillAnnotations(folder / "stills.json", LABELS, list(images)), folder),
        rule=rule,
        num_frames=5,
        augmenter=FrameAugmenter(AugmentationRange(perspective=0.08, translation=0.1, rotation=10)),
    )


def decoded(image, counts):
    return decode_rle(counts, image.height, image.width)


def test_one_frame_is_the_still_itself_at_any_place(tmp_path):
    images = make_stills(tmp_path)
    clips = make_clips(tmp_path, images)
    places = set()
    for seed in range(25):
        clip = clips.draw(1, np.random.default_rng(seed))
        assert len(clip.frames) == 5 and clip.category_ids == (1, 2, 3) and clip.name == "tiny/1.png"
        unwarped = [t for t, frame in enumerate(clip.frames) if frame.valid is None]
        assert len(unwarped) == 1
        places.add(unwarped[0])
        frame = clip.frames[unwarped[0]]
        np.testing.assert_array_equal(frame.image, cv2.imread(str(tmp_path / "1.png")))
        for number, counts in enumerate(images[1].segmentations):
            np.testing.assert_array_equal(frame.ids.mask(number), decoded(images[1], counts))
        np.testing.assert_array_equal(frame.ignore, decoded(images[1], images[1].ignore))
    assert places == set(range(5))


def test_images_without_trained_instances_are_left_out(tmp_path):
    first, second, third = make_stills(tmp_path)
    empty = encode_rle(np.zeros((20, 32)))
    images = [first, dataclasses.replace(second, categories=[], segmentations=[]),
              dataclasses.replace(third, segmentations=[empty] * 3)]  # fmt: skip
    clips = make_clips(tmp_path, images)
    assert len(clips) == 1 and clips.draw(0, np.random.default_rng(0)).name == "tiny/0.png"
    with pytest.raises(DataError, match=r"stills.json: none of its 2 images shows an instance"):
        make_clips(tmp_path, images[1:])


def test_small_surplus_and_ignored_instances_become_an_ignore_region(tmp_path):
    image = make_stills(tmp_path, 1)[0]
    boxes = [(2, 2), (6, 6), (5, 5), (4, 4), (3, 3)]
    masks = [np.zeros((20, 32), np.uint8) for _ in boxes]
    for i, (mask, (height, width)) in enumerate(zip(masks, boxes, strict=True)):
        mask[i : i + height, 6 * i : 6 * i + width] = 1
    image = dataclasses.replace(
        image, categories=[1, 1, 1, 1, 2], segmentations=[encode_rle(m) for m in masks], ignore=None
    )
    limits = CategoryRule({1: 4}, frozenset(LABELS), ignored=frozenset({2}), min_instance_area=5, max_instances=2)
    clips = make_clips(tmp_path, [image], limits)
    frame = clips.load(0)
    np.testing.assert_array_equal(frame.ids.mask(0), masks[1])
    np.testing.assert_array_equal(frame.ids.mask(1), masks[2])
    np.testing.assert_array_equal(frame.ignore, masks[0] | masks[3] | masks[4])  # too small, surplus, ignored
    assert clips.draw(0, np.random.default_rng(0)).category_ids == (4, 4)


def test_damage_is_named(tmp_path):
    image = make_stills(tmp_path, 1)[0]
    wrong = dataclasses.replace(image, ignore=encode_rle(np.ones((3, 3))))
    with pytest.raises(DataError, match=r"stills.json: image '0.png', ignore region: .* 9 pixels"):
        make_clips(tmp_path, [wrong]).load(0)
    wrong = dataclasses.replace(image, segmentations=[encode_rle(np.ones((3, 3)))] * 3)
    with pytest.raises(DataError, match=r"image '0.png', instance 0: .* 9 pixels, expected 20 x 32"):
        make_clips(tmp_path, [wrong]).load(0)
    with pytest.raises(DataError, match=r"image '0.png', instance 1: category 8 is not in"):
        make_clips(tmp_path, [dataclasses.replace(image, categories=[1, 8, 2])])
    (tmp_path / "0.png").unlink()
    with pytest.raises(DataError, match=r"image '0.png': cannot read the image: .*0.png"):
        make_clips(tmp_path, [image]).load(0)
