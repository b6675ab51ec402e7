"""Reading image files. Images are B G R uint8 [H, W, 3], as OpenCV gives them, everywhere until normalisation."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from stemseg.utils.errors import DataError


def read_image(path: str | Path, where: str = "", *, expected_size: tuple[int, int] | None = None) -> np.ndarray:
    """Read an image file.

    Args:
        path: of a file in any format that OpenCV reads; grey images come back with three equal channels.
        where: who asks ("sequence 'bear', frame 3"), for the error message.
        expected_size: (height, width) that the annotations give; another size is an error.

    Returns:
        [H, W, 3] uint8, B G R.

    Raises:
        DataError: where the file is missing, is not an image, is damaged, or has another size than annotated.
    """
    prefix = f"{where}: " if where else ""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(
            f"{prefix}cannot read the image {path} ({error.strerror or error}); check that the dataset is complete and "
            "that its folder is the one the annotations were made for"
        ) from error
    image = _decode(content)
    if image is None:
        raise DataError(
            f"{prefix}{path} ({len(content)} bytes) is not an image that can be decoded; it is damaged or cut off: "
            "download or extract it again"
        )
    if expected_size is not None and image.shape[:2] != tuple(expected_size):
        raise DataError(
            f"{prefix}{path} is {image.shape[0]} x {image.shape[1]} pixels (height x width), but its annotation says "
            f"{expected_size[0]} x {expected_size[1]}; images and annotation file do not belong together"
        )
    return image


def _decode(content: bytes) -> np.ndarray | None:
    """The decoded image; None where the bytes are no image, or a JPEG that ends early (OpenCV 4 fills it with grey)."""
    is_jpeg, end_marker = content[:2] == b"\xff\xd8", content.rfind(b"\xff\xd9")
    if is_jpeg and end_marker < len(content) // 2:  # some cameras write a few bytes behind the end
        return None
    try:
        # orientation tags are ignored: annotations are made on the stored pixels
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        return cv2.imdecode(np.frombuffer(content, dtype=np.uint8), flags)
    except cv2.error:
        return None
