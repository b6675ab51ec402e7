"""Pictures of masks: colors, overlays, contact sheets, videos. Images are B G R uint8 [H, W, 3], as in OpenCV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from stemseg.utils.errors import DataError


def instance_palette(size: int = 256) -> np.ndarray:
    """The color of each id, [size, 3] uint8 in R G B order, as PASCAL VOC and DAVIS spread the bits of an id."""
    ids = np.arange(size)
    palette = np.zeros((size, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((ids >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return palette


def draw_instances(
    image: np.ndarray,
    masks: Mapping[int, np.ndarray],
    captions: Mapping[int, str] | None = None,
    *,
    opacity: float = 0.5,
) -> np.ndarray:
    """Paint masks over an image, each in its id's color with an outline, and write captions at the masks' centers.

    Args:
        image: [H, W, 3] uint8, B G R.
        masks: binary mask [H, W] of each id, ids from 1; later ones are painted over earlier ones.
        captions: text for each id; ids without one stay unlabeled.
        opacity: of the paint, 0 to 1.

    Returns:
        a new image, [H, W, 3] uint8.
    """
    canvas = image.copy()
    palette = instance_palette()[:, ::-1].tolist()
    centers = {}
    for instance_id, mask in masks.items():
        inside = np.ascontiguousarray(np.asarray(mask) != 0, dtype=np.uint8)
        left, top, width, height = cv2.boundingRect(inside)
        if width:
            box = (slice(top, top + height), slice(left, left + width))
            _paint(canvas[box], inside[box], palette[1 + (instance_id - 1) % 254], opacity)
            x, y = _center(inside[box])
            centers[instance_id] = (left + x, top + y)
    for instance_id, text in (captions or {}).items():
        if instance_id in centers:
            draw_text(canvas, text, centers[instance_id], centered=True)
    return canvas


def _paint(canvas: np.ndarray, inside: np.ndarray, color: Sequence[int], opacity: float) -> None:
    paint = np.empty_like(canvas)
    paint[:] = color
    cv2.copyTo(cv2.addWeighted(canvas, 1 - opacity, paint, opacity, 0), inside, canvas)
    outline, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for points in outline:
        canvas[points[:, 0, 1], points[:, 0, 0]] = color


def _center(inside: np.ndarray) -> tuple[int, int]:
    """Mean x and y of the set pixels."""
    moments = cv2.moments(inside, binaryImage=True)
    return int(moments["m10"] / moments["m00"]), int(moments["m01"] / moments["m00"])


def draw_text(canvas: np.ndarray, text: str, position: tuple[int, int], *, centered: bool = False) -> None:
    """Write white text with a dark rim into ``canvas`` at (x, y) of its baseline's start, or of its center."""
    scale = max(0.35, min(canvas.shape[:2]) / 900)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    x, y = position
    if centered:
        x, y = x - width // 2, y + height // 2
    x = int(np.clip(x, 0, max(0, canvas.shape[1] - width)))
    y = int(np.clip(y, height, canvas.shape[0] - 1))
    # the rim is the text shifted all around: OpenCV 5 makes thicker letters wider, so a thick copy would not lie behind
    for dx, dy in [(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1) if dx or dy]:
        cv2.putText(canvas, text, (x + dx, y + dy), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)


def tile(images: Sequence[np.ndarray], columns: int, *, gap: int = 4) -> np.ndarray:
    """A contact sheet of equally sized images, row by row with white gaps."""
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write an image, making its folder.

    Raises:
        DataError: where the file could not be written.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image):
        raise DataError(f"could not write the image {path}; is the disk full or the folder read-only?")


class VideoWriter:
    """An .mp4 file that takes frames one by one; use it as a context manager. The first frame sets the size."""

    def __init__(self, path: str | Path, *, fps: float = 10.0) -> None:
        self._path = Path(path)
        self._fps = fps
        self._writer: cv2.VideoWriter | None = None

    def write(self, frame: np.ndarray) -> None:
        """Append one frame, [H, W, 3] uint8, B G R."""
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            size = (frame.shape[1], frame.shape[0])
            self._writer = cv2.VideoWriter(str(self._path), cv2.VideoWriter_fourcc(*"mp4v"), self._fps, size)
            if not self._writer.isOpened():
                raise DataError(f"could not open {self._path} for writing; does this OpenCV build write mp4?")
        self._writer.write(np.ascontiguousarray(frame))

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
