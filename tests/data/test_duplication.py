import numpy as np

from stemseg.data.annotated_frame import AnnotatedClip, AnnotatedFrame, pack_masks
from stemseg.data.video_clips import duplicate_instance

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
