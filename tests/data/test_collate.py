import torch

from stemseg.data.preprocessing import collate_clips
from stemseg.structures.clip import Clip, ClipTargets


def make_clip(height, width, instances, name):
    targets = ClipTargets(
        masks=torch.ones(instances, 2, height, width, dtype=torch.uint8),
        category_ids=torch.arange(1, instances + 1),
        ignore_mask=torch.ones(2, height, width, dtype=torch.uint8),
    )
    return Clip(torch.ones(2, 3, height, width), targets, name)


def test_clips_of_several_sizes_are_padded_to_the_largest():
    batch = collate_clips([make_clip(40, 70, 3, "a"), make_clip(65, 30, 0, "b")])
    assert batch.frames.shape == (2, 2, 3, 96, 96)
    assert batch.image_sizes == [(40, 70), (65, 30)] and batch.names == ["a", "b"]
    for n, (height, width) in enumerate(batch.image_sizes):
        assert (batch.frames[n, :, :, :height, :width] == 1).all() and batch.frames[n].sum() == 2 * 3 * height * width
        targets = batch.targets[n]
        assert targets.masks.shape[1:] == targets.ignore_mask.shape == (2, 96, 96)
        assert targets.masks.sum() == targets.num_instances * 2 * height * width
        assert targets.ignore_mask.sum() == 2 * height * width  # padding is background, not ignored
    assert batch.targets[0].category_ids.tolist() == [1, 2, 3] and batch.targets[1].num_instances == 0


def test_a_clip_that_fits_is_not_copied():
    clip = make_clip(32, 64, 1, "a")
    assert collate_clips([clip]).targets[0].masks is clip.targets.masks
