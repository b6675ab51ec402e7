"""Images from files, and masks decoded, boxed and resized."""

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from stemseg.data.images import decode_mask, mask_box, read_image, resize_ids, resize_planes
from stemseg.structures.rle import encode_rle
from stemseg.utils.errors import DataError
from tests.helpers.paths import GOLDEN_DIR


@pytest.fixture
def image():
    coarse = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    return cv2.resize(coarse, (96, 64), interpolation=cv2.INTER_CUBIC)


def test_pixels_come_back_as_stored(tmp_path, image):
    cv2.imwrite(str(tmp_path / "a.png"), image)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", expected_size=(64, 96)), image)


def test_gray_images_have_three_channels(tmp_path, image):
    cv2.imwrite(str(tmp_path / "a.png"), image[..., 0])
    assert read_image(tmp_path / "a.png").shape == (64, 96, 3)


def test_a_missing_image_names_who_wants_it(tmp_path):
    with pytest.raises(DataError, match=r"sequence 'bear', frame 3: cannot read the image: .*a.jpg does not exist"):
        read_image(tmp_path / "a.jpg", "sequence 'bear', frame 3")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_cut_off_jpeg_is_an_error(tmp_path, image, share):
    content = cv2.imencode(".jpg", image)[1].tobytes()
    (tmp_path / "a.jpg").write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"a.jpg \(\d+ bytes\) is not an image that can be decoded"):
        read_image(tmp_path / "a.jpg")


def test_bytes_behind_the_end_of_a_jpeg_do_no_harm(tmp_path, image):
    (tmp_path / "a.jpg").write_bytes(cv2.imencode(".jpg", image)[1].tobytes() + b"camera")
    assert read_image(tmp_path / "a.jpg").shape == (64, 96, 3)


def test_another_size_than_annotated_is_an_error(tmp_path, image):
    cv2.imwrite(str(tmp_path / "a.png"), image)
    with pytest.raises(DataError, match=r"frame 0: .*a.png is 64 x 96 pixels .* annotation says 480 x 854"):
        read_image(tmp_path / "a.png", "frame 0", expected_size=(480, 854))


GOLDEN = GOLDEN_DIR / "preprocessing.npz"


def resized(ids, size):
    output = np.full(size, 99, dtype=np.uint8)
    resize_ids(ids, output)
    return output


@pytest.mark.parametrize("size", [(60, 107), (23, 40), (90, 160)])
def test_masks_are_resized_as_published(size):
    golden = np.load(GOLDEN)
    np.testing.assert_array_equal(resized(golden["mask"], size), golden[f"mask_resized_{size[0]}x{size[1]}"])


def test_resizing_ids_equals_interpolating_each_mask():
    rng = np.random.default_rng(0)
    for _ in range(100):
        height, width = (int(x) for x in rng.integers(1, 60, size=2))
        size = tuple(int(x) for x in rng.integers(1, 90, size=2))
        blocks = rng.integers(0, 5, (-(-height // 4), -(-width // 4)), dtype=np.uint8)
        ids = np.ascontiguousarray(blocks.repeat(4, axis=0).repeat(4, axis=1)[:height, :width])
        ids[: rng.integers(height)] = 0  # ids in a part of the image alone
        ids[:, rng.integers(width) + 1 :] = 0
        output = resized(ids, size)
        for value in range(1, 5):
            mask = torch.from_numpy(ids == value)[None, None].double()
            exact = functional.interpolate(mask, size, mode="bilinear")[0, 0].numpy()
            differs = (output == value) != (exact > 0.5)
            assert np.abs(exact[differs] - 0.5).max(initial=0) < 1e-4  # ties may round either way
        assert output.max() < 5


def test_no_id_has_more_than_half_of_a_pixel_between_four():
    ids = np.array([[1, 2], [3, 4]], dtype=np.uint8)
    assert resized(ids, (1, 1)) == 0
    assert (resized(ids, (4, 4))[1:3, 1:3] == ids).all()  # 9/16 each


def test_ids_between_the_pixels_that_are_mixed_vanish():
    ids = np.zeros((40, 40), dtype=np.uint8)
    ids[1, 1] = 1
    assert not resized(ids, (4, 4)).any()


def test_planes_are_resized_as_by_opencv():
    rng = np.random.default_rng(0)
    for size in ((37, 90), (11, 20), (23, 41)):
        planes = (rng.random((2, 3, 23, 41)) * 255).astype(np.float32)
        expected = [[cv2.resize(plane, size[::-1]) for plane in frame] for frame in planes]
        np.testing.assert_allclose(resize_planes(torch.from_numpy(planes), *size), expected, atol=1e-4)


def test_box_is_tight_for_row_and_column_order():
    mask = np.zeros((8, 11), dtype=np.uint8)
    mask[2:5, 7:9] = 1
    expected = (slice(2, 5), slice(7, 9))
    assert mask_box(mask) == expected and mask_box(np.asfortranarray(mask)) == expected
    assert mask_box(np.zeros((3, 3), dtype=np.uint8)) is None


def test_a_mask_of_another_size_names_its_place():
    counts = encode_rle(np.ones((4, 5), dtype=np.uint8))
    with pytest.raises(DataError, match=r"sequence 'a', frame 3.*20 pixels, expected 4 x 6"):
        decode_mask(counts, (4, 6), "sequence 'a', frame 3")


def test_a_jpeg_cut_off_behind_its_thumbnail_is_refused(tmp_path):
    """The thumbnail in its header is a whole JPEG with an end of its own."""
    image = np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    whole = cv2.imencode(".jpg", image)[1].tobytes()
    thumbnail = cv2.imencode(".jpg", image[:40, :60])[1].tobytes()
    header = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    content = whole[:2] + header + whole[2:]
    (tmp_path / "whole.jpg").write_bytes(content)
    assert read_image(tmp_path / "whole.jpg").shape == (200, 300, 3)
    for length in (len(header) + 700, len(content) // 2, len(content) - 2):
        (tmp_path / "cut.jpg").write_bytes(content[:length])
        with pytest.raises(DataError, match="damaged or cut off"):
            read_image(tmp_path / "cut.jpg")
