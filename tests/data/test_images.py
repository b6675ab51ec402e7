import cv2
import numpy as np
import pytest

from stemseg.data.images import read_image
from stemseg.utils.errors import DataError


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
    with pytest.raises(DataError, match=r"sequence 'bear', frame 3: cannot read the image .*a.jpg \(No such file"):
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
