import numpy as np

from stemseg.data.annotated_frame import pack_masks
from tests.helpers.tiny_datasets import random_masks


def test_packing_loses_no_pixel_of_overlapping_instances():
    rng = np.random.default_rng(0)
    for count in (0, 1, 2, 7, 20):
        masks = random_masks(rng, count, 17, 23)
        packed = pack_masks(enumerate(masks), 17, 23)
        for number, mask in enumerate(masks):
            np.testing.assert_array_equal(packed.mask(number), mask)
        np.testing.assert_array_equal(packed.foreground(), np.any([*masks, np.zeros((17, 23))], axis=0))


def test_column_ordered_masks_as_decoded_from_rle():
    mask = np.asfortranarray(random_masks(np.random.default_rng(1), 1, 9, 14)[0])
    np.testing.assert_array_equal(pack_masks([(4, mask)], 9, 14).mask(4), mask)


def test_disjoint_instances_share_a_layer_and_overlapping_ones_do_not():
    left, right = np.zeros((4, 8), np.uint8), np.zeros((4, 8), np.uint8)
    left[:, :4], right[:, 4:] = 1, 1
    assert len(pack_masks([(0, left), (1, right)], 4, 8).layers) == 1
    right[:, 3] = 1
    assert len(pack_masks([(0, left), (1, right)], 4, 8).layers) == 2


def test_more_instances_than_a_byte_holds():
    masks = [np.zeros((20, 20), np.uint8) for _ in range(300)]
    for i, mask in enumerate(masks):
        mask.flat[i] = 1
    packed = pack_masks(enumerate(masks), 20, 20)
    assert len(packed.layers) == 2
    assert all((packed.mask(i) == masks[i]).all() for i in range(300))


def test_empty_and_absent_instances_have_empty_masks():
    packed = pack_masks([(0, np.zeros((3, 5), np.uint8))], 3, 5)
    assert packed.places == {} and not packed.mask(0).any() and packed.mask(7).shape == (3, 5)


def test_transformed_moves_every_layer():
    masks = random_masks(np.random.default_rng(2), 5, 12, 15)
    mirrored = pack_masks(enumerate(masks), 12, 15).transformed(lambda layer: layer[:, ::-1])
    for number, mask in enumerate(masks):
        np.testing.assert_array_equal(mirrored.mask(number), mask[:, ::-1])
